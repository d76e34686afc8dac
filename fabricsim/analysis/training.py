"""What a training run reached: step time, tokens, FLOP/s and utilisation, bubbles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from fabricsim.analysis.columns import COLLECTIVES, column, op_columns

__all__ = ["BETWEEN_STAGES", "TRAINING_GENERATOR", "training"]

#: The ``generator`` in the provenance of traces that this reads.
TRAINING_GENERATOR = "fabricsim.workload.llm"

#: Names of collectives whose ranks are of several pipeline stages.
BETWEEN_STAGES = ("gradient norm", "tied gradients")

#: The stream of compute, and of what it waits for.
_COMPUTE = 0


def training(ops: pa.Table, provenance: Mapping[str, Any]) -> dict[str, Any] | None:
    """Summarise a run of ``fabricsim.workload.llm``.

    Parameters
    ----------
    ops
        The table ``Result.ops``; a step that did not end is left out.
    provenance
        Of the trace.

    Returns
    -------
    dict
        ``steps_ps`` (from the first start of a step to its last end, checkpoints left out), ``step_ps``
        (their mean), ``tokens_per_s``, ``tokens_per_s_per_accelerator``, ``flops_per_s_per_accelerator`` (of
        the model), ``mfu`` and ``hfu`` (shares of the peak: of the model's operations, and of those done),
        ``bubble`` (share of the steps in which a rank only waits for another pipeline stage, mean of the
        ranks), and what the provenance says of ``memory``. None without a whole step.

    >>> ops = pa.table({"id": [0], "kind": ["compute"], "rank": [0], "start_ps": [0], "end_ps": [10**12],
    ...                 "bytes": [0], "stream": [0], "step": [0], "name": ["mb 0"]})
    >>> told = {"ranks": 1, "steps": 1, "tokens_per_step": 5, "model_flops_per_step": 50,
    ...         "done_flops_per_step": 60, "peak_flops_per_s": 100.0}
    >>> found = training(ops, told)
    >>> found["tokens_per_s"], found["mfu"], found["hfu"], found["bubble"]
    (5.0, 0.5, 0.6, 0.0)
    """
    whole = np.asarray(ops["end_ps"].is_valid().to_numpy())
    step, stream = column(ops, "step", -1), column(ops, "stream", -1)
    ours = (step >= 0) & ~_named(ops, lambda name: name.startswith("checkpoint "))
    main = ours & (stream == _COMPUTE)
    broken = np.unique(step[main & ~whole])
    main &= whole & ~np.isin(step, broken)
    if not main.any():
        return None
    start, end = column(ops, "start_ps"), column(ops, "end_ps")
    numbers, place = np.unique(step[main], return_inverse=True)
    begin, last = np.full(len(numbers), 2**62), np.zeros(len(numbers), np.int64)
    np.minimum.at(begin, place, start[main])
    np.maximum.at(last, place, end[main])
    steps_ps = last - begin
    step_s = float(steps_ps.mean()) / 1e12
    ranks = int(provenance["ranks"])
    tokens_per_s = provenance["tokens_per_step"] / step_s
    peak = ranks * provenance["peak_flops_per_s"] * step_s
    found: dict[str, Any] = {
        "steps": len(numbers),
        "step_ps": int(steps_ps.mean()),
        "steps_ps": steps_ps.tolist(),
        "tokens_per_s": tokens_per_s,
        "tokens_per_s_per_accelerator": tokens_per_s / ranks,
        "flops_per_s_per_accelerator": provenance["model_flops_per_step"] / step_s / ranks,
        "mfu": provenance["model_flops_per_step"] / peak,
        "hfu": provenance["done_flops_per_step"] / peak,
        "bubble": _bubble(ops, ours & whole & ~np.isin(step, broken), int(steps_ps.sum()), ranks),
    }
    if "memory" in provenance:
        found["memory"] = provenance["memory"]
    return found


def _named(ops: pa.Table, wanted: Callable[[str], bool]) -> np.ndarray:
    """Which operations have such a name."""
    names = ops["name"].combine_chunks()
    if isinstance(names, pa.ChunkedArray):
        names = names.chunk(0) if names.num_chunks else pa.array([], pa.string())
    if not pa.types.is_dictionary(names.type):
        names = names.dictionary_encode()
    code = names.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.array([wanted(name or "") for name in [*names.dictionary.to_pylist(), ""]])[code]


def _bubble(ops: pa.Table, mask: np.ndarray, total_ps: int, ranks: int) -> float:
    """The share of all ranks' steps in which they neither compute nor take part in a collective."""
    ops = ops.filter(pa.array(mask))
    columns = op_columns(ops)
    starts = columns.start.copy()
    # Where stages meet, those that are there early wait for the others: that is their bubble too.
    meet = columns.of_kind(*COLLECTIVES) & _named(ops, lambda name: name in BETWEEN_STAGES)
    if meet.any():
        group = column(ops, "group") if "group" in ops.column_names else np.zeros(len(starts), np.int64)
        _, place = np.unique(np.stack([columns.id[meet], group[meet]]), axis=1, return_inverse=True)
        last = np.zeros(place.max() + 1, np.int64)
        np.maximum.at(last, place.ravel(), starts[meet])
        starts[meet] = last[place.ravel()]
    busy = columns.of_kind("compute", *COLLECTIVES)
    rank, start, end = columns.rank[busy], starts[busy], columns.end[busy]
    order = np.lexsort((start, rank))
    rank, start, end = rank[order], start[order], end[order]
    # Ranks one behind another on one axis: then the union is that of plain intervals.
    far = int(end.max()) + 1
    start, end = start + (rank - rank.min()) * far, end + (rank - rank.min()) * far
    reached = np.maximum.accumulate(end)
    begins = np.concatenate([[True], start[1:] > reached[:-1]])
    ends = np.concatenate([begins[1:], [True]])
    covered = float((reached[ends] - start[begins]).sum())
    return max(0.0, 1.0 - covered / (float(total_ps) * ranks))
