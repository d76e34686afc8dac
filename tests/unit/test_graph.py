"""A user's own collective: read, verified, run in place of the operation, folded back to it."""

import copy
import json

import numpy as np
import pytest

import fabricsim
from fabricsim.cli import main
from fabricsim.collectives.bench import bench
from fabricsim.collectives.expand import expand
from fabricsim.collectives.graph import read_graph
from fabricsim.errors import ConfigError, InputError
from fabricsim.trace import lower, make_files
from fabricsim.workload import collective
from fabricsim.workload.rows import Rows

TOPOLOGY = {"kind": "star", "hosts": 8, "rate": "100Gbps", "latency": "500ns"}


def ring(n=4):
    """The ring all-reduce as one writes it by hand: n chunks, 2(n-1) steps."""
    threads = []
    for rank in range(n):
        steps = []
        for step in range(2 * (n - 1)):
            op = "recv_reduce" if step < n - 1 else "recv"
            steps.append({"op": "send", "to": (rank + 1) % n, "chunk": (rank - step) % n})
            steps.append({"op": op, "from": (rank - 1) % n, "chunk": (rank - step - 1) % n})
        threads.append([steps])
    return {
        "schema": "fabricsim.graph/1",
        "name": "ring",
        "kind": "all_reduce",
        "ranks": n,
        "chunks": n,
        "threads": threads,
    }


def direct(n=4):
    """Every rank sends each other its part at once, a thread a peer."""
    threads = [
        [
            [{"op": "copy", "source": f"in:{rank}", "chunk": f"out:{rank}"}],
            *(
                [
                    {"op": "send", "to": peer, "chunk": f"in:{peer}"},
                    {"op": "recv", "from": peer, "chunk": f"out:{peer}"},
                ]
                for peer in range(n)
                if peer != rank
            ),
        ]
        for rank in range(n)
    ]
    return ring(n) | {"name": "direct", "kind": "all_to_all", "threads": threads}


@pytest.fixture
def write(tmp_path):
    def save(graph, name="graph.json"):
        path = tmp_path / name
        path.write_text(graph if isinstance(graph, str) else json.dumps(graph))
        return path

    return save


def cluster(path, kind, **more):
    data = {"name": "star", "topology": TOPOLOGY, "collectives": {kind: {"graph": str(path)}, **more}}
    return fabricsim.Cluster.from_dict(data)


def problems(path):
    with pytest.raises(InputError) as caught:
        read_graph(path)
    return "\n".join(map(str, caught.value.problems))


# ---- right graphs


def test_graphs_keep_the_columns_of_storage(write):
    graphs = {"all_reduce": read_graph(write(ring(2)))}
    rows = Rows(generator="test")
    rows.write([0, 1], "/f", 5, offset=3)
    rows.add("all_reduce", [0, 1], bytes=64)
    rows.add("fsync", [0, 1], file="/f")
    trace = rows.trace()
    lowered = lower(trace, files=make_files(trace, ["/"]))
    made = expand(lowered, graphs)
    assert made.table.column_names == lowered.column_names and made.table.num_rows > 4
    last = lowered.num_rows - 1
    for place, row in ((0, 0), (made.table.num_rows - 1, last)):
        assert made.table.slice(place, 1).equals(lowered.slice(row, 1))


def test_a_hand_written_ring_is_a_ring(write):
    path = write(ring(8))
    own = fabricsim.compile(cluster(path, "all_reduce"))
    built_in = fabricsim.compile(fabricsim.Cluster.from_dict({"name": "star", "topology": TOPOLOGY}))
    for size in (0, 8, 1 << 20):
        (mine,), (theirs,) = bench(own, "all_reduce", [size]), bench(built_in, "all_reduce", [size])
        assert mine.time_us == pytest.approx(theirs.time_us, rel=0.05), size
    assert own.digest != built_in.digest


def test_a_direct_all_to_all_carries_every_byte(write):
    model = fabricsim.compile(cluster(write(direct(8)), "all_to_all"))
    result = fabricsim.replay(collective("all_to_all", size_bytes=8 << 17, n_ranks=8), model)
    sent = result.links.to_pylist()
    up = [row["bytes"] for row in sent if row["link"].startswith("host")]
    assert all(7 << 17 <= carried <= 1.1 * (7 << 17) for carried in up)
    (mine,) = bench(model, "alltoall", [8 << 20])
    assert mine.algbw_gbs * 7 / 8 == pytest.approx(12.5 * 4096 / 4178, rel=0.03)


