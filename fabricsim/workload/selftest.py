"""A small run with a known digest: whether the compiled core does here what it did where it was tested."""

from __future__ import annotations

from fabricsim.trace import Trace
from fabricsim.workload.rows import Rows

__all__ = ["SELF_TEST_DIGEST", "self_test"]

#: The digest of the run of ``self_test``; a change to it belongs into CHANGELOG.md with its reason.
SELF_TEST_DIGEST = "b0847eed663546a7"

_HOSTS = 16


def _trace() -> Trace:
    rows = Rows(generator="fabricsim.workload.selftest")
    everyone = range(_HOSTS)
    rows.add("compute", everyone, duration_ps=1_000_000, stream=0)
    rows.add("all_reduce", everyone, bytes=1 << 20, stream=0)
    rows.add("all_to_all", everyone, bytes=1 << 18, stream=0)
    for source in range(1, 6):
        rows.add("send", [source], peer=[0], bytes=200_000, tag=source)
        rows.add("recv", [0], peer=[source], bytes=200_000, tag=source)
    rows.add("barrier", everyone, stream=0)
    return rows.trace()


def self_test() -> dict[str, str]:
    """Run a mixed workload on 16 hosts in three ways and return the digest of each; all must be equal.

    Returns
    -------
    dict
        ``one thread``, ``two threads`` and ``plain`` (the reference windows).
    """
    from fabricsim._core import engine
    from fabricsim.cluster import Cluster
    from fabricsim.program import build_program, compile

    topology = {"kind": "fat_tree", "k": 4, "rate": "100Gbps", "latency": "500ns"}
    program = build_program(compile(Cluster.from_dict({"name": "self-test", "topology": topology})), _trace())
    found = {}
    for name, options in (
        ("one thread", {"threads": 1}),
        ("two threads", {"threads": 2}),
        ("plain", {"plain": True}),
    ):
        run = engine.Run(program.model.engine, program.engine, seed=1, **options)
        while not run.step(run.now_ps + 1_000_000_000):
            pass
        found[name] = str(run.digest)
    return found
