"""Traces of training steps: operations and bytes against closed formulas, row by row."""

import math
from collections import Counter

import pytest

from fabricsim.compute import Jitter
from fabricsim.workload import llm
from fabricsim.workload.shapes import ModelShape, named_shape
from fabricsim.workload.training import Training, memory
from fabricsim.workload.training.flops import attention_flops, model_flops
from fabricsim.workload.training.parameters import units_of


def rows(**options):
    return Training(**options), llm(Training(**options)).table.to_pylist()


def moved(found, *, group=None, kind=None, name=""):
    """Bytes and operations of each group, by kind."""
    total = Counter()
    for row in found:
        size = row.get("group_size") or len(row["ranks"])
        if row["bytes"] is None or (group and size != group) or (kind and row["kind"] != kind):
            continue
        if name in row["name"]:
            total[row["kind"], row["bytes"]] += (row.get("count") or 1) * len(row["ranks"]) // size
    return total


def compute_flops(found):
    return sum((row["flops"] or 0) * (row.get("count") or 1) * len(row["ranks"]) for row in found)


# ---- operations


@pytest.mark.parametrize(
    ("layers", "hidden", "heads", "layout"),
    [
        (24, 2304, 24, {}),
        (36, 4096, 32, {"tensor": 4}),
        (96, 12288, 96, {"tensor": 8, "pipeline": 8}),
    ],
)
def test_operations_are_those_of_the_formula_of_megatron(layers, hidden, heads, layout):
    """SC21 (arXiv 2104.04473), appendix: 96 B s l h^2 (1 + s/6h + V/16lh), all of attention's products."""
    vocab, tokens, batch = 51200, 2048, 64
    gpt = ModelShape(
        name="gpt", layers=layers, hidden=hidden, heads=heads, ffn=4 * hidden, vocab=vocab, source="SC21",
        gated=False, tied=True, positions=tokens, norm_bias=True, linear_bias=True,
    )  # fmt: skip
    training = Training(
        model=gpt, n_ranks=64, global_batch_seqs=batch, sequence_tokens=tokens, accelerator="a100",
        precision="fp16", recompute="full", fused_attention=False, vocab_multiple=1, detail="stage", **layout,
    )  # fmt: skip
    trace = llm(training)
    b, s, l, h = batch, tokens, layers, hidden  # noqa: E741
    wanted = 96 * b * s * l * h * h + 16 * b * s * s * l * h + 6 * b * s * h * vocab
    assert trace.provenance["done_flops_per_step"] == wanted
    assert compute_flops(trace.table.to_pylist()) == wanted
    # Without what is computed again: three passes instead of four, but for the output layer.
    assert 4 * (model_flops(training) - 6 * b * s * h * vocab) == 3 * (wanted - 6 * b * s * h * vocab)


@pytest.mark.parametrize(
    "options",
    [
        {"model": "llama3-8b", "tensor": 2, "pipeline": 2, "zero": 1},
        {"model": "llama3-8b", "context": 2, "fsdp": "full", "recompute": "full"},
        {"model": "mixtral-8x7b", "tensor": 2, "expert": 4, "expert_tensor": 1, "recompute": "selective"},
        {"model": "deepseek-v3", "tensor": 2, "pipeline": 2, "expert": 4, "overlap_expert": True},
        {"model": "llama3-8b", "tensor": 4, "overlap_tensor": True, "pipeline": 2, "virtual": 2},
    ],
)
def test_both_details_do_the_same(options):
    given = {"n_ranks": 16, "global_batch_seqs": 16, "sequence_tokens": 4096} | options
    found = {}
    for detail in ("layer", "stage"):
        training, table = rows(**given, detail=detail)
        time = Counter()
        for row in table:
            if row["kind"] == "compute":
                for rank in row["ranks"]:
                    time[rank] += row["duration_ps"] * (row.get("count") or 1)
        collectives = Counter()
        for (kind, size), count in moved(table).items():
            if kind in ("all_gather", "send", "recv") and training.context > 1:
                continue  # the ring is told as gathers
            collectives[kind, size] += count
        found[detail] = (len(table), compute_flops(table), time, collectives)
    layer, stage = found["layer"], found["stage"]
    assert stage[0] < layer[0] / 3
    assert stage[1] == layer[1] == llm(training).provenance["done_flops_per_step"]
    for rank, time in layer[2].items():
        assert stage[2][rank] == pytest.approx(time, rel=1e-3)
    assert stage[3] == layer[3]


