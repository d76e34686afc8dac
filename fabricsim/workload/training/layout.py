"""Where the ranks of a training stand: tensor, context, data, pipeline and expert parallelism.

Ranks are numbered as Megatron-LM numbers them by default (``tp-cp-ep-dp-pp``): the ranks of a tensor-parallel
group are neighbours, then come context and data parallelism, and pipeline stages are farthest apart. Experts
have a grid of their own over the ranks of a stage: first the ranks that share an expert, then those that
share the experts of a layer, then the replicas of these.

>>> layout = Layout(tensor=2, data=2, pipeline=2)
>>> layout.groups()["tp"], layout.groups()["dp"]
([[0, 1], [2, 3], [4, 5], [6, 7]], [[0, 2], [1, 3], [4, 6], [5, 7]])
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fabricsim.checkpoint.parallel import Parallel

__all__ = ["GROUPS", "Layout"]

Ranks = npt.NDArray[np.int32]

#: Kinds of groups inside a pipeline stage, and who is in one.
GROUPS: dict[str, str] = {
    "tp": "share each matrix",
    "cp": "share each sequence",
    "dp": "have the same parameters and other sequences",
    "dp_cp": "have the same parameters: these gradients are reduced over",
    "shard": "of dp_cp, share the parameters (all, but with hybrid sharding)",
    "replica": "of dp_cp, have the same shard",
    "ep": "share the experts of a layer",
    "etp": "share each expert",
    "edp": "have the same experts",
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Degrees of parallelism, each at least 1; ``shard`` divides data x context.

    Parameters
    ----------
    tensor, context, data, pipeline
        Their product is the number of ranks.
    expert, expert_tensor
        Their product divides tensor x context x data.
    shard
        Ranks that share the parameters under hybrid sharding.
    """

    tensor: int = 1
    context: int = 1
    data: int = 1
    pipeline: int = 1
    expert: int = 1
    expert_tensor: int = 1
    shard: int = 1

    @property
    def stage_ranks(self) -> int:
        """Ranks of a pipeline stage."""
        return self.tensor * self.context * self.data

    @property
    def parallel(self) -> Parallel:
        """The same, as checkpoints have it: context parallelism is data parallelism to them."""
        return Parallel(tp=self.tensor, pp=self.pipeline, dp=self.data * self.context, ep=self.expert)

    def size(self, kind: str) -> int:
        """Return the number of ranks in a group of a kind."""
        return self._grids[kind].shape[1]

    def ranks(self, stage: int, kind: str = "tp") -> Ranks:
        """Return the ranks of a stage, int32[stage_ranks], group after group of a kind."""
        return self._ordered[kind] + np.int32(stage * self.stage_ranks)

    def following(self, stage: int, hops: int = 1) -> Ranks:
        """Return for each of ``ranks(stage, "cp")`` the one that comes ``hops`` after it in its group."""
        return np.roll(self._grids["cp"], -hops, axis=1).ravel() + np.int32(stage * self.stage_ranks)

    @cached_property
    def _ordered(self) -> dict[str, Ranks]:
        return {kind: np.ascontiguousarray(grid).ravel() for kind, grid in self._grids.items()}

    @cached_property
    def _grids(self) -> dict[str, Ranks]:
        """The ranks of the first stage, a row for each group of a kind."""
        stage = np.arange(self.stage_ranks, dtype=np.int32)
        dense = stage.reshape(self.data, self.context, self.tensor)
        flat = stage.reshape(self.data * self.context, self.tensor)
        cut = stage.reshape(-1, self.shard, self.tensor)
        experts = stage.reshape(-1, self.expert, self.expert_tensor)
        return {
            "tp": flat,
            "cp": dense.transpose(0, 2, 1).reshape(-1, self.context),
            "dp": dense.transpose(1, 2, 0).reshape(-1, self.data),
            "dp_cp": flat.T,
            "shard": cut.transpose(0, 2, 1).reshape(-1, self.shard),
            "replica": cut.transpose(1, 2, 0).reshape(-1, len(cut)),
            "ep": experts.transpose(0, 2, 1).reshape(-1, self.expert),
            "etp": experts.reshape(-1, self.expert_tensor),
            "edp": experts.transpose(1, 2, 0).reshape(-1, len(experts)),
        }

    def groups(self) -> dict[str, list[list[int]]]:
        """Return the groups of every kind of ``GROUPS``, and of ``pp``: one rank of each stage."""
        found = {
            kind: [
                row for stage in range(self.pipeline) for row in (grid + stage * self.stage_ranks).tolist()
            ]
            for kind, grid in self._grids.items()
        }
        found["pp"] = np.arange(self.stage_ranks * self.pipeline).reshape(self.pipeline, -1).T.tolist()
        return found