def test_results_are_of_the_one_operation(write):
    model = fabricsim.compile(cluster(write(ring(4)), "all_reduce"))
    rows = Rows()
    rows.add("compute", range(4), duration_ps=1000, stream=0)
    rows.add("all_reduce", [0, 1, 2, 3], bytes=4096, stream=0, name="mine")
    rows.add("send", [0], peer=[1], bytes=64, stream=0, tag=5)
    rows.add("recv", [1], peer=[0], bytes=64, stream=0, tag=5)
    rows.add("all_reduce", [7, 5, 6, 4], bytes=4096, after=[])
    result = fabricsim.replay(rows.trace(), model)
    ops = result.ops.to_pylist()
    assert [row["id"] for row in ops] == [0] * 4 + [1] * 4 + [2, 3] + [4] * 4
    mine = [row for row in ops if row["id"] == 1]
    assert {row["kind"] for row in mine} == {"all_reduce"} and {row["name"] for row in mine} == {"mine"}
    assert all(row["start_ps"] == 1000 and row["end_ps"] > 7_000_000 for row in mine)
    assert result.flows.num_rows == 1 and result.summary["operations"] == 5
    send = next(row for row in ops if row["id"] == 2)
    assert send["start_ps"] == next(row for row in mine if row["rank"] == 0)["end_ps"]
    path = result.summary["critical_path"]
    assert set(path["by_kind"]) <= {"compute", "all_reduce", "send", "recv"}


def test_other_kinds_of_graphs(write):
    def graph(kind, threads, **more):
        return {
            "schema": "fabricsim.graph/1",
            "kind": kind,
            "ranks": 2,
            "chunks": 2,
            "threads": threads,
        } | more

    send, recv = {"op": "send", "to": 1, "chunk": 0}, {"op": "recv", "from": 0, "chunk": 0}
    cases = [
        graph("broadcast", [[[send | {"count": 2}]], [[recv | {"count": 2}]]]),
        graph("all_gather", [[[send, {"op": "recv", "from": 1, "chunk": 1}]],
                             [[recv], [{"op": "send", "to": 0, "chunk": "in:1"}]]]),
        graph("reduce", [[[{"op": "recv_reduce", "from": 1, "chunk": 0, "count": 2}]],
                         [[{"op": "send", "to": 0, "chunk": 0, "count": 2}]]]),
        graph("reduce_scatter", [
            [[{"op": "send", "to": 1, "chunk": 1}, {"op": "recv", "from": 1, "chunk": "tmp:0"},
              {"op": "reduce", "source": "tmp:0", "chunk": 0}]],
            [[{"op": "recv_reduce", "from": 0, "chunk": 1}], [{"op": "send", "to": 0, "chunk": 0}]],
        ]),
    ]  # fmt: skip
    for case in cases:
        path = write(case)
        name = case["kind"]
        model = fabricsim.compile(cluster(path, name))
        (row,) = bench(model, name, [1000], ranks=range(2))
        assert row.time_us > 1


# ---- wrong graphs


def test_a_chunk_that_does_not_arrive_is_told(write):
    graph = ring()
    graph["threads"][2][0].pop()
    graph["threads"][1][0].pop(-2)
    text = problems(write(graph))
    assert "rank 2, in:0: lacks the parts of ranks 3 at the end of the all_reduce" in text


def test_data_added_twice_or_to_other_data_is_told(write):
    graph = ring()
    graph["threads"][0][0][1]["chunk"] = 0
    assert "adds chunk 3 to in:0, which holds chunk 0" in problems(write(graph))
    graph = {
        "schema": "fabricsim.graph/1", "kind": "all_reduce", "ranks": 2, "chunks": 1,
        "threads": [
            [[{"op": "send", "to": 1, "chunk": 0}, {"op": "send", "to": 1, "chunk": 0}]],
            [[{"op": "recv_reduce", "from": 0, "chunk": 0}, {"op": "recv_reduce", "from": 0, "chunk": 0}]],
        ],
    }  # fmt: skip
    assert "adds the part of rank 0 to in:0 a second time" in problems(write(graph))


def test_a_deadlock_names_who_waits(write):
    graph = ring()
    for rank in range(4):
        steps = graph["threads"][rank][0]
        steps[0], steps[1] = steps[1], steps[0]  # all receive first
    text = problems(write(graph))
    assert "rank 0, thread 0, step 0: waits for ever: for a message from rank 3 on channel 0" in text
    graph = ring()
    graph["threads"][0][0][0]["after"] = [[0, 1]]
    assert "waits for ever: for thread 0, step 1" in problems(write(graph))


def test_an_unmatched_send_is_named(write):
    graph = ring()
    graph["threads"][3][0].append({"op": "send", "to": 1, "chunk": 2, "channel": 7})
    text = problems(write(graph))
    assert (
        "rank 3, thread 0, step 12: what it sends is never received by rank 1 (from rank 3, channel 7)"
        in text
    )


