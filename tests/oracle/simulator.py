"""One global heap of events, ordered by (time, network, what it is, key), and the trail of arrivals."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .fabric import Link
from .host import GaveUpError
from .plane import Plane
from .program import Op, Program

if TYPE_CHECKING:
    from .world import World


class TooLongError(Exception):
    """The world needs more events than the caller allows."""


class Simulator:
    """A world running; everything that changes is in here."""

    program_class: type[Program] = Program

    def __init__(self, world: World) -> None:
        self.now = 0
        self.count: Counter[str] = Counter()
        self.trail: list[tuple[int, ...]] = []
        self.gave_up_ps: int | None = None
        self._heap: list[tuple[Any, ...]] = []
        self._pushed = self._foreground = 0
        self.planes = [Plane(self, world.part(network), network) for network in world.networks]
        self.links: list[Link] = sorted(
            (link for plane in self.planes for link in plane.links), key=lambda link: link.name
        )
        self.program = self.program_class(self, [Op(row=i, **row) for i, row in enumerate(world.rows)], world)

    def at(
        self,
        when: int,
        network: int,
        what: int,
        key: int,
        action: Callable[..., None],
        *args: Any,
        background: bool = False,
    ) -> None:
        """Call ``action(*args)`` at a time; the run ends when only background events are left."""
        self._pushed += 1
        self._foreground += not background
        heapq.heappush(self._heap, (when, network, what, key, self._pushed, background, action, args))

    def run(self, most_events: int) -> None:
        """Run to the end, or until a connection gives up.

        Raises
        ------
        TooLongError
            After ``most_events``.
        """
        self.program.begin()
        events = 0
        try:
            while self._foreground:
                self.now, *_, background, action, args = heapq.heappop(self._heap)
                self._foreground -= not background
                action(*args)
                events += 1
                if events > most_events:
                    raise TooLongError
        except GaveUpError as error:
            self.gave_up_ps = error.when_ps
        self.count["drops"] = sum(link.drops for link in self.links)
        self.count["ecn_marks"] = sum(link.marks for link in self.links)
        self.trail.sort()
