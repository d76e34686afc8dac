"""Checkpoints of training: which files of which bytes, and the traces that save and restore them."""

from fabricsim.checkpoint.mlperf import MLPERF, MlperfCheckpoint, mlperf_checkpoint
from fabricsim.checkpoint.parallel import Parallel
from fabricsim.checkpoint.sizes import OPTIMISERS, PRECISIONS, SHARDINGS, Checkpoint, ShardFile

__all__ = [
    "MLPERF",
    "OPTIMISERS",
    "PRECISIONS",
    "SHARDINGS",
    "Checkpoint",
    "MlperfCheckpoint",
    "Parallel",
    "ShardFile",
    "mlperf_checkpoint",
]
