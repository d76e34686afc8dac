"""What IOR is asked to do: its flags as values, checked together. Source: IOR's user documentation, 4.0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fabricsim.errors import ConfigError, Problem

__all__ = ["Ior"]

_SIZE = 8  # of an element: sizes are multiples


@dataclass(frozen=True, kw_only=True)
class Ior:
    """What IOR is to do; the flags' names and defaults are IOR's.

    Parameters
    ----------
    block_bytes, transfer_bytes, segments
        ``-b``, ``-t``, ``-s``: a task has in each segment one block, and moves it in transfers.
    repetitions
        ``-i``.
    write, read, check_write, check_read
        ``-w``, ``-r``, ``-W``, ``-R``; none of them: write and read. A check reads the data back; nothing
        is compared, as no data is kept (that all bytes arrive is checked by the core).
    file_per_task
        ``-F``: a file a task instead of one that they share.
    fsync, fsync_per_write
        ``-e``: fsync at the end of a write phase; ``-Y``: after each write.
    reorder, node_offset
        ``-C``: a task reads what one ``node_offset`` (``-Q``) nodes further has written.
    reorder_random, reorder_seed
        ``-Z``, ``-X``: it reads what one drawn at random has written, at least ``node_offset`` nodes away.
    random_offset
        ``-z``: transfers in random order.
    direct
        ``--posix.odirect``: around the client's cache.
    keep, existing, multi_file
        ``-k``: files stay; ``-E``: files that are there are not removed before a write; ``-m``: files of
        their own for each repetition.
    barriers
        ``-g``: barriers also between open, transfers and close.
    unique_dir
        ``-u``: a directory a task.
    delay_s
        ``-d``: before each phase.
    test_file
        ``-o``; one that does not begin with ``/`` lies in the first file system.
    reference, verbose
        ``-A``, ``-v``: told in the output.

    Raises
    ------
    ConfigError
        With everything that does not fit together.

    >>> Ior(block_bytes=16 << 20, transfer_bytes=1 << 20, segments=4).transfers_per_task
    64
    """

    block_bytes: int = 1 << 20
    transfer_bytes: int = 256 << 10
    segments: int = 1
    repetitions: int = 1
    write: bool = False
    read: bool = False
    check_write: bool = False
    check_read: bool = False
    file_per_task: bool = False
    fsync: bool = False
    fsync_per_write: bool = False
    reorder: bool = False
    reorder_random: bool = False
    reorder_seed: int = 0
    node_offset: int = 1
    random_offset: bool = False
    direct: bool = False
    keep: bool = False
    existing: bool = False
    multi_file: bool = False
    barriers: bool = False
    unique_dir: bool = False
    delay_s: int = 0
    test_file: str = "testFile"
    reference: int = 0
    verbose: int = 0

    def __post_init__(self) -> None:
        if not (self.write or self.read or self.check_write or self.check_read):
            object.__setattr__(self, "write", True)
            object.__setattr__(self, "read", True)
        problems = [
            Problem(flag, f"found {value}, allowed: at least {least}")
            for flag, value, least in (
                ("-b", self.block_bytes, _SIZE),
                ("-t", self.transfer_bytes, _SIZE),
                ("-s", self.segments, 1),
                ("-i", self.repetitions, 1),
                ("-d", self.delay_s, 0),
                ("-Q", self.node_offset, 0),
            )
            if value < least
        ]
        if not problems:
            problems += self._misfits()
        if problems:
            raise ConfigError(problems)

    def _misfits(self) -> Iterator[Problem]:
        if self.transfer_bytes % _SIZE:
            yield Problem("-t", f"found {self.transfer_bytes}, allowed: a multiple of {_SIZE} bytes")
        if self.block_bytes % self.transfer_bytes:
            text = f"found {self.block_bytes}, allowed: a multiple of -t, {self.transfer_bytes}"
            yield Problem("-b", text)
        if self.reorder and self.reorder_random:
            yield Problem("-Z", "found with -C, allowed: one of them")
        if self.random_offset and (self.reorder or self.reorder_random) and not self.file_per_task:
            yield Problem("-z", "found with -C or -Z on a shared file, allowed: with -F")
        if self.random_offset and self.check_read:
            yield Problem("-R", "found with -z, allowed: -W")
        if self.unique_dir and not self.file_per_task:
            yield Problem("-u", "allowed: with -F")
        if not self.test_file or self.test_file.endswith("/"):
            yield Problem("-o", f"found {self.test_file!r}, allowed: the path of a file")
        if self.verbose > 1:
            yield Problem("-v", f"found {self.verbose}, allowed: 0 and 1")

    @property
    def reads(self) -> bool:
        """Whether there is a read phase."""
        return self.read or self.check_read

    @property
    def transfers_per_task(self) -> int:
        """Transfers of a task in a phase, where offsets are not drawn at random."""
        return self.block_bytes // self.transfer_bytes * self.segments
