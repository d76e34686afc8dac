"""What a layer does, forward and backward: kernels, and the messages between and beside them.

A pass is a list of items, one after another: ``Work`` (kernels), ``Message`` (a collective, exposed), and
``Beside`` (work, with messages that run at the same time; what comes next waits for both). Sources:
Megatron-LM (arXiv 1909.08053, section 3), sequence parallelism (arXiv 2205.05198, section 4.2), Transformer
Engine's user buffers, ring attention (arXiv 2310.01889) and its form in Transformer Engine, GShard (arXiv
2006.16668).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from fabricsim.compute import Kernel, KernelClass, flops_of, kernel_ps
from fabricsim.compute.transformer import (
    Micro,
    Piece,
    embedding_backward,
    embedding_forward,
    output_backward,
    output_forward,
    pieces,
)
from fabricsim.workload.training.options import Training

__all__ = ["Beside", "Item", "Message", "Parts", "Work", "split"]

#: Chunks of a multiplication whose result is reduce-scattered chunk by chunk (Transformer Engine's default).
SCATTER_CHUNKS = 4


@dataclass(frozen=True, slots=True)
class Work:
    """Kernels one after another."""

    name: str
    kernels: tuple[Kernel, ...]

    @property
    def flops(self) -> int:
        """Operations of all of them."""
        return flops_of(self.kernels)


@dataclass(frozen=True, slots=True)
class Message:
    """A collective in each group of a kind, ``count`` times; ``bytes`` as the trace counts them.

    Kind ``ring`` is an exchange: each rank sends so many bytes to the next of its group.
    """

    name: str
    kind: str
    group: str
    bytes: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class Beside:
    """Work, and messages that run beside it."""

    works: tuple[Work, ...]
    messages: tuple[Message, ...]


Item = Work | Message | Beside


def split(work: Work, parts: int) -> tuple[Work, Work]:
    """Return a part of the work, and what is left; together they have all operations and bytes.

    Parts run on several streams, so that one fills what the end of another leaves of the machine: they lose
    no more by its filling than the whole.
    """
    first, rest = [], []
    for kernel in work.kernels:
        flops, moved = kernel.flops // parts, kernel.mem_bytes // parts
        one = replace(kernel, flops=flops, mem_bytes=moved)
        first.append(one)
        if parts > 2:
            rest.append(one.times(parts - 2))
        rest.append(
            replace(
                kernel,
                flops=kernel.flops - flops * (parts - 1),
                mem_bytes=kernel.mem_bytes - moved * (parts - 1),
            )
        )
    return Work(work.name, tuple(first)), Work(work.name, tuple(rest))


class Parts:
    """The passes of a micro-batch through embedding, layers and output, on each rank.

    Parameters
    ----------
    training
        Its options.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.micro = Micro(
            shape=training.padded,
            sequences=training.micro_batch_seqs,
            sequence_tokens=training.sequence_tokens,
            tensor=training.tensor,
            sequence_parallel=training.sequence_parallel is True,
            context=training.context,
            expert=training.expert,
            expert_tensor=training.expert_tensor,
            precision=training.precision,
            fused_attention=training.fused_attention,
            eager=training.eager,
        )
        self._memo: dict[tuple[bool, bool], tuple[Item, ...]] = {}
        self._times: dict[tuple[Work, ...], tuple[int, ...]] = {}

    def durations(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        """Return how long each work of a pass takes, in ps.

        Together they take what all their kernels take one after another: the host launches them ahead, so
        what few small kernels would wait for it hides behind the others.
        """
        if works not in self._times:
            alone = [self._time(work.kernels) for work in works]
            whole = self._time(kernel for work in works for kernel in work.kernels)
            total, ends, end = max(1, sum(alone)), [0], 0
            for one in alone:
                end += one
                ends.append(end * whole // total)
            self._times[works] = tuple(after - before for before, after in pairwise(ends))
        return self._times[works]

    def _time(self, kernels: Iterable[Kernel]) -> int:
        training = self.training
        return kernel_ps(kernels, training.device, training.efficiency, training.n_ranks)

    # ---- sizes

    @property
    def activation_bytes(self) -> int:
        """The whole activation of a micro-batch that a tensor-parallel group has, in bytes."""
        return self.micro.tokens * self.micro.shape.hidden * self.training.activation_bytes

    @property
    def stage_bytes(self) -> int:
        """What a rank sends to the next pipeline stage, in bytes."""
        return self.micro.own_tokens * self.micro.shape.hidden * self.training.activation_bytes

    @property
    def key_value_bytes(self) -> int:
        """Keys and values of a layer that a rank has, in bytes."""
        shape, tensor = self.micro.shape, self.training.tensor
        if shape.latent is None:
            width = 2 * max(1, shape.kv_heads // tensor) * shape.head_width
        else:  # as expanded for each head
            latent = shape.latent
            width = shape.heads // tensor * (latent.plain_width + latent.rotary_width + latent.value_width)
        return self.micro.tokens * width * self.training.activation_bytes

    @property
    def dispatch_bytes(self) -> int:
        """What a rank sends to experts, its own included, in bytes; it receives as much when balanced."""
        shape, ranks = self.micro.shape, self.training.expert
        values = self.micro.tokens // self.training.tensor * shape.hidden
        copies = values * shape.experts_used
        if self.training.dispatch == "rank":
            # The expected number of ranks that have any of the experts, as these are drawn without bias.
            all_choices = math.comb(shape.experts, shape.experts_used)
            elsewhere = math.comb(shape.experts - shape.experts // ranks, shape.experts_used)
            copies = values * ranks * (all_choices - elsewhere) // all_choices
        return copies * self.training.activation_bytes

    # ---- passes

    def layer_forward(self, moe: bool) -> tuple[Item, ...]:
        """Return the forward pass of a layer, with experts or without."""
        return self._remembered(moe, True)

    def layer_backward(self, moe: bool) -> tuple[Item, ...]:
        """Return the backward pass of a layer, with what is computed again before it."""
        return self._remembered(moe, False)

    def _remembered(self, moe: bool, forward: bool) -> tuple[Item, ...]:
        if (moe, forward) not in self._memo:
            parts = pieces(self.micro, moe)
            if forward:
                items = self._forward(parts, moe, "")
            else:
                items = self._backward(parts, moe)
                if self.training.recompute == "full":
                    items = [*self._forward(parts, moe, " again"), *items]
            self._memo[moe, forward] = tuple(items)
        return self._memo[moe, forward]

    def _forward(self, parts: dict[str, Piece], moe: bool, mark: str) -> list[Item]:
        def work(*names: str) -> Work:
            kernels = (kernel for name in names for kernel in parts[name].forward)
            return Work(f"{_joined(names)}{mark}", tuple(kernels))

        items: list[Item] = [work("attention.norm")]
        items += self._gathered(work("attention.in"))
        items += self._core(work("attention.core"), backward=False)
        items += self._scattered(work("attention.out"))
        items.append(work("attention.add"))
        if not moe:
            items.append(work("mlp.norm"))
            items += self._gathered(work("mlp.up"))
            items.append(work("mlp.act"))
            items += self._scattered(work("mlp.down"))
            return [*items, work("mlp.add")]
        items.append(work("router.norm", "router.scores", "router.permute"))
        before: list[Item] = []
        beside: list[Work] = []
        after: list[Item] = []
        if "shared.up" in parts:
            up = self._gathered(work("shared.up"))
            before, beside = up[:-1], [_only_work(up[-1])]
            after = self._scattered(work("shared.down"))
        overlap = self.training.overlap_expert
        shared_work = [*beside, work("shared.act")] if beside else []
        items += before
        items += self._travel("dispatch", shared_work if overlap else [])
        if not overlap:
            items += shared_work
        items.append(work("experts.ffn"))
        down = [_only_work(after[0])] if overlap and after and isinstance(after[0], Work) else []
        items += self._travel("combine", down)
        items += after[len(down) :]
        return [*items, work("experts.merge", "experts.add")]

    def _backward(self, parts: dict[str, Piece], moe: bool) -> list[Item]:
        def inputs(*names: str) -> Work:
            kernels = (kernel for name in names for kernel in parts[name].inputs)
            return Work(f"{_joined(names)} gradient", tuple(kernels))

        def weights(name: str) -> Work:
            return Work(f"{name} weight gradient", parts[name].weights)

        def row(name: str) -> list[Item]:
            """A layer whose results were reduced: gather their gradient, then both gradients."""
            return [*self._gathered(inputs(name)), weights(name)]

        def column(name: str) -> list[Item]:
            """A layer whose inputs were gathered: they are again, and their gradients are reduced."""
            return self._reduced(inputs(name), weights(name))

        items: list[Item] = []
        if not moe:
            items += [inputs("mlp.add"), *row("mlp.down"), inputs("mlp.act"), *column("mlp.up")]
            items.append(inputs("mlp.norm"))
        else:
            items += self._experts_backward(parts, inputs, weights, row, column)
        items += [inputs("attention.add"), *row("attention.out")]
        if self.training.recompute == "selective":
            again = Work("attention.core again", parts["attention.core"].forward)
            items += self._core(again, backward=False)
        items += self._core(inputs("attention.core"), backward=True)
        return [*items, *column("attention.in"), inputs("attention.norm")]

    def _experts_backward(
        self,
        parts: dict[str, Piece],
        inputs: Callable[..., Work],
        weights: Callable[[str], Work],
        row: Callable[[str], list[Item]],
        column: Callable[[str], list[Item]],
    ) -> list[Item]:
        """The backward pass from the end of a layer with experts to the end of its attention."""
        items: list[Item] = [inputs("experts.add", "experts.merge")]
        shared = "shared.up" in parts
        overlap = self.training.overlap_expert
        down = row("shared.down") if shared else []
        if not overlap:
            items += [*self._travel("combine gradient", []), *down]
        else:
            items += [*down[:-1], *self._travel("combine gradient", [_only_work(down[-1])])]
        items += [inputs("experts.ffn"), weights("experts.ffn")]
        if not overlap:
            items += self._travel("dispatch gradient", [])
            if shared:
                items += [inputs("shared.act"), *column("shared.up")]
        else:
            items += self._travel("dispatch gradient", [inputs("shared.act")])
            items += column("shared.up")
        items.append(inputs("router.permute", "router.scores", "router.norm"))
        return items

    # ---- embedding and output

    def embedding_forward(self) -> tuple[Item, ...]:
        """Return the forward pass before the first layer."""
        items: list[Item] = [Work("embedding", tuple(embedding_forward(self.micro)))]
        if self.training.tensor > 1:
            items.append(self._tensor("reduce_scatter" if self._cut else "all_reduce", "embedding"))
        return tuple(items)

    def embedding_backward(self) -> tuple[Item, ...]:
        """Return its backward pass."""
        work = Work("embedding gradient", tuple(embedding_backward(self.micro)))
        if self.training.tensor > 1 and self._cut:
            return (self._tensor("all_gather", "embedding gradient"), work)
        return (work,)

    def output_forward(self) -> tuple[Item, ...]:
        """Return the forward pass after the last layer: norm, logits, and the loss."""
        norm, logits, loss = _around_products(output_forward(self.micro))
        items: list[Item] = [Work("output.norm", norm)]
        items += self._gathered(Work("output.logits", tuple(logits)))
        items.append(Work("output.loss", loss))
        if self.training.tensor > 1:
            # The maximum, the target's logit, and the sum of exponentials, in fp32.
            items.append(Message("output.loss", "all_reduce", "tp", 4 * self.micro.tokens, 3))
        return tuple(items)

    def output_backward(self) -> tuple[Item, ...]:
        """Return its backward pass."""
        loss, (inputs, weights), norm = _around_products(output_backward(self.micro))
        return (
            Work("output.loss gradient", loss),
            *self._reduced(
                Work("output.logits gradient", (inputs,)), Work("output.logits weight gradient", (weights,))
            ),
            Work("output.norm gradient", norm),
        )

    # ---- messages of tensor, context and expert parallelism

    @property
    def _cut(self) -> bool:
        return self.training.sequence_parallel is True

    def _tensor(self, kind: str, name: str) -> Message:
        latent, size = self.micro.shape.latent, self.activation_bytes
        if latent is not None and self._cut and name.startswith("attention.in"):
            # Each rank compresses its part of the sequence; what is compressed is gathered.
            width = latent.query_rank + latent.key_value_rank + latent.rotary_width
            size = size // self.micro.shape.hidden * width
        return Message(name, kind, "tp", size)

    def _gathered(self, work: Work) -> list[Item]:
        """Work on what is gathered along the sequence; its last item is work."""
        if self.training.tensor == 1 or not self._cut:
            return [work]
        whole = self._tensor("all_gather", work.name)
        if not self.training.overlap_tensor:
            return [whole, work]
        # The chunks go round the group, each turn beside the work on what is there: a rank's own at first.
        last, most = split(work, self.training.tensor)
        return [Beside((most,), (whole,)), last]

    def _scattered(self, work: Work) -> list[Item]:
        """Work whose results are summed over the tensor-parallel ranks; its first item is or has the work."""
        if self.training.tensor == 1:
            return [work]
        if not self._cut:
            return [work, self._tensor("all_reduce", work.name)]
        whole = self._tensor("reduce_scatter", work.name)
        if not self.training.overlap_tensor:
            return [work, whole]
        first, rest = split(work, SCATTER_CHUNKS)
        one = replace(whole, bytes=whole.bytes // SCATTER_CHUNKS)
        return [first, Beside((rest,), (replace(one, count=SCATTER_CHUNKS - 1),)), one]

    def _reduced(self, inputs: Work, weights: Work) -> list[Item]:
        """Both gradients of a layer whose inputs were gathered, overlapped as Megatron-LM does.

        The inputs are gathered again beside the first, whose result is reduced beside the second.
        """
        if self.training.tensor == 1:
            return [inputs, weights]
        if not self._cut:
            return [inputs, Beside((weights,), (self._tensor("all_reduce", inputs.name),))]
        gather = self._tensor("all_gather", weights.name)
        scatter = self._tensor("reduce_scatter", inputs.name)
        return [Beside((inputs,), (gather,)), Beside((weights,), (scatter,))]

    def _core(self, work: Work, *, backward: bool) -> list[Item]:
        """Attention over context-parallel ranks, whose work is balanced."""
        ranks = self.training.context
        if ranks == 1:
            return [work]
        size = self.key_value_bytes
        if self.training.context_exchange == "gather":
            items: list[Item] = [Message(work.name, "all_gather", "cp", ranks * size), work]
            if backward:
                items.append(Message(work.name, "reduce_scatter", "cp", ranks * size))
            return items
        # Keys and values go round, backward with their gradients; those of the next turn during this one.
        last, most = split(work, ranks)
        message = Message(work.name, "ring", "cp", size * (2 if backward else 1), ranks - 1)
        return [Beside((most,), (message,)), last]

    def _travel(self, name: str, beside: Iterable[Work]) -> list[Item]:
        """Tokens go to their experts, or come back."""
        works = tuple(beside)
        forth = name in ("dispatch", "combine gradient")
        messages = []
        if self.training.expert > 1:
            messages.append(Message(f"experts {name}", "all_to_all", "ep", self.dispatch_bytes))
        if self.training.expert_tensor > 1:
            total = self.dispatch_bytes * self.training.expert_tensor
            kind = "all_gather" if forth else "reduce_scatter"
            messages.append(Message(f"experts {name}", kind, "etp", total))
        if not forth:
            messages.reverse()
        return [Beside(works, tuple(messages))] if works else list(messages)


def _joined(names: tuple[str, ...]) -> str:
    block = names[0].partition(".")[0]
    return f"{block}.{'+'.join(name.partition('.')[2] for name in names)}"


def _only_work(item: Item) -> Work:
    assert isinstance(item, Work), item
    return item


def _around_products(
    kernels: Sequence[Kernel],
) -> tuple[tuple[Kernel, ...], list[Kernel], tuple[Kernel, ...]]:
    """Split kernels in those before the multiplications, these, and those after them."""
    places = [index for index, kernel in enumerate(kernels) if kernel.kind is KernelClass.GEMM]
    products = [kernels[index] for index in places]
    return tuple(kernels[: places[0]]), products, tuple(kernels[places[-1] + 1 :])
