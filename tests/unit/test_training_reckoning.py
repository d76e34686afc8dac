"""Training steps against reckonings by hand: operations, bytes of each kind of group, bubbles, overlap."""

from collections import Counter

import pytest

import fabricsim
from fabricsim.compute import EFFICIENCY
from fabricsim.workload import llm
from fabricsim.workload.shapes import ModelShape
from fabricsim.workload.training import Training
from fabricsim.workload.training.flops import attention_flops, model_flops


def sums(trace):
    """Bytes of the operations of one group, by kind, what its ranks share, and the group's size."""
    found = Counter()
    for row in trace.table.to_pylist():
        if row["bytes"]:
            size = row["group_size"] or len(row["ranks"])
            what = row["name"].rsplit(" ", 1)[-1]
            found[row["kind"], what, size] += row["bytes"] * (row["count"] or 1)
    return found


# ---- operations

#: Weights that a token meets in a multiplication, layer by layer, and the products of attention, by hand.
BY_HAND = {
    "llama3-8b": (
        32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336) + 128256 * 4096,
        32 * 32 * (128 + 128),
    ),
    "gpt3-175b": (96 * 12 * 12288**2 + 50257 * 12288, 96 * 96 * (128 + 128)),
    "mixtral-8x7b": (
        32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 8 * 4096 + 2 * 3 * 4096 * 14336) + 32000 * 4096,
        32 * 32 * (128 + 128),
    ),
    "deepseek-v3": (
        61 * (7168 * (1536 + 512 + 64) + 1536 * 128 * 192 + 512 * 128 * 256 + 128 * 128 * 7168)
        + 3 * 3 * 7168 * 18432
        + 58 * (256 * 7168 + 9 * 3 * 7168 * 2048)
        + 129280 * 7168,
        61 * 128 * (192 + 128),
    ),
}


@pytest.mark.parametrize("model", BY_HAND)
@pytest.mark.parametrize("tensor", [1, 8])
def test_operations_of_known_models(model, tensor):
    weights, attention = BY_HAND[model]
    tokens = 8 * 2048
    training = Training(
        model=model, n_ranks=8, tensor=tensor, global_batch_seqs=8, sequence_tokens=2048, detail="stage",
        vocab_multiple=1, expert_tensor=1 if model in ("mixtral-8x7b", "deepseek-v3") else 0,
        expert=8 if model in ("mixtral-8x7b", "deepseek-v3") else 1,
    )  # fmt: skip
    assert attention_flops(training) == 6 * tokens * 2048 * attention
    assert model_flops(training) == 6 * tokens * weights + 6 * tokens * 2048 * attention
    # Done: the vocabulary is padded for tensor parallelism; fused attention skips half, and backward has five
    # products for two.
    padded = 6 * tokens * (training.padded.vocab - training.shape.vocab) * training.shape.hidden
    done = 6 * tokens * weights + padded + 7 * tokens * 2048 * attention // 2
    assert llm(training).provenance["done_flops_per_step"] == done


# ---- bytes


def test_the_bytes_that_aicb_writes_for_gpt_13b():
    """The workload text of AICB for GPT-13B, TP8, 128 ranks (aliyun/aicb, G13B-M1-C01).

    Its model has 32,000 words, an output of its own, and neither norms nor biases; so what is reduced differs
    by 81 norms of 5,120, and the padding of a bucket.
    """
    shape = ModelShape(
        name="gpt-13b", layers=40, hidden=5120, heads=40, ffn=20480, vocab=32000, positions=2048, gated=False,
        source="AICB",
    )  # fmt: skip
    given = {
        "model": shape, "n_ranks": 128, "tensor": 8, "sequence_parallel": False, "zero": 1,
        "global_batch_seqs": 16, "sequence_tokens": 2048, "overlap_grad_reduce": False, "vocab_multiple": 1,
    }  # fmt: skip
    found = sums(llm(**given, detail="layer"))
    # One behind the embedding, 80 forward, 80 backward, and the logits' input gradient; the loss has three.
    assert found["all_reduce", "TP", 8] == 162 * 20_971_520 + 3 * 8192
    norms = 81 * 5120
    reduced, gathered = found["reduce_scatter", "DP", 16], found["all_gather", "DP", 16]
    assert 0 <= reduced - (6_497_239_040 + 4 * norms) < 4 * 128
    assert 0 <= gathered - (3_248_619_520 + 2 * norms) < 2 * 128


