"""In which order a pipeline stage runs its micro-batches: 1F1B, and interleaved, as Megatron-LM does.

Source: Narayanan et al., SC21 (arXiv 2104.04473), section 2.2; megatron/core/pipeline_parallel/schedules.py.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Pass", "layers_of", "passes"]


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of a micro-batch through a chunk of a stage's layers; both count from 0."""

    forward: bool
    micro_batch: int
    chunk: int


def passes(stage: int, stages: int, micro_batches: int, chunks: int = 1) -> list[Pass]:
    """Return the passes of a stage in order: warm-up, one forward and one backward in turn, cool-down.

    Parameters
    ----------
    stage, stages
        Which of how many, from 0.
    micro_batches
        Of a step; with several chunks a multiple of ``stages``.
    chunks
        Of each stage; 1 is plain 1F1B.

    >>> "".join("BF"[p.forward] for p in passes(0, 4, 4)), "".join("BF"[p.forward] for p in passes(3, 4, 4))
    ('FFFFBBBB', 'FBFBFBFB')
    """
    total = micro_batches * chunks
    if chunks == 1:
        warm_up = min(stages - stage - 1, total)
    else:
        warm_up = min(2 * (stages - stage - 1) + (chunks - 1) * stages, total)

    def at(index: int, forward: bool) -> Pass:
        turn, place = divmod(index, stages * chunks)
        if chunks == 1:
            return Pass(forward, index, 0)
        chunk = place // stages
        return Pass(forward, turn * stages + place % stages, chunk if forward else chunks - 1 - chunk)

    found = [at(index, True) for index in range(warm_up)]
    for index in range(total - warm_up):
        found += [at(warm_up + index, True), at(index, False)]
    return found + [at(index, False) for index in range(total - warm_up, total)]


def layers_of(layers: int, stages: int, chunks: int = 1) -> list[list[range]]:
    """Return which layers each chunk of each stage has: found[stage][chunk].

    Layers are spread evenly. Where that does not come out even, embedding and output are counted as a layer
    each, as for Llama 3 405B (arXiv 2407.21783, section 3.3.2); where that does not either, the first chunks
    have one more.

    >>> [len(chunks[0]) for chunks in layers_of(126, 16)]
    [7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 7]
    """
    parts = stages * chunks
    sizes = [layers // parts + (index < layers % parts) for index in range(parts)]
    if layers % parts and (layers + 2) % parts == 0 and parts > 1:
        sizes = [(layers + 2) // parts] * parts
        sizes[0] -= 1
        sizes[-1] -= 1
    found: list[list[range]] = [[] for _ in range(stages)]
    first = 0
    for index, size in enumerate(sizes):  # chunk c of all stages comes before chunk c + 1 of the first
        found[index % stages].append(range(first, first + size))
        first += size
    return found
