"""What several checks need: a star of hosts, and a run that can be looked at while it goes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fabricsim.cluster import Cluster
from fabricsim.program import Model, build_program, compile
from fabricsim.trace import Trace
from fabricsim.workload import flows

__all__ = ["bytes_sent", "compile_star", "first_times", "start", "uplinks"]


def compile_star(hosts: int, rate: str, latency: str, **sections: dict[str, Any]) -> Model:
    """Compile hosts around one switch; ``latency`` is that of each of the two cables of a path."""
    topology = {"kind": "star", "hosts": hosts, "rate": rate, "latency": latency}
    return compile(Cluster.from_dict({"name": "star", "topology": topology, **sections}))


def start(model: Model, work: Trace | Iterable[tuple[int, int, int, int]], **options: Any) -> Any:
    """Return a run of a trace, or of flows (source, target, bytes, start in ps), to be stepped."""
    from fabricsim._core import engine

    program = build_program(model, work if isinstance(work, Trace) else flows(work))
    return engine.Run(program.model.engine, program.engine, **options)


def uplinks(model: Model) -> np.ndarray:
    """Return the directed link of each host to its switch, by host."""
    topology = model.topology
    links = np.full(topology.n_hosts, -1)
    for cable, (a, b) in enumerate(zip(topology.cable_a, topology.cable_b, strict=True)):
        for end, link in ((a, 2 * cable), (b, 2 * cable + 1)):
            if end < topology.n_hosts:
                links[end] = link
    return links


def bytes_sent(run: Any, links: np.ndarray, from_ps: int, until_ps: int) -> np.ndarray:
    """Step a run to ``until_ps``; return what each of the links carried since ``from_ps``, in bytes."""
    run.step(from_ps)
    before = run.links()["bytes"][links]
    run.step(until_ps)
    return np.asarray(run.links()["bytes"][links] - before)


def first_times(run: Any, counters: Iterable[str], every_ps: int, until_ps: int) -> dict[str, int]:
    """Step a run in slices; return the end of the slice in which each counter first was above 0."""
    found: dict[str, int] = {}
    wanted = set(counters)
    now, finished = 0, False
    while not finished and now < until_ps and len(found) < len(wanted):
        now += every_ps
        finished = run.step(now)
        totals = run.counters()
        found |= {name: now for name in wanted - found.keys() if totals[name]}
    return found