def test_nothing_can_be_sent_from_an_empty_place(write):
    graph = ring()
    graph["threads"][0][0][0]["chunk"] = "tmp:4"
    assert "sends tmp:4, which holds nothing yet" in problems(write(graph))


def test_a_receive_of_another_length_is_told(write):
    graph = ring()
    graph["threads"][0][0][0]["count"] = 2
    assert "receives 1 chunks of the 2 that are sent by" in problems(write(graph))


def test_two_threads_may_not_share_a_way(write):
    graph = ring()
    graph["threads"][0].append([{"op": "send", "to": 1, "chunk": 0}])
    assert "sends to rank 1 on channel 0, as thread 0 does; allowed: one thread a channel" in problems(
        write(graph)
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda g: g.update(schema="fabricsim.graph/2"), "schema: found 'fabricsim.graph/2'"),
        (lambda g: g.update(kind="barrier"), "kind: found 'barrier'"),
        (lambda g: g.update(kind="all_gather", chunks=6), "a multiple of the 4 ranks"),
        (
            lambda g: g.update(ranks=5),
            "found a list of 4, allowed: a list of threads for each of the 5 ranks",
        ),
        (lambda g: g.update(ranks=0), "ranks: found 0, allowed: 1 to 4096"),
        (lambda g: g.update(ranks=True), "ranks: found True"),
        (lambda g: g.update(chunk=3), "chunk: unknown key; did you mean 'chunks'?"),
        (lambda g: g["threads"].__setitem__(0, [3]), "threads[0]: allowed: a list of lists of steps"),
        (lambda g: g["threads"][1][0].__setitem__(0, 7), "threads[1][0][0]: found 7"),
        (lambda g: g["threads"][1][0][0].update(op="snd"), "threads[1][0][0].op: found 'snd'"),
        (lambda g: g["threads"][1][0][0].update(to=1), "the rank itself"),
        (lambda g: g["threads"][1][0][0].update(to=9), "threads[1][0][0].to: found 9, allowed: 0 to 3"),
        (lambda g: g["threads"][1][0][0].update(chunk=4), "found 4 and 1 in all, allowed: chunks 0 to 3"),
        (lambda g: g["threads"][1][0][0].update(chunk="mid:1"), "'in:N', 'out:N' or 'tmp:N'"),
        (lambda g: g["threads"][1][0][0].update(after=[[0]]), "found [0], allowed: [thread, step]"),
        (lambda g: g["threads"][1][0][0].update(after=[[3, 0]]), "waits for thread 3, step 0: there is none"),
        (lambda g: g["threads"][1][0][0].update(frm=1), "frm: unknown key"),
    ],
)
def test_bad_forms_are_told_with_their_place(write, change, message):
    graph = copy.deepcopy(ring())
    change(graph)
    assert message in problems(write(graph))


@pytest.mark.parametrize("text", ["", "[", "[1]", "null", "{}", "\x00", "<algo", "<a/>", "[" * 100_000])
def test_what_is_no_graph_is_an_input_error(write, text):
    assert problems(write(text))


def test_random_damage_is_an_input_error_or_a_graph(write):
    rng = np.random.default_rng(3)
    text = json.dumps(ring(3))
    for _ in range(300):
        letters = list(text)
        for at in rng.integers(0, len(letters), 3):
            letters[at] = str(rng.choice(list('0123456789"{}[],:sradc')))
        try:
            read_graph(write("".join(letters)))
        except InputError as error:
            assert error.problems


def test_operations_that_do_not_fit_are_named(write):
    model = fabricsim.compile(cluster(write(ring(4)), "all_reduce"))
    with pytest.raises(InputError, match=r"row 0: found all_reduce of 8 ranks, allowed: 4"):
        fabricsim.replay(collective("all_reduce", size_bytes=8, n_ranks=8), model)
    threads = [[[{"op": "recv", "from": 1, "chunk": 0}]], [[{"op": "send", "to": 0, "chunk": 0}]]]
    graph = ring(2) | {"kind": "broadcast", "chunks": 1, "root": 1, "threads": threads}
    model = fabricsim.compile(cluster(write(graph), "broadcast"))
    with pytest.raises(InputError, match="found the root at place 0, allowed: 1"):
        fabricsim.replay(collective("broadcast", size_bytes=8, n_ranks=2), model)
    with pytest.raises(ConfigError, match="found a graph of all_reduce, allowed: one of all_gather"):
        fabricsim.compile(cluster(write(ring(4)), "all_gather")).cluster.graphs()


