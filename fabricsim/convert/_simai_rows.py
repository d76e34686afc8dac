"""From a SimAI or ASTRA-sim 1.0 workload to rows: the order in which its simulators go through the layers.

Stream 0 holds compute and what the step waits for at once; stream 1 the collectives of weight gradients and
stream 2 those of input gradients that run beside compute; stream 3 the messages between pipeline stages.
A layer's forward waits for the weight gradients of the same layer in the step before.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache

from fabricsim.convert._table import TableRows
from fabricsim.convert.simai import PHASES, TRANSFORMERS, Layer, Workload

FORWARD, INPUT, WEIGHT = range(3)
_MAIN, _WEIGHTS, _INPUTS, _STAGES = range(4)


def build(work: Workload, steps: int, gathers_input: bool) -> tuple[TableRows, dict[str, int]]:
    """The rows of so many steps, and the numbers that they came from."""
    made = _Builder(work, gathers_input)
    for step in range(steps):
        made.step = step
        _ORDERS[work.parallelism](made)
    counts = {"ranks": work.ranks}
    if work.parallelism in TRANSFORMERS:
        dp = work.ranks // (work.tp * work.pp)
        counts |= {"tp": work.tp, "ep": work.ep, "dp": dp, "pp": work.pp}
    return made.rows, counts


class _Builder:
    """Rows so far, and what the next one on the main stream waits for."""

    def __init__(self, work: Workload, gathers_input: bool) -> None:
        self.work = work
        self.rows = TableRows()
        self.step = 0
        self.everyone = self.rows.rank_set(range(work.ranks))
        self.wait: list[int] = []
        self.last: int | None = None
        self.weights: dict[int, int] = {}
        self.inputs: dict[int, int] = {}
        self._gathers_input = gathers_input
        self._tag = 0
        # Without weights, cache on the method would keep the builder alive for ever.
        self._groups = cache(self._make_groups)

    def compute(self, layer: Layer, phase: int) -> None:
        """A phase's compute, on the main stream."""
        took = layer.phases[phase].compute_ps
        if took:
            self._main("compute", self.everyone, name=f"{layer.name} {PHASES[phase]}", duration_ps=took)

    def collective(self, index: int, phase: int) -> None:
        """A phase's collective and update; the main stream waits for them."""
        layer = self.work.layers[index]
        if self._issue(layer, phase, _MAIN) is not None and layer.update_ps:
            name = f"{layer.name} update"
            self._main("compute", self.everyone, name=name, duration_ps=layer.update_ps)

    def beside(self, index: int, phase: int) -> None:
        """A phase's collective and update beside the main stream, which waits when it is told to."""
        layer = self.work.layers[index]
        row = self._issue(layer, phase, _WEIGHTS if phase == WEIGHT else _INPUTS)
        if row is None:
            return
        if layer.update_ps:
            name = f"{layer.name} update"
            row = self._add("compute", self.everyone, name=name, duration_ps=layer.update_ps, after=[row])
        (self.weights if phase == WEIGHT else self.inputs)[index] = row

    def wait_weights(self, index: int) -> None:
        """Let the main stream wait for the weight gradients of a layer."""
        if index in self.weights:
            self.wait.append(self.weights.pop(index))

    def wait_inputs(self, index: int) -> None:
        """Let the main stream wait for the input gradients of a layer."""
        if index in self.inputs:
            self.wait.append(self.inputs.pop(index))

    def hand_over(self, forward: bool, *, receive: bool) -> None:
        """What a stage gets from the one before it (backward: behind it), or gives to the next."""
        size = self.work.numbers.get("pp_comm", 0)
        if self.work.pp == 1 or not size:
            return
        each = self.work.ranks // self.work.pp
        first, second = range(self.work.ranks - each), range(each, self.work.ranks)
        src, dst = (first, second) if forward else (second, first)
        if receive:
            self._tag += 1
        ends = {"bytes": size, "tag": self._tag, "name": "pipeline"}
        mine, peer = (dst, src) if receive else (src, dst)
        columns = ends | {"peer": self.rows.rank_set(peer)}
        if receive:
            self._main("recv", self.rows.rank_set(mine), **columns)
        else:
            after = [] if self.last is None else [self.last]
            self._add("send", self.rows.rank_set(mine), stream=_STAGES, after=after, **columns)

    def _issue(self, layer: Layer, phase: int, stream: int) -> int | None:
        part = layer.phases[phase]
        if part.kind is None or part.scope is None:
            return None
        ranks, size = self._groups(part.scope)
        if size == 1:
            hint = "; parameters of ZeRO-3: forward_groups=dp" if part.scope == "tp" else ""
            self.work.notes.count(f"collectives of {part.scope} groups of one rank left out{hint}")
            return None
        total = part.size * size if part.kind == "all_gather" and self._gathers_input else part.size
        columns: dict[str, object] = {"name": f"{layer.name} {PHASES[phase]}", "bytes": total}
        if size < self.work.ranks:
            columns["group_size"] = size
        if part.kind == "broadcast":
            columns["peer"] = self.rows.rank_set(self._roots(part.scope))
        if stream == _MAIN:
            return self._main(part.kind, ranks, **columns)
        after = [] if self.last is None else [self.last]
        return self._add(part.kind, ranks, stream=stream, after=after, **columns)

    def _main(self, kind: str, ranks: int, **columns: object) -> int:
        self.last = self._add(kind, ranks, stream=_MAIN, after=self.wait, **columns)
        self.wait = []
        return self.last

    def _add(self, kind: str, ranks: int, **columns: object) -> int:
        return self.rows.add(kind, ranks, step=self.step, **columns)

    def _roots(self, scope: str) -> list[int]:
        listed, size = self._listed(scope)
        return listed[::size]

    def _make_groups(self, scope: str) -> tuple[int, int]:
        listed, size = self._listed(scope)
        return self.rows.rank_set(listed), size

    def _listed(self, scope: str) -> tuple[list[int], int]:
        """All ranks, group behind group, and how many a group has."""
        n, tp, ep, pp = self.work.ranks, self.work.tp, self.work.ep, self.work.pp
        if scope == "all":
            return list(range(n)), n
        if scope in ("near", "far"):
            # Data groups of neighbours, model groups across them.
            size = n // tp
            return _strided(n, 1, size) if scope == "near" else _strided(n, size, tp)
        each = n // pp
        if scope == "tp":
            return _strided(n, 1, tp)
        if scope == "dp":
            return _strided(n, tp, each // tp)
        if scope == "ep":
            return _strided(n, tp, ep)
        return _strided(n, tp * ep, each // (tp * ep))


def _strided(n: int, stride: int, size: int) -> tuple[list[int], int]:
    """Groups of `size` ranks that are `stride` apart, block behind block."""
    block = stride * size
    ranks = [b + s + k * stride for b in range(0, n, block) for s in range(stride) for k in range(size)]
    return ranks, size


def _forward(made: _Builder, index: int) -> None:
    made.wait_weights(index)
    made.compute(made.work.layers[index], FORWARD)
    made.collective(index, FORWARD)


def _data(made: _Builder) -> None:
    for index, layer in enumerate(made.work.layers):
        made.wait_weights(index)
        made.compute(layer, FORWARD)
    for index in _backward(made):
        made.compute(made.work.layers[index], WEIGHT)
        made.beside(index, WEIGHT)
        if index:
            made.compute(made.work.layers[index], INPUT)


def _backward(made: _Builder) -> Iterator[int]:
    return reversed(range(len(made.work.layers)))


def _model(made: _Builder) -> None:
    """Input gradients travel while the weight gradients of the same layer are computed."""
    for index in range(len(made.work.layers)):
        _forward(made, index)
    for index in _backward(made):
        layer = made.work.layers[index]
        made.compute(layer, INPUT)
        if index:
            made.beside(index, INPUT)
        made.compute(layer, WEIGHT)
        made.beside(index, WEIGHT)
        made.wait_inputs(index)


def _transformer(made: _Builder) -> None:
    """Input gradients are waited for; activations between checkpoints are made anew."""
    work = made.work
    blocks = _micro_batches(work)
    starts, ends = {b.start for b in blocks}, {b.stop - 1 for b in blocks}
    for index in range(len(work.layers)):
        if index in starts:
            made.hand_over(True, receive=True)
        _forward(made, index)
        if index in ends:
            made.hand_over(True, receive=False)
    if work.numbers.get("mode"):
        return
    recompute = work.lists.get("checkpoint_initiates", [])
    if work.parallelism != "HYBRID_TRANSFORMER_FWD_IN_BCKWD":
        recompute = []
    for index in _backward(made):
        if index in ends:
            made.hand_over(False, receive=True)
        if index in recompute:
            first = max(c for c in work.lists["checkpoints"] if c <= index)
            for again in range(first, index):
                _forward(made, again)
        layer = work.layers[index]
        made.compute(layer, INPUT)
        made.collective(index, INPUT)
        made.compute(layer, WEIGHT)
        made.beside(index, WEIGHT)
        if index in starts:
            made.hand_over(False, receive=False)


def _micro_batches(work: Workload) -> list[range]:
    """The layers of each micro-batch: each begins with its embedding, and all have as many layers."""
    if work.pp == 1:
        return []
    if not work.numbers.get("pp_comm"):
        work.notes.warn(f"pp is {work.pp}, but line 1 has no pp_comm: the stages run beside each other")
        return []
    work.notes.warn(f"each of the {work.pp} pipeline stages runs the layers of the file")
    starts = [i for i, layer in enumerate(work.layers) if layer.name.startswith("embedding_layer")]
    gaps = {b - a for a, b in itertools.pairwise(starts)}
    tail = len(work.layers)
    while tail and work.layers[tail - 1].name.startswith(("cross_entropy", "optimizer")):
        tail -= 1
    if not starts or len(gaps) > 1 or starts[-1] >= tail:
        work.notes.warn("no micro-batches are recognised: all layers are one")
        return [range(len(work.layers))]
    size = gaps.pop() if gaps else tail - starts[0]
    if work.numbers.get("ga", len(starts)) != len(starts):
        work.notes.warn(f"ga is {work.numbers['ga']}, but {len(starts)} micro-batches are in the file")
    return [range(start, min(start + size, len(work.layers))) for start in starts]


def _dlrm(made: _Builder) -> None:
    """The all-to-all of layer 0 runs beside the bottom layers, forwards and backwards."""
    work, last = made.work, made.work.numbers["last_bottom"]
    for index, layer in enumerate(work.layers):
        made.wait_weights(index)
        made.compute(layer, FORWARD)
        if layer.phases[FORWARD].kind == "all_to_all":
            made.beside(index, FORWARD)
        elif index == last:
            made.wait_inputs(0)
    for index in _backward(made):
        layer = work.layers[index]
        made.compute(layer, WEIGHT)
        made.beside(index, WEIGHT)
        if index == 0:
            if work.parallelism == "HYBRID_DLRM":
                made.wait_inputs(0)
            break
        made.compute(layer, INPUT)
        if index == last + 1:
            made.beside(0, INPUT)


def _inference(made: _Builder) -> None:
    for index in range(len(made.work.layers)):
        _forward(made, index)


def _micro(made: _Builder) -> None:
    """Collectives one after another (ASTRA-sim itself runs the first line alone)."""
    for index in range(len(made.work.layers)):
        made.collective(index, WEIGHT)


_ORDERS = {
    "DATA": _data,
    "MODEL": _model,
    "HYBRID_DATA_MODEL": _model,
    "HYBRID_MODEL_DATA": _model,
    "HYBRID_TRANSFORMER": _transformer,
    "HYBRID_TRANSFORMER_FWD_IN_BCKWD": _transformer,
    "HYBRID_DLRM": _dlrm,
    "HYBRID_DLRM_ENHANCED": _dlrm,
    "HYBRID_CUSTOMIZED": _model,
    "DISTRIBUTED_INFERENCE": _inference,
    "MICRO": _micro,
}
