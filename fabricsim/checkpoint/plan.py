"""How a checkpoint is saved: files and places in them, options, and the rows that write and read a piece."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

from fabricsim.checkpoint.mlperf import MlperfCheckpoint
from fabricsim.checkpoint.sizes import Checkpoint, ShardFile
from fabricsim.errors import ConfigError
from fabricsim.trace.paths import escape
from fabricsim.units import GB, format_bytes, s
from fabricsim.workload.rows import Rows

__all__ = ["LAYOUTS", "MODES", "Piece", "Plan"]

#: The files of a rank: what each holds, its bytes, and who needs it.
_Kind = tuple[tuple[str, int, str], ...]

#: How a save runs beside the training.
MODES: dict[str, str] = {
    "sync": "training waits until the files are written",
    "async": "training waits for a copy in host memory, which is written behind it",
    "local": "as async, to node-local storage; from there to the file system",
    "peer": "as async, to the host memory of another node; from its own to the file system",
}

#: How the state of the ranks lies in files.
LAYOUTS: dict[str, str] = {
    "rank": "each rank's files",
    "node": "one file a node, in which its ranks lie behind one another",
    "shared": "one file, in which all ranks lie behind one another",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a checkpoint that several ranks write alike.

    The rank at position p of ``ranks`` has ``bytes`` bytes at ``offset`` + p x ``stride`` of ``file``; they
    begin at byte ``begin`` of its state, which is all its files behind one another. ``scope`` is that of
    ``ShardFile``.
    """

    ranks: tuple[int, ...]
    file: str
    bytes: int
    begin: int = 0
    offset: int = 0
    stride: int = 0
    scope: str = "rank"

    def of(self, rank: int) -> Piece:
        """Return the piece of one of the ranks, whoever reads it: its file is named, not a pattern."""
        place = self.offset + self.ranks.index(rank) * self.stride
        file = self.file.replace("{rank:05d}", f"{rank:05d}")
        return Piece((rank,), file, self.bytes, self.begin, place, 0, self.scope)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checkpoint and how it is saved; sizes are bytes, times picoseconds.

    Parameters
    ----------
    saved
        What is saved.
    path
        Directory on the shared file system; each save has a directory in it.
    mode
        A key of ``MODES``.
    layout
        A key of ``LAYOUTS``: of the files on the shared file system.
    ranks_per_node
        GPUs of a node; ranks are numbered node by node.
    transfer_bytes
        Bytes of a write or read; 0: a file in one.
    copy_bytes_per_s
        Rate of a rank's copies between the accelerator and host memory. 25 GB/s, what PCIe 4.0 x16 leaves, is
        assumed; 0: they take no time.
    fsync, direct
        Whether files are synced before they are closed; whether I/O goes around the client's cache.
    steps, interval
        Training steps, and a save after every ``interval`` of them; without steps there is one save.
    step_ps
        What a step computes.
    gradient_bytes
        Of the all-reduce at the end of a step, in each data-parallel group; None: the gradients of the model.
    priority
        Data class of the training's messages, 0 to 7; storage has its own (``data_class`` of the store).
    local_path
        Directory on node-local storage, for mode ``local``.
    drain_every
        Every so manyth save of modes ``local`` and ``peer`` goes on to the file system; 0: none does.
    restart_ps
        Before a restore: to detect a failure and start the job again.

    Raises
    ------
    ConfigError
        With all that does not fit.
    """

    saved: Checkpoint | MlperfCheckpoint
    path: str = "/ckpt"
    mode: str = "sync"
    layout: str = "rank"
    ranks_per_node: int = 8
    transfer_bytes: int = 0
    copy_bytes_per_s: int = 25 * GB
    fsync: bool = True
    direct: bool = False
    steps: int = 0
    interval: int = 1
    step_ps: int = 1 * s
    gradient_bytes: int | None = None
    priority: int = 0
    local_path: str = "/local"
    drain_every: int = 1
    restart_ps: int = 0

    def __post_init__(self) -> None:
        problems = []
        for name, known in (("mode", MODES), ("layout", LAYOUTS)):
            if getattr(self, name) not in known:
                problems.append(f"{name}: found {getattr(self, name)!r}, allowed: {', '.join(known)}")
        least = {"ranks_per_node": 1, "interval": 1, "gradient_bytes": 0, "transfer_bytes": 0, "steps": 0}
        least |= {"copy_bytes_per_s": 0, "step_ps": 0, "drain_every": 0, "restart_ps": 0, "priority": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                problems.append(f"{name}: found {value}, allowed: at least {low}")
        if not problems and self.mode == "peer" and self.world % self.ranks_per_node:
            problems.append(
                f"ranks_per_node: found {self.ranks_per_node} of {self.world} ranks, allowed with mode peer:"
                " a divisor"
            )
        if not problems and self.mode == "peer" and self.world == self.ranks_per_node:
            problems.append("mode: found peer with one node, allowed: two or more")
        if problems:
            raise ConfigError(problems)

    def __repr__(self) -> str:
        return (
            f"<Plan: {format_bytes(self.saved.total_bytes)} of {self.world} ranks to {self.path},"
            f" {self.mode}, {self.layout}>"
        )

    @property
    def world(self) -> int:
        """How many ranks train."""
        return self.saved.parallel.world

    @property
    def writers(self) -> tuple[int, ...]:
        """The ranks that save something, ascending."""
        return tuple(self.state_bytes)

    @cached_property
    def state_bytes(self) -> dict[int, int]:
        """Bytes that each rank saves, by rank; those that save nothing are left out."""
        found: dict[int, int] = {}
        for file in self.saved.files:
            found[file.rank] = found.get(file.rank, 0) + file.bytes
        return found

    def copy_ps(self, size: int) -> int:
        """Return how long a copy between accelerator and host memory takes, rounded up."""
        return -(-size * s // self.copy_bytes_per_s) if self.copy_bytes_per_s else 0

    def node(self, rank: int) -> int:
        """Return the node of a rank."""
        return rank // self.ranks_per_node

    def peer(self, rank: int) -> int:
        """Return the rank of the next node that keeps a copy of a rank's state."""
        return (rank + self.ranks_per_node) % self.world

    def folder(self, save: int) -> str:
        """Return the directory of a save, counted from 0."""
        return f"{self.base}/step{(save + 1) * self.interval if self.steps else save}"

    @property
    def base(self) -> str:
        """The directory on the shared file system, as a path of a trace."""
        return escape(self.path.rstrip("/"))

    @property
    def saves(self) -> int:
        """How many saves there are."""
        return self.steps // self.interval if self.steps else 1

    def local_file(self, save: int) -> str:
        """Return the file of each rank on node-local storage; two saves are kept."""
        return f"{escape(self.local_path.rstrip('/'))}/save{save % 2}-{{rank:05d}}"

    @cached_property
    def by_size(self) -> dict[int, list[int]]:
        """The ranks that save so many bytes, by size."""
        found: dict[int, list[int]] = {}
        for rank, size in self.state_bytes.items():
            found.setdefault(size, []).append(rank)
        return found

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The pieces of a save, those of each file of ``saved``; files are named inside its directory."""
        files: dict[int, list[ShardFile]] = {}
        for file in self.saved.files:
            files.setdefault(file.rank, []).append(file)
        return tuple(self._by_rank(files) if self.layout == "rank" else self._packed(files))

    @cached_property
    def written(self) -> tuple[Piece, ...]:
        """The pieces as they are written: what lies together in one file is one piece."""
        if self.layout == "rank":
            return self.pieces
        return tuple(
            replace(piece, bytes=self.state_bytes[piece.ranks[0]])
            for piece in self.pieces
            if piece.begin == 0
        )

    def _by_rank(self, files: dict[int, list[ShardFile]]) -> Iterable[Piece]:
        alike: dict[_Kind, list[int]] = {}
        for rank, some in files.items():
            alike.setdefault(_kind(some), []).append(rank)
        for kind, ranks in alike.items():
            names = [holds for holds, _, _ in kind]
            begin = 0
            for index, (holds, size, scope) in enumerate(kind):
                number = f"-{names[:index].count(holds)}" if names.count(holds) > 1 else ""
                yield Piece(tuple(ranks), f"{holds}{number}-{{rank:05d}}", size, begin, scope=scope)
                begin += size

    def _packed(self, files: dict[int, list[ShardFile]]) -> Iterable[Piece]:
        """Give the pieces of files in which ranks lie behind one another, by runs of ranks that are alike."""
        offset, node = 0, -1
        for (here, kind), run in groupby(
            files.items(), key=lambda item: (self._file_of(item[0]), _kind(item[1]))
        ):
            ranks = tuple(rank for rank, _ in run)
            total = sum(size for _, size, _ in kind)
            offset, node = (offset, node) if here == node else (0, here)
            name = "checkpoint" if self.layout == "shared" else f"node-{here:04d}"
            begin = 0
            for _, size, scope in kind:
                yield Piece(ranks, name, size, begin, offset + begin, total if len(ranks) > 1 else 0, scope)
                begin += size
            offset += total * len(ranks)

    def _file_of(self, rank: int) -> int:
        return 0 if self.layout == "shared" else self.node(rank)

    # ---- rows

    def parts(self, size: int) -> Iterable[tuple[int, int]]:
        """Give (begin, bytes) of each transfer of a piece of so many bytes."""
        step = self.transfer_bytes or size
        for begin in range(0, size, max(1, step)):
            yield begin, min(step, size - begin)

    def write_piece(self, rows: Rows, piece: Piece, folder: str, name: str, **columns: Any) -> int:
        """Add the rows that open, write, sync and close a piece, in one stream; return the id of the last."""
        file, ranks = f"{folder}/{piece.file}", piece.ranks
        rows.open(ranks, file, create=True, name=f"{name} open", **columns)
        for begin, size in self.parts(piece.bytes):
            rows.write(
                ranks,
                file,
                size,
                offset=piece.offset + begin,
                stride=piece.stride,
                direct=self.direct,
                name=f"{name} write",
                **columns,
            )
        if self.fsync:
            rows.add("fsync", ranks, file=file, name=f"{name} fsync", **columns)
        return rows.add("close", ranks, file=file, name=f"{name} close", **columns)

    def read_piece(
        self, rows: Rows, piece: Piece, folder: str, name: str, readers: Sequence[int], **columns: Any
    ) -> int:
        """Add the rows that open, read and close a piece; return the id of the last."""
        file = f"{folder}/{piece.file}" if folder else piece.file
        rows.open(readers, file, name=f"{name} open", **columns)
        for begin, size in self.parts(piece.bytes):
            rows.read(
                readers,
                file,
                size,
                offset=piece.offset + begin,
                stride=piece.stride or None,
                direct=self.direct,
                name=f"{name} read",
                **columns,
            )
        return rows.add("close", readers, file=file, name=f"{name} close", **columns)


def _kind(files: Iterable[ShardFile]) -> _Kind:
    """Return what makes two ranks alike: the same files of the same sizes."""
    return tuple((file.holds, file.bytes, file.scope) for file in files)
