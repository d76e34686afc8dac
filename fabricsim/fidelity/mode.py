"""The levels of detail that a replay has, what each of them cannot do, and how its run is made."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from fabricsim.errors import ConfigError, Problem, unknown_name
from fabricsim.trace.schema import KIND_CODE, KINDS, STORAGE

if TYPE_CHECKING:
    from fabricsim.program import Program

__all__ = ["Fidelity", "check_fidelity", "open_flow"]


class Fidelity(StrEnum):
    """How much detail a replay has."""

    #: Every packet, at every link.
    PACKET = "packet"
    #: Flows that share links; what each takes alone comes from packets.
    HYBRID = "hybrid"
    #: Flows that share links; what each takes alone is worked out.
    FLOW = "flow"


def check_fidelity(name: str) -> list[Problem]:
    """Return what is wrong with the name of a level of detail.

    >>> check_fidelity("flow")
    []
    """
    if name in tuple(Fidelity):
        return []
    return [Problem("fidelity", unknown_name("fidelity", name, [str(mode) for mode in Fidelity]))]


def open_flow(
    program: Program,
    fidelity: Fidelity,
    *,
    seed: int,
    threads: int = 1,
    told: Callable[[int], None] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Make the run of a program as flows.

    Parameters
    ----------
    program
        A compiled program.
    fidelity
        ``hybrid`` or ``flow``.
    seed, threads
        Of the draws; of the packet runs of ``hybrid``.
    told
        Called with the packet-hops emulated so far.

    Returns
    -------
    engine.Flow
        Not started.
    dict
        ``mode``, ``activities``, and of ``hybrid`` what ``Costs.summary`` tells.

    Raises
    ------
    ConfigError
        When the cluster or the trace needs packets; names everything that does.
    """
    from fabricsim._core import engine

    _refuse(program, fidelity)
    summary: dict[str, Any] = {"mode": str(fidelity)}
    costs: dict[str, Any] | None = None
    if fidelity is Fidelity.HYBRID:
        from fabricsim.fidelity.costs import hybrid_costs

        found = hybrid_costs(program, seed=seed, threads=threads, told=told)
        costs = {"latency_ps": found.latency_ps, "work_ps": found.work_ps}
        summary |= found.summary()
    summary["activities"] = len(engine.Flow.activities(program.engine)["op"])
    flow = engine.Flow(program.model.engine, program.engine, seed=seed, costs=costs)
    return flow, summary


def _refuse(program: Program, fidelity: Fidelity) -> None:
    found = []
    if program.model.cluster.faults is not None:
        found.append("[faults] of the cluster")
    if program.model.topology.circuits is not None:
        found.append("circuits of the topology")
    codes = [KIND_CODE[kind] for kind in KINDS if kind in STORAGE]
    present = np.intersect1d(program.lowered["kind"].to_numpy(), codes)
    if present.size:
        found.append("storage operations: " + ", ".join(KINDS[code] for code in present.tolist()))
    if found:
        text = f"found {str(fidelity)!r} with {{}}, allowed with that: {str(Fidelity.PACKET)!r}"
        raise ConfigError([Problem("fidelity", text.format(what)) for what in found])
