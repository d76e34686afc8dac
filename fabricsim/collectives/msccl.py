"""MSCCL's XML: algorithms as its compiler writes them, read as graphs of sends and receives.

Format: Azure/msccl and microsoft/mscclang. ``algo`` has ``coll``, ``ngpus`` and ``nchunksperloop``; each
``gpu`` has thread blocks ``tb`` with the peers ``send`` and ``recv`` and a channel ``chan``; their ``step``
has ``type``, buffers and offsets of source and destination, ``cnt``, and the step it depends on.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from fabricsim.collectives.graph import Graph, Place, Step
from fabricsim.errors import InputError, Problem

__all__ = ["parse_msccl"]

_KINDS = {
    "allreduce": "all_reduce",
    "reduce_scatter": "reduce_scatter",
    "reducescatter": "reduce_scatter",
    "allgather": "all_gather",
    "alltoall": "all_to_all",
    "broadcast": "broadcast",
    "reduce": "reduce",
}
# What each type does, in order: r receive, + receive and add, s send on, c copy, a add.
_TYPES = {
    "s": "s",
    "r": "r",
    "rcs": "rs",
    "rrc": "+",
    "rrcs": "+s",
    "rrs": "+s",
    "cpy": "c",
    "re": "a",
    "nop": "",
}


def parse_msccl(text: str, where: str) -> Graph:
    """Read MSCCL's XML.

    Raises
    ------
    InputError
        When it is no such XML; with the element.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError([Problem(where, "has a document type or entities, allowed: plain elements")])
    try:
        algo = ET.fromstring(text)
    except ET.ParseError as error:
        raise InputError([Problem(where, f"not XML: {error}")]) from None
    return _Parser(where).graph(algo)


