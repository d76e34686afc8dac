"""The checkpoints of MLPerf Storage 2.0, as its generator DLIO counts them: byte for byte, rank by rank.

DLIO cuts each tensor for itself and drops remainders, keeps norms whole on every tensor-parallel rank, and
adds five rows of the width to each of the optimiser's three arrays. Layer 0 is the embedding, layers n+1 and
n+2 are the output and the last norm. Sources: argonne-lcf/dlio_benchmark, base_checkpointing.py;
mlcommons/storage, configs/dlio/workload/llama3_*.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fabricsim.checkpoint.parallel import Parallel, Place
from fabricsim.checkpoint.sizes import ShardFile
from fabricsim.errors import ConfigError, unknown_name
from fabricsim.workload.shapes import part

__all__ = ["MLPERF", "MlperfCheckpoint", "mlperf_checkpoint"]

WEIGHT_BYTES, STATE_BYTES = 2, 4


@dataclass(frozen=True, kw_only=True)
class MlperfCheckpoint:
    """A checkpoint of MLPerf Storage.

    Parameters
    ----------
    name
        Of the workload.
    layers, hidden, heads, kv_heads, ffn, vocab
        Dimensions, as the benchmark's configuration has them.
    tp, pp, dp
        Degrees of parallelism; ranks count tp first, then pp.
    stage
        Of ZeRO: 1 (weights by the first data-parallel rank, a file a layer with pp > 1) or 3.

    >>> mlperf_checkpoint("llama3-8b").total_bytes
    112425623552
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    tp: int = 1
    pp: int = 1
    dp: int = 1
    stage: int = 3

    def __post_init__(self) -> None:
        if self.stage not in (1, 3) or (self.stage == 3 and self.pp > 1):
            raise ConfigError([f"stage: found {self.stage} with pp {self.pp}, allowed: 1, or 3 with pp 1"])

    @cached_property
    def parallel(self) -> Parallel:
        """The degrees of parallelism."""
        return Parallel(tp=self.tp, pp=self.pp, dp=self.dp, order="tp-pp-dp")

    @cached_property
    def _attention(self) -> tuple[int, int]:
        """Elements of queries, keys and values together, and of the output projection."""
        kv_width = self.hidden // self.heads * self.kv_heads
        return self.hidden * (self.hidden + 2 * kv_width), self.hidden * self.hidden

    @property
    def parameters(self) -> int:
        """Weights of the model."""
        layer = sum(self._attention) + 3 * self.hidden * self.ffn + 2 * self.hidden
        return 2 * self.vocab * self.hidden + self.layers * layer + self.hidden

    def _layer_bytes(self, index: int) -> int:
        """Return the bytes of a layer's weights on a rank; each tensor's remainder is dropped."""
        parts = self.dp if self.stage == 3 else 1
        if index in (0, self.layers + 1):
            tensors = [self.vocab * self.hidden // self.tp]
        elif index == self.layers + 2:
            tensors = [self.hidden]
        else:
            matrices = (*self._attention, 2 * self.hidden * self.ffn, self.hidden * self.ffn)
            tensors = [self.hidden, self.hidden, *(elements // self.tp for elements in matrices)]
        return WEIGHT_BYTES * sum(elements // parts for elements in tensors)

    def _layers_of(self, stage: int) -> range:
        first = 1 + sum(part(self.layers, self.pp, before) for before in range(stage))
        last = first + part(self.layers, self.pp, stage) - 1
        return range(0 if stage == 0 else first, (self.layers + 2 if stage == self.pp - 1 else last) + 1)

    def _weights_of(self, rank: int, place: Place) -> list[ShardFile]:
        model = self.parallel.model_rank(place)
        sizes = {index: self._layer_bytes(index) for index in self._layers_of(place.pp)}
        whole = sum(sizes.values())
        if self.stage == 3:
            name = f"zero_pp_rank_{place.dp}_mp_rank_{model}_model_states"
            return [ShardFile(rank, name, whole, "weights")]
        if place.dp:
            return []
        if self.pp == 1:
            return [ShardFile(rank, f"model_{model}_model_states", whole, "weights", "data")]
        return [
            ShardFile(rank, f"layer_{index}-model_{model}_model_states", size, "weights", "data")
            for index, size in sizes.items()
        ]

    @cached_property
    def files(self) -> tuple[ShardFile, ...]:
        """Every file, by rank."""
        state = STATE_BYTES * 3 * (self.parameters // self.parallel.world + 5 * self.hidden)
        found: list[ShardFile] = []
        for rank, place in self.parallel.places():
            found += self._weights_of(rank, place)
            name = f"zero_pp_rank_{place.dp}_mp_rank_{self.parallel.model_rank(place)}_optim_states"
            found.append(ShardFile(rank, name, state, "optimiser"))
        return tuple(found)

    def gradients(self) -> list[tuple[list[int], int]]:
        """Return (ranks, bytes) of the all-reduces of a step's gradients, in 16 bits."""
        if self.dp == 1:
            return []
        whole = dict.fromkeys(range(self.pp), 0)
        for stage in whole:
            size = sum(self._layer_bytes(index) for index in self._layers_of(stage))
            whole[stage] = size * (self.dp if self.stage == 3 else 1)
        return [(ranks, whole[pp]) for _, pp, ranks in self.parallel.data_groups()]

    @cached_property
    def total_bytes(self) -> int:
        """The bytes of all files."""
        return sum(file.bytes for file in self.files)


_VOCAB = 128256

#: The workloads of MLPerf Storage 2.0 with the degrees of parallelism of its closed division.
MLPERF: dict[str, MlperfCheckpoint] = {
    one.name: one
    for one in (
        MlperfCheckpoint(
            name="llama3-8b", layers=32, hidden=4096, heads=32, kv_heads=8, ffn=14336, vocab=_VOCAB, dp=8
        ),
        MlperfCheckpoint(
            name="llama3-70b", layers=80, hidden=8192, heads=128, kv_heads=8, ffn=28672, vocab=_VOCAB,
            tp=8, dp=8,
        ),
        MlperfCheckpoint(
            name="llama3-405b", layers=126, hidden=16384, heads=128, kv_heads=8, ffn=53248, vocab=_VOCAB,
            tp=8, pp=32, dp=2, stage=1,
        ),
        MlperfCheckpoint(
            name="llama3-1t", layers=128, hidden=25872, heads=192, kv_heads=32, ffn=98304, vocab=_VOCAB,
            tp=8, pp=64, dp=2, stage=1,
        ),
    )
}  # fmt: skip


def mlperf_checkpoint(name: str) -> MlperfCheckpoint:
    """Return a workload of MLPerf Storage by name; ConfigError when there is none."""
    if name not in MLPERF:
        raise ConfigError([unknown_name("MLPerf checkpoint", name, MLPERF)])
    return MLPERF[name]
