"""The compiled core and replay under wrong, extreme and hostile input: a clear error, no crash, no hang."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest
from engine_worlds import US, World, finish, leaf_spine, program, star, start
from trace_table import all_reduce, compute, recv, send, table

import fabricsim
from fabricsim._core import engine
from fabricsim.errors import ConfigError, DeadlockError, EngineError, FabricsimError, InputError
from fabricsim.result import Result
from fabricsim.trace import Trace, lower, write_trace
from fabricsim.workload import collective, incast

PRESET = "fat-tree-k8-100g-roce"
PAUSE = ("link", "pause", {})


# ---- models


def model(**changes):
    arrays = star(2).arrays() | {"settings": []} | changes
    return engine.Model(**arrays)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"cable_rate_mbps": np.array([0, 100_000])}, "cable 0: rate_mbps is 0"),
        ({"cable_rate_mbps": np.array([-1, 100_000])}, "cable 0: rate_mbps is -1"),
        ({"cable_rate_mbps": np.array([2**63 - 1, 100_000])}, "rate_mbps is 9223372036854775807"),
        ({"cable_rate_mbps": np.array([2**64 - 1, 1], np.uint64)}, "cable_rate_mbps"),
        ({"cable_delay_ps": np.array([0, US])}, "a delay of zero leaves no window"),
        ({"cable_delay_ps": np.array([-5, US])}, "cable 0: delay_ps is -5"),
        ({"cable_delay_ps": np.array([2**63 - 1, US])}, "delay_ps is 9223372036854775807"),
        ({"node_latency_ps": np.array([0, 0, -1])}, "node 2: latency_ps is -1"),
        ({"node_latency_ps": np.array([0, 0, 2**62])}, "node 2: latency_ps"),
        ({"node_latency_ps": np.zeros(2, np.int64)}, "differ in length"),
        ({"node_latency_ps": []}, "differ in length"),
        ({"cable_a": np.array([0], np.int32)}, "differ in length"),
        ({"cable_a": np.array([0, 7], np.int32)}, "cable 1: joins 7 and 2"),
        ({"cable_a": np.array([0, -7], np.int32)}, "cable 1: joins -7 and 2"),
        ({"cable_a": np.array([0, 2], np.int32)}, "joins node 2 to itself"),
        ({"cable_a": np.array([0, 0], np.int32)}, "host 0: has 2 cables"),
        ({"cable_a": np.array([0, 2**32])}, "cable_a"),
        ({"cable_a": np.array([0.0, 1.5])}, "whole numbers"),
        ({"cable_a": ["x", "y"]}, "whole numbers"),
        ({"cable_a": np.zeros((2, 1), np.int32)}, "2 dimensions"),
        ({"cable_a": [], "cable_b": [], "cable_rate_mbps": [], "cable_delay_ps": []}, "no cable"),
        ({"n_hosts": 0, "n_switches": 3}, "0 hosts"),
        ({"n_hosts": 4, "n_switches": -1}, "-1 switches"),
        ({"n_hosts": -1, "n_switches": 4}, "-1 hosts"),
        ({"n_hosts": 3, "n_switches": 0}, "host 2: has 2 cables"),
    ],
)
def test_models_refuse(changes, words):
    with pytest.raises(ConfigError, match=words):
        model(**changes)


def test_a_host_without_a_cable_is_refused():
    world = star(2)
    world.hosts, world.switches = 3, 1
    world.cables = [(0, 3, 100_000, US), (1, 3, 100_000, US)]
    with pytest.raises(ConfigError, match="host 2: has no cable"):
        world.model()


TWO_CLASSES = ("switch", "ethernet", {"data_class_count": 2})


@pytest.mark.parametrize(
    "settings, words",
    [
        ([("nowhere", "x", {})], "nowhere: no such room"),
        ([("cc", "magic", {})], "cc: no such implementation as magic"),
        ([("cc", "dcqcn", {"speed": 1})], "cc.dcqcn.speed: no such parameter"),
        ([("cc", "dcqcn", {"g_inverse": 1})], "cc.dcqcn.g_inverse: found 1, allowed 2 to 1048576"),
        ([("cc", "dcqcn", {"g_inverse": -(2**63)})], "found -9223372036854775808"),
        ([("cc", "dcqcn", {"g_inverse": 2**70})], "whole number of 64 bits"),
        ([("cc", "dcqcn", {"g_inverse": 2.5})], "whole number of 64 bits"),
        ([("cc", "dcqcn", {"g_inverse": "16"})], "whole number of 64 bits"),
        ([("cc", "dcqcn", {}), ("cc", "none", {})], "both dcqcn and none are chosen"),
        ([("switch", "ethernet", {"ecn_kmin_bytes": 10, "ecn_kmax_bytes": 9})], "is above ecn_kmax_bytes"),
        ([PAUSE, ("switch", "ethernet", {"buffer_bytes": 16384})], "for headroom"),
        ([("switch", "ethernet", {"buffer_bytes": 16384, "dynamic_alpha_ppm": 1000})], "two frames"),
        ([TWO_CLASSES, ("transport", "roce", {"control_priority": 0})], "control_priority = 1"),
        ([("switch", "ethernet", {"data_class_count": 5})], "data_class_count"),
        ([("switch", "ethernet", {"data_class_count": 4, "buffer_bytes": 16384})], "4 classes need 0 for"),
        ([TWO_CLASSES, ("link", "pause", {"headroom_bytes": 1 << 30})], r"2 classes need \d+ for headroom"),
        ([("link", "pause", {"lossless_classes": 2})], "the one data class is class 0"),
        (
            [
                (
                    "switch",
                    "ethernet",
                    {"data_class_count": 2, "dynamic_alpha_ppm": 1000, "buffer_bytes": 1 << 19},
                )
            ],
            "two frames",
        ),
    ],
)
def test_settings_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        model(settings=settings)


def test_all_problems_are_told_at_once_and_not_without_end():
    with pytest.raises(ConfigError) as caught:
        model(cable_rate_mbps=np.zeros(2, np.int64), cable_a=np.array([9, 9], np.int32))
    assert len(caught.value.problems) == 2
    many = World(400, 1, [(host, 400, 0, US) for host in range(400)])
    with pytest.raises(ConfigError) as caught:
        many.model()
    text = str(caught.value)
    assert "cable 48: rate_mbps is 0" in text and "cable 90" not in text and "more" in text.splitlines()[-1]


# ---- programs

FLOW = table(send(0, 1, 5000), recv(1, 0, 5000))


def lowered(*rows):
    return lower(Trace(table(*rows)))


def compiled(low, ranks=4, **options):
    rank_host = options.pop("rank_host", np.arange(ranks, dtype=np.int32))
    return engine.Program(star(4).model(), low, rank_host=rank_host, **options)


def replaced(low, name, values, kind=None):
    index = low.column_names.index(name)
    return low.set_column(index, name, pa.array(values, kind or low.schema.field(name).type))


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda low: low.drop_columns(["tag", "id"]), "11 columns, allowed 12, then variant"),
        (lambda low: low.append_column("more", low["id"]), "14 columns, allowed 12, then variant"),
        (lambda low: low.rename_columns(["x", *low.column_names[1:]]), "column 0: found x"),
        (lambda low: low.select(low.column_names[:13][::-1]), "13 columns, allowed 12"),
        (
            lambda low: replaced(low, "variant", [0, -1], pa.int16()),
            "row 0: variant: found 0, allowed -1 to -1",
        ),
        (lambda low: replaced(low, "id", [0, 1], pa.int32()), "column 0: found id of type i"),
        (lambda low: replaced(low, "bytes", [0.5, 1], pa.float64()), "column 4: found bytes of type g"),
        (lambda low: replaced(low, "kind", ["send", "recv"], pa.string()), "column 1: found kind of type u"),
        (lambda low: replaced(low, "ranks", [[0], [1]], pa.list_(pa.int64())), "column 2: found ranks"),
        (lambda low: replaced(low, "ranks", [[0], [1]], pa.large_list(pa.int32())), "column 2: found ranks"),
        (lambda low: replaced(low, "ranks", [[0], [1]], pa.list_(pa.int32(), 1)), "column 2: found ranks"),
        (lambda low: replaced(low, "bytes", [None, 5000]), "column bytes: has nulls"),
        (lambda low: replaced(low, "ranks", [None, [1]]), "column ranks: has nulls"),
        (lambda low: replaced(low, "ranks", [[None], [1]]), "column ranks: has null items"),
        (lambda low: replaced(low, "ranks", [[0], [4]]), "row 1: ranks: found 4, allowed 0 to 3"),
        (lambda low: replaced(low, "ranks", [[-1], [1]]), "row 0: ranks: found -1"),
        (lambda low: replaced(low, "ranks", [[], [1]]), "row 0: kind 8 of 0 ranks"),
        (lambda low: replaced(low, "ranks", [[0, 0], [1]]), "peer: found 1 entries|twice"),
        (lambda low: replaced(low, "kind", [99, 9]), "row 0: kind 99"),
        (lambda low: replaced(low, "kind", [-1, 9]), "row 0: kind -1"),
        (lambda low: replaced(low, "peer", [[], [0]]), "row 0: peer: found 0 entries for a send"),
        (lambda low: replaced(low, "peer", [[2**31 - 1], [0]]), "row 0: peer: found 2147483647"),
        (lambda low: replaced(low, "bytes", [-1, -1]), "row 0: bytes: found -1"),
        (lambda low: replaced(low, "bytes", [2**63 - 1] * 2), "row 0: bytes: found 9223372036854775807"),
        (lambda low: replaced(low, "bytes", [5000, 4999]), "recv of 4999 bytes"),
        (lambda low: replaced(low, "delay_ps", [2**63 - 1, 0]), "row 0: duration_ps, delay_ps"),
        (lambda low: replaced(low, "delay_ps", [-1, 0]), "row 0: duration_ps, delay_ps: found 0 and -1"),
        (lambda low: replaced(low, "stream", [-2, 0]), "stream -2"),
        (lambda low: replaced(low, "after", [[7], []]), "row 0: after: no operation has the id 7"),
        (lambda low: replaced(low, "after", [[1], []]), "row 0: after: shares no rank with the operation 1"),
        (lambda low: replaced(low, "id", [3, 3]), "row 1: id: 3 is also the id of row 0"),
        (lambda low: replaced(low, "priority", [1, 0]), r"row 0: priority: found 1, allowed 0 to 0"),
        (lambda low: replaced(low, "priority", [0, -1]), r"row 1: priority: found -1, allowed 0 to 0"),
        (lambda low: replaced(low, "priority", [0, None]), "column priority: has nulls"),
        (lambda low: replaced(low, "priority", [0, 0], pa.int64()), "column 11: found priority of type l"),
        (lambda low: replaced(low, "tag", [3, 4]), "has no matching recv"),
        (lambda low: replaced(low, "splits", [[1], []]), "row 0: splits: found 1 entries for a send"),
        (
            lambda low: low.slice(1),
            "operation 1: the recv from rank 0 to rank 1 with tag 0 has no matching send",
        ),
    ],
)
def test_programs_refuse(change, words):
    with pytest.raises(InputError, match=words):
        compiled(change(lower(Trace(FLOW))))


@pytest.mark.parametrize("splits", [[1, -1], [2**63 - 1, 1], [2**46, 0]])
def test_splits_out_of_range_are_refused(splits):
    low = lowered({"kind": "all_to_all", "ranks": [0, 1], "splits": [1, 1]})
    with pytest.raises(InputError, match="row 0: splits"):
        compiled(replaced(low, "splits", [splits]))


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"rank_host": np.zeros(2, np.int32)}, ConfigError, "rank 1: is placed on host 0, where rank 0 is"),
        ({"rank_host": np.array([0, 4], np.int32)}, ConfigError, "rank 1: is placed on host 4"),
        ({"rank_host": np.array([-1, 1], np.int32)}, ConfigError, "rank 0: is placed on host -1"),
        ({"rank_host": np.array([0.0, 1.0])}, ConfigError, "whole numbers"),
        ({"rank_host": np.zeros(0, np.int32)}, InputError, "no rank"),
        ({"rank_host": np.array([0], np.int32)}, InputError, "row 1: ranks: found 1, allowed 0 to 0"),
        ({"algorithms": {"barrier": "ring"}}, ConfigError, "does not do it"),
        ({"algorithms": {"all_reduce": "magic"}}, ConfigError, "does not do it"),
        ({"algorithms": {"dance": "ring"}}, ConfigError, "unknown kind dance"),
    ],
)
def test_options_of_programs_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        compiled(lower(Trace(FLOW)), **options)


def test_what_is_no_table_is_refused():
    class Wrong:
        def __arrow_c_stream__(self, requested_schema=None):
            return lower(Trace(FLOW)).schema.__arrow_c_schema__()

    for table_like in (None, {}, 5, "rows", Wrong()):
        with pytest.raises((AttributeError, TypeError, ValueError)):
            compiled(table_like)


def test_a_source_that_breaks_is_told():
    low = lower(Trace(FLOW))

    def batches():
        yield low.to_batches()[0]
        raise RuntimeError("the disk is gone")

    with pytest.raises(InputError, match="the disk is gone"):
        compiled(pa.RecordBatchReader.from_batches(low.schema, batches()))


def test_hosts_that_no_path_joins_are_told():
    world = World(4, 2, [(0, 4, 100_000, US), (1, 4, 100_000, US), (2, 5, 100_000, US), (3, 5, 100_000, US)])
    with pytest.raises(InputError, match="hosts 0 and 2 are not connected"):
        start(world, table(send(0, 2), recv(2, 0)))
    finish(world, table(send(0, 1), recv(1, 0), send(3, 2), recv(2, 3)))


# ---- the same program in any shape of Arrow


def rich_rows():
    return [
        all_reduce(0, 1, 2, 3, size=50_000, stream=0),
        {"kind": "all_to_all", "ranks": [3, 1, 0], "splits": [100 * i for i in range(9)], "stream": 1},
        compute(0, 2, duration_ps=77, after=[0]),
        send(2, 3, 12_345, tag=9, delay_ps=5),
        recv(3, 2, 12_345, tag=9),
        {"kind": "broadcast", "ranks": [2, 1, 0], "peer": [1], "bytes": 9000, "after": [1, 2][:1]},
        {"kind": "barrier", "ranks": [0, 1, 2, 3], "stream": 0},
    ]


def shapes(low):
    batch = low.combine_chunks().to_batches()[0]
    yield "one batch", low
    yield "a row a batch", pa.Table.from_batches([batch.slice(i, 1) for i in range(batch.num_rows)])
    yield (
        "an empty batch between",
        pa.Table.from_batches([batch.slice(0, 3), batch.slice(3, 0), batch.slice(3)]),
    )
    twice = pa.concat_tables([low, low]).combine_chunks()
    yield "a slice with an offset", twice.slice(low.num_rows)
    yield (
        "a slice of both ends",
        pa.concat_tables([low.slice(2), low]).combine_chunks().slice(low.num_rows - 2),
    )
    uneven = [
        pa.chunked_array([column.chunk(0).slice(0, 1 + i % 5), column.chunk(0).slice(1 + i % 5)])
        for i, column in enumerate(low.combine_chunks().columns)
    ]
    yield "columns cut at different rows", pa.table(uneven, schema=low.schema)
    yield "a reader", pa.RecordBatchReader.from_batches(low.schema, low.to_batches(max_chunksize=2))
    sliced = pa.array([None, *low["bytes"].to_pylist()], pa.int64()).slice(1)
    yield "a slice away from a null", low.set_column(4, "bytes", sliced)


def digest_of(low):
    made = engine.Program(SHARED, low, rank_host=np.arange(4, dtype=np.int32))
    run = engine.Run(SHARED, made)
    assert run.step()
    return run.digest


SHARED = leaf_spine(2, 2, 2).model(PAUSE)


def test_the_shape_of_the_table_does_not_matter():
    low = lowered(*rich_rows())
    digests = {name: digest_of(shape) for name, shape in shapes(low)}
    assert len(set(digests.values())) == 1, digests


def test_an_empty_program_is_done_at_once():
    low = lowered(compute(0)).slice(0, 0)
    run = engine.Run(SHARED, engine.Program(SHARED, low, rank_host=np.arange(4, dtype=np.int32)))
    assert run.step() is True
    assert run.counters()["packets"] == run.counters()["end_ps"] == run.total_ops == 0
    assert len(run.ops()["row"]) == len(run.sends()["row"]) == len(run.packets()) == 0


# ---- runs


@pytest.mark.parametrize("threads", [0, -1, 65, 1000, 2**31 - 1])
def test_threads_out_of_range_are_refused(threads):
    with pytest.raises(ConfigError, match="allowed 1 to 64"):
        start(star(2), FLOW, threads=threads)


@pytest.mark.parametrize("options", [{"threads": 2**40}, {"seed": -1}, {"seed": 2**64}, {"seed": "x"}])
def test_options_that_are_no_numbers_of_the_core_are_refused(options):
    with pytest.raises((ConfigError, OverflowError, TypeError)):
        start(star(2), FLOW, **options)


def test_more_threads_than_nodes():
    one, many = finish(star(2), FLOW), finish(star(2), FLOW, threads=16)
    assert one.digest == many.digest


def test_a_program_runs_only_on_its_model():
    model_a, model_b = star(2).model(), star(2).model()
    made = program(model_a, FLOW, 2)
    with pytest.raises(ConfigError, match="another model"):
        engine.Run(model_b, made)


def test_a_run_keeps_what_it_needs_alive():
    run = start(star(2), FLOW)  # the model and the program have no other owner
    import gc

    gc.collect()
    assert run.step() is True and run.step() is True


@pytest.mark.parametrize("until", [0, -5, -(2**63)])
def test_steps_into_the_past_do_nothing(until):
    run = start(star(2), FLOW)
    assert run.step(until) is False
    assert run.counters()["packets"] == 0
    assert run.step(2**63 - 1) is True


def test_questions_may_be_asked_at_any_time():
    run = start(star(2), FLOW)
    assert (run.ops()["end_ps"] == -1).all()
    assert len(run.blocked()) == 2 and run.blocked(0) == []
    run.step(US)
    assert run.sends()["delivered_ps"][0] == -1
    run.step()
    assert run.blocked() == []


CIRCLES = [
    ([compute(0), compute(0)], [[1], [0]]),
    ([compute(0)], [[0]]),
    ([compute(0, stream=0), compute(0, stream=0)], [[1], []]),
    ([recv(0, 1, stream=0), send(0, 1, stream=0), recv(1, 0, stream=0), send(1, 0, stream=0)], None),
    (
        [
            all_reduce(0, 1, stream=0),
            {"kind": "barrier", "ranks": [0, 1], "stream": 1},
            compute(0, stream=0),
        ],
        [[], [2], [1]],
    ),
]


@pytest.mark.parametrize("rows, after", CIRCLES)
@pytest.mark.parametrize("threads", [1, 2])
def test_circles_are_deadlocks_not_hangs(rows, after, threads):
    """Put in behind the trace's own checks: the core must find them by itself."""
    low = lowered(*rows)
    if after is not None:
        low = replaced(low, "after", after)
    run = engine.Run(
        SHARED, engine.Program(SHARED, low, rank_host=np.arange(4, dtype=np.int32)), threads=threads
    )
    with pytest.raises(DeadlockError, match="have not ended") as caught:
        run.step()
    assert "waits for" in str(caught.value)
    assert len(run.blocked()) > 0
    with pytest.raises(DeadlockError):
        run.step()