class _Parser:
    def __init__(self, where: str) -> None:
        self.where = where

    def fail(self, place: str, text: str) -> InputError:
        return InputError([Problem(f"{self.where}:{place}", text)])

    def number(self, element: ET.Element, key: str, place: str, default: int | None = None) -> int:
        text = element.get(key)
        if text is None and default is not None:
            return default
        try:
            return int(text or "")
        except ValueError:
            raise self.fail(place, f"{key}: found {text!r}, allowed: a whole number") from None

    def graph(self, algo: ET.Element) -> Graph:
        if algo.tag != "algo":
            raise self.fail(algo.tag, "allowed: the element algo")
        coll = (algo.get("coll") or "").lower()
        if coll not in _KINDS:
            raise self.fail("algo", f"coll: found {algo.get('coll')!r}, allowed: {', '.join(_KINDS)}")
        n = self.number(algo, "ngpus", "algo")
        chunks = self.number(algo, "nchunksperloop", "algo")
        if not (1 <= n <= 4096 and 1 <= chunks <= 65_536):
            raise self.fail(
                "algo", f"found ngpus {n} and nchunksperloop {chunks}, allowed: 1 to 4096 and 65536"
            )
        self.kind, self.n, self.chunks = _KINDS[coll], n, chunks
        if self.kind in ("reduce_scatter", "all_gather", "all_to_all") and chunks % n:
            raise self.fail("algo", f"nchunksperloop: found {chunks}, allowed: a multiple of the {n} GPUs")
        gpus = {self.number(gpu, "id", "gpu"): gpu for gpu in algo.iter("gpu")}
        if sorted(gpus) != list(range(n)):
            raise self.fail("algo", f"found GPUs {sorted(gpus)[:16]}, allowed: each of 0 to {n - 1} once")
        threads = tuple(self.gpu(gpus[rank], rank) for rank in range(n))
        return Graph(algo.get("name") or "", self.kind, n, chunks, threads, 0, self.where)

    def gpu(self, gpu: ET.Element, rank: int) -> tuple[tuple[Step, ...], ...]:
        blocks = sorted(gpu.iter("tb"), key=lambda tb: self.number(tb, "id", f"gpu {rank}"))
        ids = [self.number(tb, "id", f"gpu {rank}") for tb in blocks]
        if ids != list(range(len(blocks))):
            raise self.fail(f"gpu {rank}", f"found tb {ids[:16]}, allowed: 0 to {len(blocks) - 1}")
        made: list[list[Step]] = []
        # Where the steps of the file are among ours: (block, step) -> the last of them.
        last: list[list[int]] = []
        waits: list[list[tuple[int, int] | None]] = []
        for tb, block in enumerate(blocks):
            steps: list[Step] = []
            ends: list[int] = []
            deps: list[tuple[int, int] | None] = []
            for s, step in enumerate(block.iter("step")):
                place = f"gpu {rank}, tb {tb}, step {s}"
                parts = self.step(step, block, rank, place)
                dep = self.number(step, "depid", place, -1), self.number(step, "deps", place, -1)
                for i, part in enumerate(parts):
                    deps.append(dep if i == 0 and min(dep) >= 0 else None)
                    steps.append(part)
                if not parts and min(dep) >= 0:  # a nop that waits: what follows waits
                    deps.append(dep)
                    steps.append(Step("copy", -1, ("tmp", 0), 0, ("tmp", 0)))
                ends.append(len(steps) - 1)
            made.append(steps)
            last.append(ends)
            waits.append(deps)
        return tuple(
            tuple(
                self.waiting(step, waits[tb][i], last, f"gpu {rank}, tb {tb}") for i, step in enumerate(steps)
            )
            for tb, steps in enumerate(made)
        )

    def waiting(self, step: Step, dep: tuple[int, int] | None, last: list[list[int]], place: str) -> Step:
        if dep is None:
            return step
        block, number = dep
        if block >= len(last) or number >= len(last[block]):
            raise self.fail(place, f"depends on tb {block}, step {number}: there is none")
        after = ((block, last[block][number]),) if last[block][number] >= 0 else ()
        return Step(step.op, step.peer, step.place, step.count, step.source, step.channel, after)

    def step(self, step: ET.Element, block: ET.Element, rank: int, place: str) -> list[Step]:
        kind = step.get("type") or ""
        if kind not in _TYPES:
            raise self.fail(place, f"type: found {kind!r}, allowed: {', '.join(_TYPES)}")
        channel = self.number(block, "chan", place, 0)
        count = self.number(step, "cnt", place, 1)
        send, recv = self.number(block, "send", place, -1), self.number(block, "recv", place, -1)
        made = []
        whole = _TYPES[kind]
        # What only goes on is added up where it is; what is only sent has no target.
        source_end = "dst" if whole in ("r", "rs") else "src"
        source = self.place(step, source_end, rank, count, place) if whole else ("in", 0)
        target_end = "src" if kind in ("s", "rrs") else "dst"
        target = self.place(step, target_end, rank, count, place) if whole else ("in", 0)
        if kind == "rrs":  # the sum is sent on and kept nowhere
            target = ("sum", target[1])
        if whole.startswith("+") and source != target:
            made.append(Step("copy", -1, target, count, source))
        for what in whole:
            if what in "r+s":
                peer = send if what == "s" else recv
                if not 0 <= peer < self.n or peer == rank:
                    side = "send" if what == "s" else "recv"
                    raise self.fail(place, f"{side} of the tb: found {peer}, allowed: another GPU")
                op = {"r": "recv", "+": "recv_reduce", "s": "send"}[what]
                made.append(Step(op, peer, target, count, None, channel))
            else:
                made.append(Step("copy" if what == "c" else "reduce", -1, target, count, source))
        return made

    def place(self, step: ET.Element, end: str, rank: int, count: int, place: str) -> Place:
        buffer = step.get(f"{end}buf") or "i"
        offset = self.number(step, f"{end}off", place, 0)
        names = {"i": "in", "o": "out", "s": "tmp"}
        if buffer not in names or offset < 0 or count < 1:
            raise self.fail(place, f"found {end} {buffer}:{offset} and {count} chunks, allowed: i, o or s")
        name = names[buffer]
        part = self.chunks // self.n
        if self.kind == "all_gather" and name == "in":
            offset += rank * part  # the input is the rank's own part of the output
        if self.kind == "reduce_scatter" and name == "out":
            offset += rank * part
        if name != "tmp" and offset + count > self.chunks:
            raise self.fail(place, f"found {end} {buffer}:{offset} and {count} chunks of {self.chunks}")
        return ("in" if self.kind != "all_to_all" and name == "out" else name, offset)