def test_operations_of_the_model_are_six_a_weight_and_token():
    training = Training(model="llama3-8b", n_ranks=8, global_batch_seqs=8, sequence_tokens=8192)
    shape = named_shape("llama3-8b")
    norms = (2 * shape.layers + 1) * shape.hidden
    weights = shape.parameters - shape.vocab * shape.hidden - norms
    tokens = 8 * 8192
    assert attention_flops(training) == 12 * shape.layers * shape.hidden * 8192 * tokens
    assert model_flops(training) == 6 * weights * tokens + attention_flops(training)
    assert model_flops(training, causal=True) == model_flops(training) - attention_flops(training) // 2
    mixtral = Training(model="mixtral-8x7b", n_ranks=8, global_batch_seqs=8, sequence_tokens=4096)
    assert model_flops(mixtral) < 6 * mixtral.shape.active_parameters * 8 * 4096 * 1.1


# ---- bytes of tensor, context, expert and pipeline parallelism

LLAMA = {"model": "llama3-8b", "sequence_tokens": 4096, "micro_batch_seqs": 2, "detail": "layer"}


def test_tensor_parallel_messages():
    act = 2 * 4096 * 4096 * 2
    _, plain = rows(**LLAMA, n_ranks=4, tensor=4, sequence_parallel=False, global_batch_seqs=2)
    found = moved(plain)
    # Two each way in a layer, the embedding, and the logits' input gradient; the loss has three small ones.
    assert found["all_reduce", act] == 4 * 32 + 2
    assert found["all_reduce", 2 * 4096 * 4] == 1 * 3 and found["all_reduce", 4] == 1
    assert {kind for kind, _ in found} == {"all_reduce"}
    _, cut = rows(**LLAMA, n_ranks=4, tensor=4, global_batch_seqs=2)
    found = moved(cut)
    # Forward two of each; backward four gathers and two scatters. Embedding: one and one; logits: two and
    # one.
    assert found["all_gather", act] == 6 * 32 + 1 + 2
    assert found["reduce_scatter", act] == 4 * 32 + 1 + 1
    assert found["all_reduce", 4 * (2 * 32 + 1) * 4096] == 1  # norms, in fp32


def test_user_buffers_move_the_same_bytes_in_chunks():
    total = {}
    for overlap in (False, True):
        _, found = rows(**LLAMA, n_ranks=4, tensor=4, global_batch_seqs=2, overlap_tensor=overlap)
        sizes = Counter()
        for (kind, size), count in moved(found, name="layer").items():
            sizes[kind] += size * count
        total[overlap] = sizes
    assert total[True] == total[False]


