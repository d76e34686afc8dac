"""One collective over a range of sizes, each from an idle fabric: what nccl-tests measures, emulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fabricsim.analysis.collectives import bus_factor
from fabricsim.errors import ConfigError, Problem, unknown_name
from fabricsim.workload.rows import Rows

if TYPE_CHECKING:
    from fabricsim.program import Model
    from fabricsim.run import Progress
    from fabricsim.trace import Trace

__all__ = ["DATATYPES", "REDUCERS", "TESTS", "Measured", "Test", "bench", "sizes_between"]

#: Bytes of an element of each datatype.
DATATYPES = {
    "int8": 1,
    "uint8": 1,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
    "half": 2,
    "float": 4,
    "double": 8,
    "bfloat16": 2,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
}

#: How per-rank times become one, by the number that nccl-tests gives it.
REDUCERS: dict[int, Callable[[np.ndarray], float]] = {
    0: lambda times: float(times[0]),
    1: lambda times: float(times.mean()),
    2: lambda times: float(times.min()),
    3: lambda times: float(times.max()),
}


@dataclass(frozen=True)
class Test:
    """A test of nccl-tests.

    ``kind`` is that of the trace; ``split`` tells that sizes are n equal parts of whole 16 bytes; ``reduces``
    and ``rooted`` fill the columns redop and root.
    """

    name: str
    kind: str
    split: bool = False
    reduces: bool = False
    rooted: bool = False


#: The tests, by the names of nccl-tests' programs.
TESTS = {
    test.name: test
    for test in (
        Test("all_reduce", "all_reduce", reduces=True),
        Test("all_gather", "all_gather", split=True),
        Test("reduce_scatter", "reduce_scatter", split=True, reduces=True),
        Test("alltoall", "all_to_all", split=True),
        Test("broadcast", "broadcast", rooted=True),
        Test("reduce", "reduce", reduces=True, rooted=True),
        Test("sendrecv", "send", reduces=True),
    )
}


@dataclass(frozen=True)
class Measured:
    """One row of the table: what was emulated at one size.

    ``size_bytes`` and ``count`` (elements) are as nccl-tests prints them, ``time_us`` is of one iteration,
    ``algbw_gbs`` and ``busbw_gbs`` are 10^9 bytes a second. ``choice`` is what the library chose, or None.
    """

    size_bytes: int
    count: int
    datatype: str
    redop: str
    root: int
    time_us: float
    algbw_gbs: float
    busbw_gbs: float
    packet_hops: int
    digest: str
    choice: dict[str, Any] | None = None


def sizes_between(first: int, last: int, *, factor: int = 1, step: int = 1 << 20) -> list[int]:
    """Return the sizes from ``first`` to ``last``: each ``factor`` times the one before, or ``step`` more.

    Parameters
    ----------
    first, last
        Bytes, ``first`` <= ``last``.
    factor
        At least 2 to multiply; 1 to add ``step``.
    step
        Bytes, at least 1.

    >>> sizes_between(8, 100, factor=2), sizes_between(1, 7, step=3)
    ([8, 16, 32, 64], [1, 4, 7])
    """
    sizes: list[int] = []
    while first <= last and len(sizes) < 100_000:
        sizes.append(first)
        first = first * factor if factor > 1 and first > 0 else first + step
    return sizes


def bench(
    model: Model,
    name: str,
    sizes: Sequence[int],
    *,
    ranks: Sequence[int] | None = None,
    iterations: int = 1,
    warmup: int = 0,
    datatype: str = "float",
    redop: str = "sum",
    root: int = 0,
    average: int = 1,
    seed: int = 1,
    threads: int = 1,
    max_time_ps: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[Measured]:
    """Emulate one test, size by size, each from an idle fabric.

    Parameters
    ----------
    model
        A compiled cluster.
    name
        One of ``TESTS``.
    sizes
        Bytes, as nccl-tests takes them.
    ranks
        The ranks that take part, in order; default all of the cluster.
    iterations, warmup
        Operations one after another in one run: the time is that of the last ``iterations`` of them on each
        rank, over their number. With ``iterations`` above 1 they overlap where ranks end at different times.
    datatype, redop, root
        What the table tells; the datatype sets the size of an element, ``root`` is a position in ``ranks``.
    average
        Over the ranks: 0 the first rank, 1 the mean, 2 the least, 3 the greatest.
    seed, threads, max_time_ps, progress
        As of ``replay``; the time limit is that of one size.

    Returns
    -------
    iterator of Measured
        One a size, emulated when it is asked for.

    Raises
    ------
    ConfigError
        When a parameter is not possible.

    >>> import fabricsim
    >>> model = fabricsim.compile(fabricsim.Cluster.from_toml("leaf-spine-64-400g-roce"))
    >>> [row.size_bytes for row in bench(model, "all_gather", [1 << 20], ranks=range(8))]
    [1048576]
    """
    places = list(ranks) if ranks is not None else list(range(_places(model)))
    _check(model, name, places, iterations, warmup, datatype, root, average)
    options = {
        "seed": seed,
        "threads": threads,
        "max_time_ps": max_time_ps,
        "progress": progress,
    }
    test = TESTS[name]
    label = (datatype, redop if test.reduces else "none", root if test.rooted else -1)

    def measure(wanted: int) -> Measured:
        element, n = DATATYPES[datatype], len(places)
        # Parts are whole pieces of 16 bytes.
        part = wanted // element // n & -(16 // element) if test.split else wanted // element
        size = part * element * (n if test.split else 1)
        trace = _trace(test, places, size, root, warmup + iterations)
        return _measured(model, test, trace, (size, part), label, places, warmup, average, options)

    return map(measure, sizes)


def _measured(
    model: Model,
    test: Test,
    trace: Trace,
    size_and_count: tuple[int, int],
    label: tuple[str, str, int],
    ranks: list[int],
    warmup: int,
    average: int,
    options: dict[str, Any],
) -> Measured:
    from fabricsim.program import build_program
    from fabricsim.run import run_program

    program = build_program(model, trace)
    result = run_program(program, **options)
    time_us = REDUCERS[average](_rank_times(result.ops, warmup, ranks))
    algbw = size_and_count[0] / time_us / 1000 if time_us else 0.0
    return Measured(
        size_bytes=size_and_count[0],
        count=size_and_count[1],
        datatype=label[0],
        redop=label[1],
        root=label[2],
        time_us=time_us,
        algbw_gbs=algbw,
        busbw_gbs=algbw * (1.0 if test.kind == "send" else bus_factor(test.kind, len(ranks))),
        packet_hops=int(result.summary["packet_hops"]),
        digest=str(result.summary["digest"]),
        choice=program.plan.choice(0),
    )


def _places(model: Model) -> int:
    """Return how many ranks a cluster has room for."""
    return int(model.topology.n_rank_hosts)


def _check(
    model: Model,
    name: str,
    ranks: Sequence[int],
    iterations: int,
    warmup: int,
    datatype: str,
    root: int,
    average: int,
) -> None:
    problems = []
    if name not in TESTS:
        raise ConfigError([Problem("test", unknown_name("test", name, TESTS))])
    places = _places(model)
    if not ranks or min(ranks) < 0 or max(ranks) >= places or len(set(ranks)) < len(ranks):
        found = f"{len(ranks)} ranks" + (f" from {min(ranks)} to {max(ranks)}" if ranks else "")
        problems.append(Problem("ranks", f"found {found}, allowed: different ones, 0 to {places - 1}"))
    if name == "sendrecv" and len(ranks) < 2:
        problems.append(Problem("ranks", f"found {len(ranks)} for sendrecv, allowed: at least 2"))
    if datatype not in DATATYPES:
        problems.append(Problem("datatype", unknown_name("datatype", datatype, DATATYPES)))
    for what, given, least, most in (
        ("iterations", iterations, 1, 1_000_000),
        ("warmup", warmup, 0, 1_000_000),
        ("root", root, 0, max(len(ranks) - 1, 0)),
        ("average", average, 0, 3),
    ):
        if not least <= given <= most:
            problems.append(Problem(what, f"found {given}, allowed: {least} to {most}"))
    if problems:
        raise ConfigError(problems)


def _trace(test: Test, ranks: list[int], size: int, root: int, count: int) -> Trace:
    rows = Rows(generator="fabricsim.collectives.bench", test=test.name, bytes=size, ranks=len(ranks))
    if test.kind != "send":
        more = {"peer": [ranks[root]]} if test.rooted else {}
        for index in range(count):
            rows.add(test.kind, ranks, bytes=size, stream=0, step=index, **more)
        return rows.trace()
    # Each rank sends to the next and receives from the one before, at once.
    following, before = ranks[1:] + ranks[:1], ranks[-1:] + ranks[:-1]
    last: list[int] = []
    for index in range(count):
        common: dict[str, Any] = {"bytes": size, "step": index, "tag": index, "after": last}
        send = rows.add("send", ranks, peer=following, stream=0, **common)
        last = [send, rows.add("recv", ranks, peer=before, stream=1, **common)]
    return rows.trace()


def _rank_times(ops: Any, warmup: int, ranks: list[int]) -> np.ndarray:
    """Return the time of an iteration on each rank in us: from the end of its warm-up to its last end."""
    rank, step = ops["rank"].to_numpy(), ops["step"].to_numpy()
    ended = np.zeros((int(step.max()) + 1, max(ranks) + 1), np.int64)
    np.maximum.at(ended, (step, rank), ops["end_ps"].to_numpy())
    begin = ended[warmup - 1] if warmup else np.zeros_like(ended[0])
    return np.asarray((ended[-1] - begin)[ranks] / 1e6 / (len(ended) - warmup))
