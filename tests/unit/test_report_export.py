"""Results for other tools, read back: Perfetto traces, lines of iblinkinfo, Prometheus text."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from report_results import large_result, small_result

import fabricsim
from fabricsim.analysis.collectives import bus_factor
from fabricsim.cli import main
from fabricsim.errors import ConfigError
from fabricsim.report import iblinkinfo, prometheus, write_perfetto
from fabricsim.workload.rows import Rows

BEGIN, END, COUNTER = 1, 2, 4


@pytest.fixture(scope="module")
def result():
    return small_result()


class Perfetto:
    """A trace as its viewer reads it: names from the interned ones, slices from begins and ends."""

    def __init__(self, path):
        protocol = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
        self.trace = protocol.Trace()
        self.trace.ParseFromString(path.read_bytes())
        self.names, self.arguments, self.kinds = {}, {}, {}
        self.tracks, self.slices, self.values = {}, [], {}
        open_slices = {}
        for packet in self.trace.packet:
            data = packet.interned_data
            self.names |= {entry.iid: entry.name for entry in data.event_names}
            self.kinds |= {entry.iid: entry.name for entry in data.event_categories}
            self.arguments |= {entry.iid: entry.name for entry in data.debug_annotation_names}
            if packet.HasField("track_descriptor"):
                self.tracks[packet.track_descriptor.uuid] = packet.track_descriptor
            if not packet.HasField("track_event"):
                continue
            event = packet.track_event
            if event.type == COUNTER:
                self.values.setdefault(event.track_uuid, []).append(
                    (packet.timestamp, event.double_counter_value)
                )
            elif event.type == BEGIN:
                assert event.track_uuid not in open_slices, "slices of a track do not overlap"
                open_slices[event.track_uuid] = {
                    "name": self.names[event.name_iid],
                    "kind": self.kinds[event.category_iids[0]],
                    "rank": self.tracks[self.tracks[event.track_uuid].parent_uuid].process.pid - 1,
                    "track": self.tracks[event.track_uuid].name,
                    "begin": packet.timestamp,
                    "out": list(event.flow_ids),
                    **{self.arguments[one.name_iid]: one.int_value for one in event.debug_annotations},
                }
            else:
                done = open_slices.pop(event.track_uuid)
                self.slices.append(done | {"end": packet.timestamp, "into": list(event.terminating_flow_ids)})
        assert not open_slices


def test_every_operation_is_a_slice(result, tmp_path):
    told = write_perfetto(result, tmp_path / "r.pftrace")
    found = Perfetto(tmp_path / "r.pftrace")
    ops = result.ops.to_pylist()
    assert told.slices == len(found.slices) == len(ops)
    assert told.ranks == told.of_ranks == 8
    slices = {(one["id"], one["rank"]): one for one in found.slices}
    for row in ops:
        one = slices[row["id"], row["rank"]]
        assert one["kind"] == row["kind"] and one["name"] == (row["name"] or row["kind"])
        assert (one["begin"], one["end"]) == (row["start_ps"] // 1000, row["end_ps"] // 1000)
        assert (one["start_ps"], one["duration_ps"]) == (row["start_ps"], row["end_ps"] - row["start_ps"])
        assert one.get("bytes", 0) == row["bytes"]
        assert one.get("step") == row["step"]
        assert one["track"] == f"stream {row['stream']}"
    processes = [one.process.process_name for one in found.tracks.values() if one.HasField("process")]
    assert processes == [f"rank {rank} on host{rank}" for rank in range(8)]


def test_arrows_lead_from_sends_to_the_ends_of_their_receives(result, tmp_path):
    told = write_perfetto(result, tmp_path / "r.pftrace")
    slices = Perfetto(tmp_path / "r.pftrace").slices
    out = {number: one for one in slices for number in one["out"]}
    into = {number: one for one in slices for number in one["into"]}
    assert told.arrows == len(out) == len(into) == 4
    for number, send in out.items():
        receive = into[number]
        assert (send["kind"], receive["kind"]) == ("send", "recv")
        assert receive["rank"] == send["rank"] + 4 and receive["step"] == send["step"]
        assert receive["end"] >= send["begin"]


def test_counters_carry_every_byte_of_the_links(result, tmp_path):
    told = write_perfetto(result, tmp_path / "r.pftrace")
    found = Perfetto(tmp_path / "r.pftrace")
    links = {row["link"]: row for row in result.links.to_pylist()}
    tracks = {uuid: track for uuid, track in found.tracks.items() if track.HasField("counter")}
    assert told.counters == len(tracks) == 32
    for uuid, track in tracks.items():
        assert track.counter.unit_name == "%"
        values = found.values[uuid]
        times, percent = np.array(values).T
        assert (np.diff(times) > 0).all() and percent[-1] == 0 and percent.max() <= 100
        carried = (np.diff(times) * percent[:-1]).sum() / 100 * links[track.name]["rate_mbps"] / 8e3
        assert carried == pytest.approx(links[track.name]["bytes"], rel=1e-2)


def test_ranks_can_be_chosen_and_many_are_thinned_out(result, tmp_path):
    assert write_perfetto(result, tmp_path / "r.pftrace", ranks=[5, 1]).ranks == 2
    found = Perfetto(tmp_path / "r.pftrace")
    assert Counter(one["rank"] for one in found.slices).keys() == {1, 5}
    with pytest.raises(ConfigError, match="found 8, allowed: 0 to 7"):
        write_perfetto(result, tmp_path / "r.pftrace", ranks=[8])
    told = write_perfetto(large_result(ranks=700, each=1000), tmp_path / "r.pftrace", ranks=range(3))
    assert (told.ranks, told.of_ranks, told.slices) == (3, 700, 3000)


def test_operations_without_a_stream_that_overlap_have_lanes(tmp_path):
    rows = Rows()
    for time in (30, 10, 20):
        rows.add("compute", [0], duration_ps=time * 1000)
    rows.add("compute", [0], duration_ps=1000, after=[1])
    made = fabricsim.replay(rows.trace(), "demo-64-400g-roce")
    write_perfetto(made, tmp_path / "r.pftrace")
    slices = Perfetto(tmp_path / "r.pftrace").slices
    assert sorted(one["duration_ps"] for one in slices) == [1000, 10_000, 20_000, 30_000]
    assert {one["track"] for one in slices} == {"operations", "operations (2)", "operations (3)"}


def test_the_same_result_gives_the_same_trace(result, tmp_path):
    for name in "ab":
        write_perfetto(result, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# ---- iblinkinfo

LINE = re.compile(
    r'0x(?P<guid>[0-9a-f]{16}) "(?P<name>.{30,})" +(?P<lid>\d+) +(?P<port>\d+)\[  \] =='
    r"\( *(?P<width>\dX) +(?P<speed>[\d.]+ Gbps) (?P<state>Active)/  (?P<phys>LinkUp)\)==>"
    r'  0x(?P<to_guid>[0-9a-f]{16}) +(?P<to_lid>\d+) +(?P<to_port>\d+)\[  \] "(?P<to>[^"]+)" \((?P<told>.*)\)'
)


def test_lines_of_iblinkinfo_tell_every_link(result):
    found = [LINE.fullmatch(line) for line in iblinkinfo(result)]
    assert all(found) and len(found) == result.links.num_rows
    links = {(row["src"], row["dst"]): row for row in result.links.to_pylist()}
    ends = {}
    for match in found:
        link = links[match["name"].strip(), match["to"]]
        assert (match["width"], match["speed"]) == ("4X", "106.25 Gbps")
        assert f"in use {100 * link['utilisation']:.1f} %" in match["told"]
        ends[match["guid"], match["port"]] = (match["to_guid"], match["to_port"])
    assert len(ends) == len(found), "a port has one line"
    assert all(ends[there] == here for here, there in ends.items()), "both ends tell of each other"


def test_rates_that_infiniband_has_not_are_of_one_lane():
    trace = fabricsim.workload.collective("all_reduce", size_bytes=1 << 16, n_ranks=8)
    lines = list(iblinkinfo(fabricsim.replay(trace, "mi300x-8")))
    assert any(re.search(r"\( 1X +2688 Gbps", line) for line in lines), lines[:3]


# ---- Prometheus


def samples(lines):
    parser = pytest.importorskip("prometheus_client.parser")
    families = list(parser.text_string_to_metric_families("\n".join(lines) + "\n"))
    assert {family.type for family in families} == {"gauge"} and all(
        family.documentation for family in families
    )
    return [sample for family in families for sample in family.samples]


def test_metrics_have_the_names_and_labels_of_nccl_inspector(result):
    found = samples(prometheus(result))
    assert {one.name for one in found} == {
        "nccl_bus_bandwidth_gbs",
        "nccl_collective_exec_time_microseconds",
        "nccl_p2p_bus_bandwidth_gbs",
        "nccl_p2p_exec_time_microseconds",
    }
    both = {
        "version",
        "slurm_job_id",
        "node",
        "gpu",
        "comm_name",
        "n_nodes",
        "nranks",
        "message_size",
        "source",
    }
    for one in found:
        single = "p2p" in one.name
        assert set(one.labels) == both | ({"p2p_operation"} if single else {"collective", "algo_proto"})
        assert one.labels["source"] == "fabricsim"
    assert {one.labels["collective"] for one in found if "p2p" not in one.name} == {"AllReduce", "AllGather"}


def test_metrics_are_means_over_the_operations_of_a_rank(result):
    found = {
        (one.name, one.labels["node"]): one.value
        for one in samples(prometheus(result))
        if one.labels.get("collective") == "AllReduce"
    }
    ops = [row for row in result.ops.to_pylist() if row["kind"] == "all_reduce" and row["rank"] == 3]
    times = [(row["end_ps"] - row["start_ps"]) / 1e6 for row in ops]
    assert found["nccl_collective_exec_time_microseconds", "host3"] == pytest.approx(np.mean(times), rel=1e-5)
    bandwidth = [(1 << 20) / time / 1e3 * bus_factor("all_reduce", 8) for time in times]
    assert found["nccl_bus_bandwidth_gbs", "host3"] == pytest.approx(
        np.exp(np.mean(np.log(bandwidth))), rel=1e-5
    )


def test_nodes_of_a_group_are_counted():
    rows = Rows()
    rows.add("all_reduce", range(16), bytes=3000, group_size=8)
    rows.add("all_gather", range(16), bytes=1 << 21)
    rows.add("send", [0], peer=[1], bytes=1500)
    rows.add("recv", [1], peer=[0], bytes=1500)
    made = fabricsim.replay(rows.trace(), "dgx-h100")
    one, other = (
        {
            (
                label.get("collective") or label["p2p_operation"],
                label["n_nodes"],
                label["nranks"],
                label["message_size"],
            )
            for label in (each.labels for each in samples(prometheus(made, ranks)))
        }
        for ranks in (None, [0, 9])
    )
    assert one == {
        ("AllReduce", "1", "8", "2-3KB"),
        ("AllGather", "2", "16", "2-3MB"),
        ("Send", "1", "2", "1-2KB"),
        ("Recv", "1", "2", "1-2KB"),
    }
    assert other == {entry for entry in one if entry[0] != "Recv"}


# ---- the command


def test_the_command_writes_what_it_is_told(result, tmp_path, capsys):
    result.save(tmp_path / "r")
    paths = {name: str(tmp_path / f"out.{name}") for name in ("perfetto", "iblinkinfo", "prometheus")}
    options = [text for name, path in paths.items() for text in (f"--{name}", path)]
    assert main(["export", str(tmp_path / "r"), *options, "--ranks", "0-3,5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["perfetto"]["ranks"] == 5
    assert told["iblinkinfo"]["lines"] == len((tmp_path / "out.iblinkinfo").read_text().splitlines())
    assert main(["export", str(tmp_path / "r"), "--prometheus", "-"]) == 0
    assert capsys.readouterr().out.startswith("# HELP nccl_bus_bandwidth_gbs")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name one of --perfetto, --iblinkinfo, --prometheus"),
        (["--perfetto", "-"], "--perfetto: found -, allowed: a file"),
        (["--iblinkinfo", "-", "--prometheus", "-"], "only one thing"),
        (["--iblinkinfo", "-", "--json"], "only one thing"),
        (["--prometheus", "-", "--ranks", "x,3-1"], "found '3-1', allowed: ranks and ranges"),
        (["--prometheus", "-", "--ranks", "3,99"], "found 99, allowed: 0 to 7"),
    ],
)
def test_the_command_says_what_is_wrong(result, tmp_path, capsys, options, message):
    result.save(tmp_path / "r")
    assert main(["export", str(tmp_path / "r"), *options]) == 2
    assert message in capsys.readouterr().err
