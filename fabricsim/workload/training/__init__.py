"""Training of large language models: from a model and a parallel layout to the trace of its steps.

>>> from fabricsim.workload.training import Training, llm
>>> llm(Training(model="gpt2", n_ranks=8, tensor=2, global_batch_seqs=8, sequence_tokens=1024)).n_ranks
8
"""

from fabricsim.workload.training.footprint import Footprint, memory
from fabricsim.workload.training.layout import GROUPS, Layout
from fabricsim.workload.training.options import ALIASES, Training
from fabricsim.workload.training.step import llm

__all__ = ["ALIASES", "GROUPS", "Footprint", "Layout", "Training", "llm", "memory"]
