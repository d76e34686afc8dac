"""IOR and mdtest on an emulated cluster: their phases as traces, and their own tables.

Both make a trace of storage operations, replay it, and take the times that the tools would have taken.
"""

from __future__ import annotations

from fabricsim.storage_bench.ior import Ior, IorResult, Transfer, ior_trace, run_ior
from fabricsim.storage_bench.mdtest import Mdtest, MdtestResult, mdtest_trace, run_mdtest

__all__ = [
    "Ior",
    "IorResult",
    "Mdtest",
    "MdtestResult",
    "Transfer",
    "ior_trace",
    "mdtest_trace",
    "run_ior",
    "run_mdtest",
]