@pytest.mark.parametrize(("virtual", "layers"), [(1, 32), (4, 32)])
def test_pipeline_messages(virtual, layers):
    training, found = rows(
        **LLAMA,
        n_ranks=8,
        tensor=2,
        pipeline=4,
        virtual=virtual,
        global_batch_seqs=16,
        overlap_pipeline=False,
    )
    own = 2 * 4096 * 4096 * 2 // 2
    passes = training.micro_batches * (4 * virtual - 1) * 2
    sends = [row for row in found if row["kind"] == "send"]
    assert len(sends) == passes and {row["bytes"] for row in sends} == {own}
    assert moved(found, kind="recv") == {("recv", own): passes}
    following = Counter((row["ranks"][0] // 2, row["peer"][0] // 2) for row in sends)
    assert following[0, 1] == training.micro_batches * virtual
    assert following[3, 0] == training.micro_batches * (virtual - 1)
    assert sum(unit.kind == "layer" for own in units_of(training) for c in own for unit in c) == layers


def test_context_parallel_messages():
    kv = 2 * 2 * (4096 // 4) * 8 * 128 * 2  # keys and values of a rank's part of two sequences
    _, ring = rows(**LLAMA, n_ranks=4, context=4, global_batch_seqs=2)
    # Three turns a layer, backward with gradients.
    assert moved(ring, kind="send") == {("send", kv): 3 * 32, ("send", 2 * kv): 3 * 32}
    hops = [row for row in ring if row["kind"] == "send"]
    assert hops[0]["ranks"] == [0, 1, 2, 3] and hops[0]["peer"] == [1, 2, 3, 0]
    _, gather = rows(**LLAMA, n_ranks=4, context=4, global_batch_seqs=2, context_exchange="gather")
    assert moved(gather, name="CP") == {("all_gather", 4 * kv): 64, ("reduce_scatter", 4 * kv): 32}


@pytest.mark.parametrize("expert_tensor", [1, 2])
def test_expert_parallel_messages(expert_tensor):
    _, found = rows(
        model="mixtral-8x7b", n_ranks=8, tensor=2, expert=4, expert_tensor=expert_tensor, global_batch_seqs=4,
        sequence_tokens=4096, zero=1, detail="layer",
    )  # fmt: skip
    own = 4096 // 2 * 2 * 4096 * 2  # half of the tokens, two experts each
    assert moved(found, kind="all_to_all") == {("all_to_all", own): 4 * 32 * (8 // 4)}
    among = moved(found, name="ETP")
    if expert_tensor == 1:
        assert not among
    else:
        assert among == {("all_gather", 2 * own): 2 * 32 * 4, ("reduce_scatter", 2 * own): 2 * 32 * 4}
    groups = next(row["ranks"][:4] for row in found if row["kind"] == "all_to_all")
    assert groups == ([0, 2, 4, 6] if expert_tensor == 2 else [0, 1, 2, 3])


def test_tokens_that_travel_once_to_a_rank():
    _, found = rows(
        model="qwen3-235b-a22b",
        n_ranks=8,
        expert=8,
        global_batch_seqs=8,
        sequence_tokens=1024,
        dispatch="rank",
    )
    # Eight of 128 experts, sixteen a rank: the share of tokens that none of a rank's experts gets.
    missed = math.comb(112, 8) / math.comb(128, 8)
    ((_, size),) = moved(found, kind="all_to_all")
    assert size == pytest.approx(1024 * 4096 * 2 * 8 * (1 - missed), rel=1e-6)


# ---- bytes of data parallelism


@pytest.mark.parametrize(
    ("sharding", "wanted"),
    [
        ({"zero": 0}, {"all_reduce": 4}),
        ({"zero": 1}, {"reduce_scatter": 4, "all_gather": 2}),
        ({"zero": 2}, {"reduce_scatter": 4 * 2, "all_gather": 2}),
        ({"zero": 3}, {"reduce_scatter": 4 * 2, "all_gather": 2 * 2 * 2}),
        ({"fsdp": "full"}, {"reduce_scatter": 4 * 2, "all_gather": 2 * 2 * 2}),
        ({"fsdp": "grad"}, {"reduce_scatter": 4 * 2, "all_gather": 2 * 2}),
        ({"fsdp": "grad", "reduce_every": False}, {"reduce_scatter": 4, "all_gather": 2}),
        ({"fsdp": "hybrid", "shard_ranks": 2}, {"reduce_scatter": 8, "all_reduce": 8 / 2, "all_gather": 8}),
    ],
)
@pytest.mark.parametrize("detail", ["layer", "stage"])
def test_gradients_and_parameters(sharding, wanted, detail):
    """Bytes a parameter and step, of two micro-batches: gradients in fp32, parameters in bf16."""
    training, found = rows(
        model="llama3-8b", n_ranks=4, global_batch_seqs=8, sequence_tokens=2048, detail=detail, **sharding
    )
    n = training.padded.parameters
    total = Counter()
    for (kind, size), count in moved(found).items():
        if size > 4:
            groups = 1 if sharding.get("fsdp") != "hybrid" else 2
            total[kind] += size * count // groups
    # Embedding and output stay gathered from forward to backward.
    root = 2 * 128256 * 4096 + 4096
    if training.fully_sharded and not training.keeps_gathered:
        total["all_gather"] += 2 * 2 * root
    assert total.keys() == wanted.keys()
    for kind, per_parameter in wanted.items():
        assert total[kind] == pytest.approx(per_parameter * n, rel=1e-4), kind


def test_gradients_of_experts_go_over_their_replicas():
    training, found = rows(
        model="mixtral-8x7b", n_ranks=8, expert=4, global_batch_seqs=8, sequence_tokens=1024, zero=1
    )
    shape = training.shape
    experts = 32 * 8 * 3 * 4096 * 14336 // 4
    dense = training.padded.parameters - 4 * experts
    sizes = {4: Counter(), 8: Counter()}
    for group, total in ((2, sizes[4]), (8, sizes[8])):
        for (kind, size), count in moved(found, group=group).items():
            total[kind] += size * count
    assert shape.experts == 8
    assert sizes[4]["reduce_scatter"] == 4 * 4 * experts and sizes[4]["all_gather"] == 2 * 4 * experts
    assert sizes[8]["reduce_scatter"] == pytest.approx(4 * dense, rel=1e-4)


def test_buckets_leave_when_they_are_full():
    _, found = rows(
        model="llama3-8b", n_ranks=4, global_batch_seqs=4, sequence_tokens=1024, bucket_bytes=1 << 30,
        detail="layer",
    )  # fmt: skip
    reduces = [row for row in found if row["stream"] == 1]
    assert len(reduces) > 20 and all(row["bytes"] >= 1 << 30 for row in reduces[:-1])
    # The first one does not wait for the last layer's gradients.
    waits = [row["after"][0] for row in reduces]
    assert waits == sorted(waits) and waits[0] < waits[-1] - 100
    _, whole = rows(
        model="llama3-8b", n_ranks=4, global_batch_seqs=4, sequence_tokens=1024, overlap_grad_reduce=False
    )
    assert [row["stream"] for row in whole if row["kind"] == "all_reduce" and row["bytes"] > 4] == [0]


def test_tied_embeddings_are_summed_over_both_stages():
    training, found = rows(
        model="gpt2", n_ranks=8, tensor=2, pipeline=2, global_batch_seqs=4, sequence_tokens=512
    )
    (tied,) = [row for row in found if row["name"] == "tied gradients"]
    assert (tied["group_size"], tied["bytes"]) == (2, training.padded.vocab // 2 * 768 * 4)
    assert tied["ranks"] == [0, 4, 1, 5, 2, 6, 3, 7]


def test_llama_on_sixteen_thousand_is_a_few_thousand_rows():
    training = Training(
        model="llama3-405b", n_ranks=16384, tensor=8, pipeline=16, global_batch_seqs=2048,
        sequence_tokens=8192, zero=1,
    )  # fmt: skip
    trace = llm(training)
    assert trace.n_rows < 8000 and trace.n_ranks == 16384
    # The published 400 TFLOP/s a GPU (arXiv 2407.21783, table 4) count 6ND and attention.
    assert trace.provenance["model_flops_per_step"] == pytest.approx(6 * 405e9 * 2048 * 8192, rel=0.1)
    assert max(one.total for one in memory(training)) > 50e9


# ---- data, jitter


def test_data_is_read_a_step_ahead():
    training, found = rows(
        model="gpt2", n_ranks=8, tensor=2, pipeline=2, global_batch_seqs=8, sequence_tokens=512, steps=3,
        data_loading=True,
    )  # fmt: skip
    reads = [row for row in found if row["kind"] == "read"]
    assert {row["bytes"] for row in reads} == {4 * 513 * 2}
    assert [tuple(row["ranks"]) for row in reads if row["step"] == 1] == [(0, 2), (4, 6)]
    assert Counter(row["step"] for row in reads) == {0: 4, 1: 2}
    assert len({row["offset"] for row in reads}) == training.steps
    told = [row for row in found if row["kind"] == "broadcast"]
    assert {row["bytes"] for row in told} == {4 * 512 * 28} and told[0]["peer"] == [0, 2]


def test_stragglers_have_rows_of_their_own():
    given = {"model": "gpt2", "n_ranks": 32, "global_batch_seqs": 32, "sequence_tokens": 512}
    _, plain = rows(**given)
    training, found = rows(**given, jitter=Jitter(seed=3, straggler_share=0.2, straggler_factor=1.5))
    slow = set(training.jitter.stragglers(32).nonzero()[0].tolist())
    assert slow
    times = {}
    for row in found:
        if row["kind"] == "compute":
            for rank in row["ranks"]:
                times[rank] = times.get(rank, 0) + row["duration_ps"]
    base = sum(row["duration_ps"] for row in plain if row["kind"] == "compute")
    for rank, time in times.items():
        assert time == pytest.approx(base * (1.5 if rank in slow else 1.0), rel=1e-5)