def test_the_command_line_tells_a_wrong_graph(write, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(ring(4))
    (tmp_path / "c.toml").write_text(
        'name = "c"\n[topology]\nkind = "star"\nhosts = 4\nrate = "100Gbps"\nlatency = "1us"\n'
        '[collectives]\nall_reduce = {graph = "graph.json"}\n'
    )
    arguments = ["bench", "all_reduce", "--cluster", "c.toml", "-b", "4K", "-e", "4K"]
    assert main(arguments) == 0
    capsys.readouterr()
    write(ring(4) | {"kind": "rong"})
    assert main(arguments) == 3
    assert "kind: found 'rong'" in capsys.readouterr().err
    (tmp_path / "graph.json").unlink()
    assert main(arguments) == 3
    assert "graph.json: No such file" in capsys.readouterr().err


# ---- MSCCL


def msccl_ring(n=4):
    """The ring all-reduce as MSCCL's compiler writes it: fused receive, reduce and send."""
    gpus = []
    for rank in range(n):
        steps = []

        def step(kind, chunk, steps=steps):
            ends = f'srcbuf="i" srcoff="{chunk}" dstbuf="i" dstoff="{chunk}"'
            steps.append(f'<step s="{len(steps)}" type="{kind}" {ends} cnt="1" depid="-1" deps="-1"/>')

        step("s", rank)
        for i in range(1, n - 1):
            step("rrs", (rank - i) % n)
        step("rrcs", (rank + 1) % n)
        for i in range(n - 2):
            step("rcs", (rank - i) % n)
        step("r", (rank + 2) % n)
        peers = f'send="{(rank + 1) % n}" recv="{(rank - 1) % n}" chan="0"'
        gpus.append(f'<gpu id="{rank}" i_chunks="{n}"><tb id="0" {peers}>{"".join(steps)}</tb></gpu>')
    return f'<algo nchunksperloop="{n}" ngpus="{n}" coll="allreduce">{"".join(gpus)}</algo>'


def test_a_ring_of_msccl_is_a_ring(write):
    model = fabricsim.compile(cluster(write(msccl_ring(8), "ring.xml"), "all_reduce"))
    plain = fabricsim.compile(fabricsim.Cluster.from_dict({"name": "star", "topology": TOPOLOGY}))
    (mine,), (theirs,) = bench(model, "all_reduce", [1 << 20]), bench(plain, "all_reduce", [1 << 20])
    assert mine.time_us == pytest.approx(theirs.time_us, rel=0.05)


def test_an_all_gather_of_msccl_has_its_input_in_its_place(write):
    gpus = "".join(
        f'<gpu id="{r}"><tb id="0" send="{1 - r}" recv="{1 - r}" chan="0">'
        '<step s="0" type="s" srcbuf="i" srcoff="0" dstbuf="o" dstoff="0" cnt="1" depid="-1" deps="-1"/>'
        f'<step s="1" type="r" srcbuf="o" srcoff="{1 - r}" dstbuf="o" dstoff="{1 - r}" cnt="1"/></tb>'
        f'<tb id="1" send="-1" recv="-1"><step s="0" type="nop" depid="0" deps="1"/>'
        f'<step s="1" type="cpy" srcbuf="o" srcoff="{1 - r}" dstbuf="s" dstoff="0" cnt="1"/></tb></gpu>'
        for r in range(2)
    )
    text = f'<algo nchunksperloop="2" ngpus="2" coll="allgather">{gpus}</algo>'
    graph = read_graph(write(text, "gather.xml"))
    assert graph.kind == "all_gather" and graph.chunks == 2


@pytest.mark.parametrize(
    "change, message",
    [
        (('type="rrcs"', 'type="rxs"'), "type: found 'rxs'"),
        (('coll="allreduce"', 'coll="scan"'), "coll: found 'scan'"),
        (('ngpus="4"', 'ngpus="5"'), "allowed: each of 0 to 4 once"),
        (('send="1"', 'send="9"'), "found 9, allowed: another GPU"),
        (('srcoff="0"', 'srcoff="x"'), "srcoff: found 'x', allowed: a whole number"),
        (('srcoff="0"', 'srcoff="7"'), "found src i:7 and 1 chunks of 4"),
        (('depid="-1" deps="-1"', 'depid="3" deps="0"'), "depends on tb 3, step 0"),
        (('type="rrcs"', 'type="rrs"'), "lacks the parts of ranks"),
        (("<algo ", "<!DOCTYPE x><algo "), "document type"),
    ],
)
def test_bad_xml_is_told(write, change, message):
    assert message in problems(write(msccl_ring().replace(*change, 1), "bad.xml"))
