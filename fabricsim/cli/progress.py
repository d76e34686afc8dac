"""The progress of a run on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fabricsim.run import Progress

__all__ = ["showing"]

_LINE_EVERY_S = 2.0


@contextlib.contextmanager
def showing(wanted: bool | None) -> Iterator[Callable[[Progress], None] | None]:
    """Give a function for ``replay(progress=…)``, or None; ``wanted`` None means: on a terminal."""
    terminal = sys.stderr.isatty()
    if wanted is False or (wanted is None and not terminal):
        yield None
    elif terminal:
        with _bar() as update:
            yield update
    else:
        yield _Lines()


def _describe(progress: Progress) -> str:
    from fabricsim.units import format_time

    rate = progress.packet_hops / max(progress.wall_s, 1e-9) / 1e6
    return f"{format_time(progress.now_ps)} emulated, {rate:.1f} M packet-hops/s"


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("operations"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, detail="")

        def update(progress: Progress) -> None:
            bar.update(
                task, total=progress.total_ops, completed=progress.done_ops, detail=_describe(progress)
            )

        yield update


class _Lines:
    def __init__(self) -> None:
        self.last = 0.0
        self.done = False

    def __call__(self, progress: Progress) -> None:
        done = progress.done_ops == progress.total_ops
        if not self.done and (done or progress.wall_s - self.last >= _LINE_EVERY_S):
            self.last, self.done = progress.wall_s, done
            text = f"{progress.done_ops} of {progress.total_ops} operations, {_describe(progress)}"
            print(text, file=sys.stderr, flush=True)