def test_pauses_in_a_circle_are_told_or_pass():
    """A ring of switches with flows two hops on can pause in a circle: an answer comes, never a hang."""
    n = 5
    world = World(2 * n, n)
    for host in range(2 * n):
        world.cable(host, 2 * n + host // 2)
    for s in range(n):
        world.cable(2 * n + s, 2 * n + (s + 1) % n)
    rows = []
    for src in range(2 * n):
        dst = (src + 4) % (2 * n)
        rows += [send(src, dst, 4 << 20, tag=src), recv(dst, src, 4 << 20, tag=src)]
    settings = ("link", "pause", {"xoff_bytes": 10_000, "xon_gap_bytes": 9_000})
    run = start(world, table(*rows), settings, ("transport", "roce", {"rto_ps": 2000 * US}))
    began = time.monotonic()
    try:
        assert run.step() is True
    except (EngineError, DeadlockError) as error:
        assert "gave up" in str(error) or "in a circle" in str(error)
    assert run.counters()["drops"] == 0
    assert time.monotonic() - began < 20


def test_a_connection_that_never_succeeds_gives_up():
    """A time-out shorter than the round trip goes back for ever; the retry limit ends it."""
    settings = ("transport", "roce", {"rto_ps": US, "retry_limit_count": 7})
    run = start(star(2, delay_ps=500 * US), FLOW, settings)
    began = time.monotonic()
    with pytest.raises(EngineError, match="connection from rank 0 to rank 1 gave up"):
        run.step()
    assert time.monotonic() - began < 5
    assert run.counters()["timeouts"] == 8
    with pytest.raises(EngineError):
        run.step()  # a run that failed stays so


def test_a_tiny_lossy_buffer_ends_in_bounded_time():
    """Go-back-N against a buffer of a few frames: it gets through, or a connection gives up."""
    settings = [
        ("switch", "ethernet", {"buffer_bytes": 16_384}),
        ("transport", "roce", {"rto_ps": 100 * US, "nak_interval_ps": US}),
    ]
    run = start(star(17), incast(n_senders=16, size_bytes=100_000).table, *settings)
    began = time.monotonic()
    try:
        assert run.step() is True
        assert run.counters()["done_instances"] == run.total_ops
    except EngineError as error:
        assert "gave up" in str(error)
    assert run.counters()["drops"] > 0
    assert time.monotonic() - began < 20


def test_time_has_an_end():
    rows = [compute(0, duration_ps=2**51, stream=0) for _ in range(1100)]
    with pytest.raises(EngineError, match="limit"):
        start(star(2), table(*rows)).step()


def test_huge_and_empty_messages():
    run = start(star(2), table(send(0, 1, 2**46 - 1), recv(1, 0, 2**46 - 1)))
    assert run.step(100 * US) is False
    assert run.counters()["packets"] > 100
    for size in (0, 1):
        assert finish(star(2), table(send(0, 1, size), recv(1, 0, size))).counters()["messages"] == 1
    finish(star(4), table(all_reduce(0, 1, 2, 3, size=0), all_reduce(0, 1, 2, 3, size=1)))


def test_a_send_to_oneself_needs_no_network():
    low = lowered(send(0, 1, 5000, delay_ps=7), recv(1, 0, 5000))
    low = replaced(replaced(low, "ranks", [[0], [0]]), "peer", [[0], [0]])
    run = engine.Run(SHARED, engine.Program(SHARED, low, rank_host=np.arange(4, dtype=np.int32)))
    assert run.step() is True
    assert run.sends()["delivered_ps"].tolist() == [7]
    assert run.counters()["packets"] == 0


def test_random_tables_never_crash():
    """Random numbers in every column: an error of ours, or a program that runs to an answer."""
    rng = np.random.default_rng(7)
    answers = {"ran": 0, "refused": 0, "stuck": 0}
    shared = star(4).model(("transport", "roce", {"rto_ps": 100 * US}))
    for _ in range(400):
        rows = int(rng.integers(1, 6))
        wild = rng.random() < 0.3

        def numbers(low, high, wild=wild, rows=rows):
            extremes = [-(2**63), -1, 0, 1, 2**31, 2**46, 2**62, 2**63 - 1]
            return [
                int(rng.choice(extremes)) if wild and rng.random() < 0.2 else int(rng.integers(low, high))
                for _ in range(rows)
            ]

        def lists(low, high, most, rows=rows):
            return [rng.integers(low, high, rng.integers(0, most + 1)).tolist() for _ in range(rows)]

        low = pa.table(
            [
                pa.array(list(range(rows)) if rng.random() < 0.9 else numbers(0, 3), pa.int64()),
                pa.array(rng.integers(-1 if wild else 0, 8, rows), pa.int8()),
                pa.array(
                    [rng.permutation(4)[: rng.integers(0 if wild else 1, 5)] for _ in range(rows)],
                    pa.list_(pa.int32()),
                ),
                pa.array(
                    [[] if rng.random() < 0.7 else [int(rng.integers(-1, 4))] for _ in range(rows)],
                    pa.list_(pa.int32()),
                ),
                pa.array(numbers(0, 50_000), pa.int64()),
                pa.array(lists(0, 3000, 4) if wild else [[]] * rows, pa.list_(pa.int64())),
                pa.array(numbers(0, 1000), pa.int64()),
                pa.array(numbers(0, 1000), pa.int64()),
                pa.array(rng.integers(-1, 2, rows), pa.int32()),
                pa.array(
                    [[] if rng.random() < 0.7 else [int(rng.integers(0, rows))] for _ in range(rows)],
                    pa.list_(pa.int64()),
                ),
                pa.array(numbers(0, 2), pa.int64()),
                pa.array(rng.integers(-1 if wild else 0, 2 if wild else 1, rows), pa.int8()),
                pa.array(rng.integers(-2, 1, rows) if wild else [-1] * rows, pa.int16()),
            ],
            schema=lower(Trace(FLOW)).schema,
        )
        try:
            made = engine.Program(shared, low, rank_host=np.arange(4, dtype=np.int32))
            run = engine.Run(shared, made)
            run.step(20_000 * US)
            answers["ran"] += 1
        except DeadlockError:
            answers["stuck"] += 1
        except FabricsimError:
            answers["refused"] += 1
    assert min(answers.values()) > 5, answers


# ---- replay, from Python and as a command


@pytest.fixture(scope="module")
def compiled_preset():
    return fabricsim.compile(fabricsim.Cluster.from_toml(PRESET))


@pytest.mark.parametrize(
    "rows, error, words",
    [
        ([all_reduce(*range(129))], ConfigError, "found 129 ranks, allowed: 0 to 128"),
        ([compute(2**31 - 1)], ConfigError, "ranks"),
        ([compute(0, after=[1]), compute(0, after=[0])], InputError, "cycle"),
        (
            [recv(0, 1, stream=0), send(0, 1, stream=0), recv(1, 0, stream=0), send(1, 0, stream=0)],
            DeadlockError,
            r"operation 0 \(recv\) on rank 0: waits for rank 1",
        ),
        ([send(0, 1)], InputError, "without a recv"),
        ([compute(-1)], InputError, "ranks"),
        ([all_reduce(0, 1, size=2**62)], InputError, "bytes"),
        ([compute(0, duration_ps=2**62)], InputError, "duration_ps"),
        ([{"kind": "dance", "ranks": [0]}], InputError, "unknown kind 'dance'"),
        (
            [{"kind": "write", "ranks": [0], "bytes": 5, "file": "x"}],
            InputError,
            r"the cluster has no \[storage\]",
        ),
    ],
)
def test_replay_refuses(compiled_preset, rows, error, words):
    with pytest.raises(error, match=words):
        fabricsim.replay(Trace(table(*rows)), compiled_preset)


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": 1000}, {"seed": -1}, {"seed": 2**63}])
def test_replay_refuses_options(compiled_preset, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        fabricsim.replay(Trace(FLOW), compiled_preset, **options)


def test_a_limit_of_time_is_kept(compiled_preset, tmp_path):
    trace = collective("all_reduce", size_bytes=10**10, n_ranks=128)
    with pytest.raises(EngineError, match="reached the limit of 200 us"):
        fabricsim.replay(trace, compiled_preset, max_time_ps=200 * US, out=tmp_path)
    saved = Result.load(tmp_path)
    assert saved.summary["status"] == "stopped" and saved.ops.num_rows == 128


def command(*arguments):
    return [sys.executable, "-m", "fabricsim", *map(str, arguments)]


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    path = tmp_path_factory.mktemp("endless") / "trace.arrow"
    write_trace(collective("all_reduce", size_bytes=10**12, n_ranks=64, iterations=100), path)
    return path


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_is_130_and_leaves_valid_files(endless, tmp_path, threads):
    line = command(
        "replay", endless, "-c", PRESET, "-o", tmp_path / "out", "--series", "20us", "--threads", threads
    )
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "out" / "series.arrow").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1.0)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, stderr
    assert time.monotonic() - sent < 10
    assert stdout == b"" and b"Traceback" not in stderr
    result = Result.load(tmp_path / "out")
    assert result.summary["status"] == "interrupted"
    assert result.summary["packet_hops"] > 0
    assert result.ops.num_rows == 6400
    assert result.links.num_rows > 0 and result.series is not None


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told(tmp_path):
    write_trace(collective("all_reduce", size_bytes=10_000, n_ranks=8), tmp_path / "t.arrow")
    with open("/dev/full", "wb") as full:
        line = command("replay", tmp_path / "t.arrow", "-c", PRESET, "--json")
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 4
    assert b"No space left" in done.stderr and b"Traceback" not in done.stderr