def test_bytes_of_deepseek_v3():
    """TP2, EP8 over tensor and data parallelism, PP2, one micro-batch: each kind of message by hand."""
    training = Training(
        model="deepseek-v3", n_ranks=16, tensor=2, pipeline=2, expert=8, expert_tensor=1, zero=1,
        global_batch_seqs=4, sequence_tokens=4096, detail="stage", overlap_pipeline=False,
    )  # fmt: skip
    found = sums(llm(training))
    whole, latent = 4096 * 7168 * 2, 4096 * (1536 + 512 + 64) * 2
    # A token goes to eight experts, forth and back, forward and backward.
    assert found["all_to_all", "EP", 8] == 58 * 4 * 8 * whole // 2
    # Gathered: forward what is compressed and the MLP's or shared expert's input; backward that again, and
    # the gradients of attention's and the MLP's output. The output layer: logits, twice; the embedding, once.
    gathers = 61 * (2 * latent + whole + 3 * whole) + 3 * whole
    scatters = 61 * (whole + latent + 2 * whole) + 2 * whole
    assert found["all_gather", "TP", 2] == gathers
    assert found["reduce_scatter", "TP", 2] == scatters
    dense = 2 * 7168 + 1536 + 512 + 7168 * (1536 + 512 + 64)
    small = 61 * dense + 58 * 256 * 7168 + 7168
    assert found["all_reduce", "TP", 2] == 4 * small + 3 * 4 * 4096
    # Half of the sequence a rank.
    assert sum(size for (kind, _, _), size in found.items() if kind == "send") == whole


@pytest.mark.parametrize("virtual", [1, 2])
def test_only_the_first_chunk_of_the_first_stage_is_cut_in_buckets(virtual):
    trace = llm(
        model="llama3-8b", ranks=8, pp=4, vp=virtual, gbs=16, seq=1024, zero=1, detail="stage",
    )  # fmt: skip
    reduced = Counter()
    for row in trace.table.to_pylist():
        if row["kind"] == "reduce_scatter":
            reduced[row["ranks"][0] // 2] += row["count"] or 1
    assert reduced[0] > 10 + virtual and reduced[1] == reduced[2] == reduced[3] == virtual
    chosen = llm(model="llama3-8b", ranks=8, pp=4, gbs=16, seq=1024, zero=1, bucket_bytes=10**8)
    last = [r for r in chosen.table.to_pylist() if r["kind"] == "reduce_scatter" and r["ranks"][0] == 6]
    assert len(last) > 10


# ---- time

#: A model whose compute takes far longer than its messages, and whose ends take next to nothing.
HEAVY = ModelShape(name="heavy", layers=64, hidden=8192, heads=8, ffn=32768, vocab=128, source="made up")


@pytest.fixture(scope="module")
def quick():
    spec = {"kind": "star", "hosts": 8, "rate": "3200Gbps", "latency": "1ns"}
    return fabricsim.compile(fabricsim.Cluster.from_dict({"name": "quick", "topology": spec}))


@pytest.mark.parametrize(
    ("stages", "chunks", "micro_batches"),
    [(2, 1, 8), (4, 1, 16), (8, 1, 16), (4, 2, 4), (4, 4, 16), (8, 2, 16), (2, 8, 8)],
)
def test_bubbles_are_those_of_the_formula(quick, stages, chunks, micro_batches):
    """SC21 (arXiv 2104.04473), section 2.2: (p - 1) / (v m) of the time of work, when messages are free."""
    efficiency = EFFICIENCY.with_values({"gap_s": 0, "host_s": 0})
    trace = llm(
        model=HEAVY, ranks=stages, pp=stages, vp=chunks, gbs=micro_batches, seq=4096, vocab_multiple=1,
        efficiency=efficiency, detail="stage",
    )  # fmt: skip
    passes, rest = Counter(), Counter()
    for row in trace.table.to_pylist():
        if row["kind"] == "compute":
            into = passes if row["name"].startswith("mb ") else rest
            into[row["ranks"][0]] += row["duration_ps"] * (row["count"] or 1)
    share = (stages - 1) / (chunks * micro_batches)
    wanted = max(passes.values()) * (1 + share) + max(rest.values())
    found = fabricsim.replay(trace, quick, fidelity="flow").summary["training"]
    assert found["step_ps"] == pytest.approx(wanted, rel=0.012)
    busy = sum((passes + rest).values()) / stages
    assert found["bubble"] == pytest.approx(1 - busy / found["step_ps"], abs=0.005)


def test_more_bandwidth_and_more_overlap_are_not_slower():
    options = {"model": "llama3-70b", "tp": 8, "ranks": 16, "gbs": 2, "seq": 4096, "zero": 1}
    steps = {}
    for rate in ("100Gbps", "400Gbps"):
        cluster = fabricsim.Cluster.from_toml("dgx-h100", ["topology.nodes=2", f"topology.rate={rate}"])
        model = fabricsim.compile(cluster)
        for flag in ("none", "overlap_tensor", "overlap_grad_reduce", "overlap_param_gather"):
            chosen = {"overlap_grad_reduce": False, "overlap_param_gather": False}
            trace = llm(**options | chosen | ({flag: True} if flag != "none" else {}), detail="stage")
            run = fabricsim.replay(trace, model, fidelity="flow")
            steps[rate, flag] = run.summary["training"]["step_ps"]
    for (rate, flag), step in steps.items():
        assert step <= steps["100Gbps", flag] and step < 1.005 * steps[rate, "none"], (rate, flag)
