"""Simple workloads: one collective again and again, patterns of flows, files written or read."""

from __future__ import annotations

import random
from collections.abc import Iterable

from fabricsim.errors import ConfigError, Problem, unknown_name
from fabricsim.trace import COLLECTIVES, Trace
from fabricsim.trace.paths import parse_path
from fabricsim.workload.rows import Rows

__all__ = ["collective", "file_io", "flows", "incast", "permutation"]


def _check(*problems: Problem | None, **least: tuple[int, int]) -> None:
    """Raise with all problems: those given, and the arguments that are less than their least value."""
    found = [problem for problem in problems if problem is not None]
    for name, (value, bound) in least.items():
        if value < bound:
            found.append(Problem(name, f"found {value}, allowed: at least {bound}"))
    if found:
        raise ConfigError(found)


def _kind(kind: str, kinds: Iterable[str]) -> Problem | None:
    return None if kind in kinds else Problem("kind", unknown_name("kind", kind, sorted(kinds)))


def collective(kind: str, *, size_bytes: int, n_ranks: int, iterations: int = 1, root: int = 0) -> Trace:
    """Return a trace of one collective of all ranks, repeated one after another.

    Parameters
    ----------
    kind
        ``all_reduce``, ``reduce_scatter``, ``all_gather``, ``all_to_all``, ``broadcast``, ``reduce`` or
        ``barrier``.
    size_bytes
        As nccl-tests counts it, at least 0.
    n_ranks
        Ranks 0 to n_ranks-1, at least 1.
    iterations
        Repetitions, at least 1.
    root
        The root of a broadcast or reduce.

    Raises
    ------
    ConfigError
        With every argument that is not possible.

    >>> collective("all_gather", size_bytes=4096, n_ranks=4, iterations=3).table.num_rows
    3
    """
    far = Problem("root", f"found {root}, allowed: 0 to {n_ranks - 1}") if root >= n_ranks else None
    least = {"size_bytes": (size_bytes, 0), "n_ranks": (n_ranks, 1), "iterations": (iterations, 1)}
    _check(_kind(kind, COLLECTIVES), far, root=(root, 0), **least)
    rows = Rows(generator="fabricsim.workload.collective", kind=kind, bytes=size_bytes, ranks=n_ranks)
    more = {"peer": [root]} if kind in ("broadcast", "reduce") else {}
    if kind != "barrier":
        more["bytes"] = size_bytes  # type: ignore[assignment]
    for index in range(iterations):
        rows.add(kind, range(n_ranks), stream=0, step=index, **more)
    return rows.trace()


def file_io(
    kind: str,
    *,
    n_ranks: int,
    size_bytes: int,
    transfer_bytes: int,
    file: str = "/data/{rank:05d}",
    fsync: bool = True,
    direct: bool = False,
) -> Trace:
    """Return a trace in which every rank opens a file, writes or reads its part by pieces, and closes it.

    Parameters
    ----------
    kind
        ``write``, into files that are made, or ``read``, from files that are there.
    n_ranks
        Ranks 0 to n_ranks-1, at least 1.
    size_bytes
        Of each rank, at least 1; in a file that ranks share, the parts lie one after another.
    transfer_bytes
        Of one operation, at least 1; the last one takes the rest.
    file
        The path; with ``{rank}`` in it each rank has its own file.
    fsync
        Whether a write ends with an fsync.
    direct
        Whether the client's cache is not used.

    Raises
    ------
    ConfigError
        With every argument that is not possible.

    >>> file_io("write", n_ranks=4, size_bytes=1 << 20, transfer_bytes=1 << 18).kinds
    {'write': 4, 'open': 1, 'fsync': 1, 'close': 1}
    """
    least = {"size_bytes": (size_bytes, 1), "transfer_bytes": (transfer_bytes, 1)}
    _check(_kind(kind, ("read", "write")), n_ranks=(n_ranks, 1), **least)
    rows = Rows(generator="fabricsim.workload.file_io", kind=kind, bytes=size_bytes, ranks=n_ranks)
    everyone, write = range(n_ranks), kind == "write"
    stride = 0 if parse_path(file).is_own else size_bytes
    rows.open(everyone, file, create=write, trunc=write and stride == 0, stream=0)
    transfer = rows.write if write else rows.read
    for offset in range(0, size_bytes, transfer_bytes):
        part = min(transfer_bytes, size_bytes - offset)
        transfer(everyone, file, part, offset=offset, stride=stride, direct=direct, stream=0)
    if write and fsync:
        rows.add("fsync", everyone, file=file, stream=0)
    rows.add("close", everyone, file=file, stream=0)
    return rows.trace()


def flows(pairs: Iterable[tuple[int, int, int, int]], **provenance: object) -> Trace:
    """Return a trace of independent flows.

    Parameters
    ----------
    pairs
        (source rank, destination rank, bytes, start in picoseconds) of each flow; its tag is its position.

    >>> flows([(0, 1, 1000, 0), (1, 0, 1000, 500)]).table.num_rows
    4
    """
    rows = Rows(**({"generator": "fabricsim.workload.flows"} | provenance))
    for index, (source, target, size, start_ps) in enumerate(pairs):
        common = {"bytes": size, "tag": index, "name": f"flow {index}"}
        rows.add("send", [source], peer=[target], delay_ps=start_ps, **common)
        rows.add("recv", [target], peer=[source], **common)
    return rows.trace()


def permutation(*, n_ranks: int, size_bytes: int, seed: int = 1) -> Trace:
    """Return a trace in which every rank sends one flow and receives one, at random, none to itself.

    Parameters
    ----------
    n_ranks
        At least 2.
    size_bytes
        Of each flow.
    seed
        Of the permutation, a random cycle through all ranks.

    Raises
    ------
    ConfigError
        With every argument that is not possible.

    >>> permutation(n_ranks=16, size_bytes=1000).n_ranks
    16
    """
    _check(n_ranks=(n_ranks, 2), size_bytes=(size_bytes, 0))
    order = list(range(n_ranks))
    random.Random(seed).shuffle(order)
    # One cycle through all ranks: uniform among those, and without a fixed point.
    target = dict(zip(order, order[1:] + order[:1], strict=True))
    pairs = ((rank, target[rank], size_bytes, 0) for rank in range(n_ranks))
    return flows(pairs, generator="fabricsim.workload.permutation", seed=seed)


def incast(*, n_senders: int, size_bytes: int) -> Trace:
    """Return a trace in which ranks 1 to n_senders send one flow each to rank 0, all at once.

    Raises
    ------
    ConfigError
        With every argument that is not possible.

    >>> incast(n_senders=32, size_bytes=1000).n_ranks
    33
    """
    _check(n_senders=(n_senders, 1), size_bytes=(size_bytes, 0))
    pairs = ((rank, 0, size_bytes, 0) for rank in range(1, n_senders + 1))
    return flows(pairs, generator="fabricsim.workload.incast")
