"""Checkpoints of training: which files of which bytes, and the traces that save and restore them."""

from fabricsim.checkpoint.mlperf import MLPERF, MlperfCheckpoint, mlperf_checkpoint
from fabricsim.checkpoint.parallel import ORDERS, Parallel
from fabricsim.checkpoint.plan import LAYOUTS, MODES, Plan
from fabricsim.checkpoint.restore import TIERS, restore_trace
from fabricsim.checkpoint.save import save_trace
from fabricsim.checkpoint.sizes import OPTIMISERS, PRECISIONS, SHARDINGS, Checkpoint, ShardFile

__all__ = [
    "LAYOUTS",
    "MLPERF",
    "MODES",
    "OPTIMISERS",
    "ORDERS",
    "PRECISIONS",
    "SHARDINGS",
    "TIERS",
    "Checkpoint",
    "MlperfCheckpoint",
    "Parallel",
    "Plan",
    "ShardFile",
    "mlperf_checkpoint",
    "restore_trace",
    "save_trace",
]