def test_a_file_that_may_not_grow_is_told(tmp_path):
    """A quota reached while the result is written: told as such, with the code of internal errors."""
    write_trace(collective("all_reduce", size_bytes=10_000, n_ranks=128, iterations=40), tmp_path / "t.arrow")
    line = command("replay", tmp_path / "t.arrow", "-c", PRESET, "-o", tmp_path / "out")
    done = subprocess.run(
        line,
        capture_output=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert done.returncode == 4, done.stderr
    assert b"File too large" in done.stderr and b"Traceback" not in done.stderr


def test_exit_codes_of_replay(tmp_path):
    write_trace(collective("all_reduce", size_bytes=10_000, n_ranks=8), tmp_path / "good.arrow")
    write_trace(collective("all_reduce", size_bytes=10_000, n_ranks=200), tmp_path / "wide.arrow")
    (tmp_path / "torn.arrow").write_bytes((tmp_path / "good.arrow").read_bytes()[:300])
    circle = [recv(0, 1, stream=0), send(0, 1, stream=0), recv(1, 0, stream=0), send(1, 0, stream=0)]
    write_trace(Trace(table(*circle)), tmp_path / "circle.arrow")
    for name, cluster, code in [
        ("good", PRESET, 0),
        ("good", "no-such-preset", 2),
        ("wide", PRESET, 2),
        ("torn", PRESET, 3),
        ("none", PRESET, 3),
        ("circle", PRESET, 3),
    ]:
        line = command("replay", tmp_path / f"{name}.arrow", "-c", cluster, "--json")
        done = subprocess.run(line, capture_output=True, timeout=60)
        assert done.returncode == code, (name, cluster, done.stderr)
        assert b"Traceback" not in done.stderr
        if code == 0:
            assert json.loads(done.stdout)["packets"] > 0
        else:
            assert done.stdout == b"" and done.stderr
