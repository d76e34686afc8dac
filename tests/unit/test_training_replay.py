"""Training steps from the option to the summary: replays, random layouts, the command line."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import fabricsim
from fabricsim.analysis import training as training_summary
from fabricsim.cli import main
from fabricsim.errors import ConfigError
from fabricsim.trace import read_trace
from fabricsim.workload import llm
from fabricsim.workload.shapes import ModelShape
from fabricsim.workload.training import Training

FEW = ModelShape(name="few", layers=6, hidden=256, heads=8, ffn=1024, vocab=1024, source="made up")
SMALL = {"model": FEW, "global_batch_seqs": 16, "sequence_tokens": 256, "micro_batch_seqs": 1}

TINY = ModelShape(name="tiny", layers=4, hidden=64, heads=4, ffn=128, vocab=256, source="made up", kv_heads=2)
TINY_MOE = ModelShape(
    name="tiny-moe", layers=4, hidden=64, heads=4, ffn=128, vocab=256, source="made up", experts=4,
    experts_used=2, expert_ffn=64, shared_experts=1, dense_layers=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def small_model():
    return fabricsim.compile(fabricsim.Cluster.from_toml("demo-64-400g-roce"))


@pytest.mark.parametrize(
    "options",
    [
        {"tensor": 2, "zero": 1},
        {"tensor": 2, "pipeline": 2, "virtual": 2, "zero": 1, "overlap_tensor": True, "steps": 2},
        {"context": 2, "fsdp": "full", "recompute": "full"},
        {"fsdp": "hybrid", "shard_ranks": 4, "prefetch_backward": 0},
    ],
)
def test_a_replay_repeats_and_both_details_agree(small_model, options):
    steps = {}
    for detail in ("layer", "stage"):
        trace = llm(Training(**SMALL, n_ranks=8, detail=detail, **options))
        first = fabricsim.replay(trace, small_model)
        assert fabricsim.replay(trace, small_model, threads=2).digest == first.digest
        steps[detail] = first.summary["training"]["step_ps"]
    assert steps["stage"] == pytest.approx(steps["layer"], rel=0.02)


@st.composite
def layouts(draw):
    moe = draw(st.booleans())
    tensor, context, pipeline = (draw(st.sampled_from([1, 2])) for _ in range(3))
    data = draw(st.sampled_from([1, 2, 4] if tensor * context * pipeline < 8 else [1, 2]))
    virtual = draw(st.sampled_from([1, 2])) if pipeline > 1 else 1
    zero = draw(st.sampled_from([0, 1] if pipeline > 1 else [0, 1, 2, 3]))
    return {
        "model": TINY_MOE if moe else TINY,
        "n_ranks": tensor * context * pipeline * data,
        "tensor": tensor,
        "context": context,
        "pipeline": pipeline,
        "virtual": virtual,
        "expert": draw(st.sampled_from([1, 2, 4])) if moe else 1,
        "expert_tensor": draw(st.sampled_from([0, 1])) if moe else 0,
        "global_batch_seqs": data * pipeline * draw(st.sampled_from([1, 2])),
        "sequence_tokens": 64,
        "zero": zero,
        "fsdp": draw(st.sampled_from(["none", "full", "grad"])) if zero == 0 else "none",
        "recompute": draw(st.sampled_from(["none", "selective", "full"])),
        "context_exchange": draw(st.sampled_from(["ring", "gather"])) if context > 1 else "ring",
        "overlap_grad_reduce": draw(st.booleans()),
        "overlap_param_gather": draw(st.booleans()),
        "overlap_tensor": tensor > 1 and draw(st.booleans()),
        "overlap_pipeline": pipeline > 1 and draw(st.booleans()),
        "prefetch": draw(st.sampled_from([0, 1, 2])),
        "prefetch_backward": draw(st.sampled_from([None, 0])),
        "bucket_bytes": draw(st.sampled_from([0, 1 << 16])),
        "steps": draw(st.sampled_from([1, 2])),
        "detail": draw(st.sampled_from(["layer", "stage"])),
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(layouts())
def test_every_layout_runs_to_its_end(small_model, options):
    try:
        training = Training(**options)
    except ConfigError:
        assume(False)
    trace = llm(training)
    result = fabricsim.replay(trace, small_model)
    assert result.summary["status"] == "complete"
    found = result.summary["training"]
    assert found["steps"] == training.steps and 0 <= found["bubble"] < 1
    assert result.summary["flows_summary"]["finished"] == result.summary["flows_summary"]["count"]
    done = sum(
        (row["flops"] or 0) * (row.get("count") or 1) * len(row["ranks"]) for row in trace.table.to_pylist()
    )
    assert done == training.steps * trace.provenance["done_flops_per_step"]


def test_a_pipeline_has_its_bubble(small_model):
    """(p - 1) / (m + p - 1) of the step, where compute is all: SC21, section 2.2."""
    tiny = ModelShape(
        name="even", layers=8, hidden=1024, heads=8, ffn=4096, vocab=128, source="made up", gated=False
    )
    given = {"model": tiny, "n_ranks": 4, "pipeline": 4, "global_batch_seqs": 8, "sequence_tokens": 1024}
    slow = {f"{name}/hopper": 1e-4 for name in ("gemm", "attention")} | {"gemm/hopper/bf16": 1e-4}
    bubbles = {}
    for virtual in (1, 2):
        training = Training.from_dict(
            given | {"virtual": virtual, "efficiency": slow, "overlap_pipeline": True}
        )
        bubbles[virtual] = fabricsim.replay(llm(training), small_model).summary["training"]["bubble"]
    assert bubbles[1] == pytest.approx(3 / 11, rel=0.03)
    assert bubbles[2] == pytest.approx(1.5 / 9.5, rel=0.08)  # the output is a little more than a layer's part


def test_a_straggler_slows_every_step(small_model):
    steps = {}
    for share in (0.0, 1.0):
        training = Training.from_dict(
            SMALL | {"ranks": 8, "jitter": {"straggler_share": share, "straggler_factor": 2.0}}
        )
        steps[share] = fabricsim.replay(llm(training), small_model).summary["training"]["step_ps"]
    assert steps[1.0] > 1.2 * steps[0.0]


def test_checkpoints_of_a_training_are_told(small_model):
    cluster = fabricsim.Cluster.from_toml("demo-64-400g-lustre")
    training = Training.from_dict(
        SMALL | {"ranks": 8, "zero": 1, "steps": 2, "checkpoint_every": 1, "data_loading": True, "tp": 2}
    )
    result = fabricsim.replay(llm(training), cluster)
    saves = result.summary["checkpoints"]["saves"]
    assert [row["step"] for row in saves] == [0, 1] and all(row["stall_max_ps"] > 0 for row in saves)
    assert saves[0]["bytes"] >= 14 * training.shape.parameters
    # The step of the training is told without the checkpoint.
    assert sum(result.summary["training"]["steps_ps"]) < result.summary["end_ps"] - saves[0]["stall_max_ps"]


def ops(rows):
    names = ("kind", "rank", "start_ps", "end_ps", "stream", "step", "name")
    table = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    return pa.table(table | {"id": np.arange(len(rows)), "bytes": np.zeros(len(rows), np.int64)})


TOLD = {
    "ranks": 2,
    "steps": 2,
    "tokens_per_step": 100,
    "model_flops_per_step": 300,
    "done_flops_per_step": 400,
    "peak_flops_per_s": 500.0,
}


def test_the_summary_by_hand():
    s = 10**12
    found = training_summary(
        ops(
            [
                ("compute", 0, 0, s, 0, 0, "mb 0"),
                ("recv", 1, 0, s, 4, 0, "mb 0 recv"),
                ("compute", 1, s, 2 * s, 0, 0, "mb 0"),
                ("compute", 0, 2 * s, 5 * s, 0, 0, "checkpoint 0 snapshot"),
                ("compute", 0, 5 * s, 6 * s, 0, 1, "mb 0"),
                ("compute", 1, 6 * s, None, 0, 1, "mb 0"),
            ]
        ),
        TOLD,
    )
    assert found["steps"] == 1 and found["steps_ps"] == [2 * s] and found["bubble"] == 0.5
    assert found["tokens_per_s"] == 50 and found["tokens_per_s_per_accelerator"] == 25
    assert found["flops_per_s_per_accelerator"] == 75
    assert (found["mfu"], found["hfu"]) == (300 / 2000, 400 / 2000)
    assert training_summary(ops([("compute", 0, 0, None, 0, 0, "mb 0")]), TOLD) is None


# ---- the command line


def test_gen_llm_writes_what_python_makes(tmp_path, capsys):
    path = str(tmp_path / "t.arrow")
    options = "--model gpt2 --ranks 8 --tp 2 --gbs 8 --seq 256 --zero 1 --no-overlap-param-gather"
    assert main(["gen", "llm", *options.split(), "-o", path]) == 0
    assert "TP2 CP1 PP1 DP4" in capsys.readouterr().out
    made = llm(model="gpt2", ranks=8, tp=2, gbs=8, seq=256, zero=1, overlap_param_gather=False)
    assert read_trace(path).table.equals(made.table)
    assert main(["replay", path, "-c", "demo-64-400g-roce", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["training"]
    assert 0 < found["mfu"] < 1 and found["memory"]["device"] == 80 * 10**9
    assert main(["replay", path, "-c", "demo-64-400g-roce"]) == 0
    told = capsys.readouterr().out
    assert "MFU, HFU" in told and "memory of a rank" in told


def test_gen_llm_tells_memory_lists_and_json(tmp_path, capsys):
    options = ["--model", "llama3-405b", "--ranks", "16", "--tp", "8", "--gbs", "2", "--seq", "8192"]
    assert main(["gen", "llm", *options, "--memory", "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert stage["total"] > 16 * 405e9 / 8
    assert main(["gen", "llm", *options, "--memory"]) == 0
    assert "optimizer" in capsys.readouterr().out
    assert main(["gen", "llm", *options, "-o", str(tmp_path / "t.arrow"), "--json"]) == 0
    found = capsys.readouterr()
    assert "h100 has 80 GB" in found.err and json.loads(found.out)["tokens_per_step"] == 2 * 8192
    assert main(["gen", "llm", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"models", "accelerators"} == set(listed)
    assert main(["gen", "llm", "--list"]) == 0
    assert "llama3-405b" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--model gpt2 --ranks 8 --gbs 8 --seq 256", "needs -o TRACE"),
        ("--model gpt3 --ranks 8", "gbs: missing"),
        ("--model gpt2 --ranks 8 --tp 3 --gbs 8 --seq 256 --bucket 3parsec -o x", "bucket_bytes"),
        ("--model gpt2 --ranks 8 --tp 3 --gbs 8 --seq 256 -o x", "n_ranks: found 8, allowed: a multiple"),
        ("--model gpt2 --ranks 8 --tp 0 --gbs 8 --seq 256 -o x", "--tp: tensor: found 0"),
        ("--model gpt2 --ranks 8 --gbs 8 --seq 256 --memory -o x", "found --memory and -o"),
        ("--model gpt2 --ranks 8 --gbs 8 --seq 256 --jitter sgma=7 -o x", "'sigma'"),
        ("--model gpt2 --ranks 8 --gbs 8 --seq 256 --jitter sigma=7 -o x", "sigma: found 7"),
        ("--model gpt2 --ranks 8 --gbs 8 --seq 256 --efficiency gem=1 -o x", "unknown efficiency 'gem'"),
        (
            "--model gpt2 --ranks 8 --gbs 8 --seq 256 --checkpoint-every 1 --checkpoint mode=x -o x",
            "mode: found",
        ),
    ],
)
def test_gen_llm_refuses(options, said, capsys):
    assert main(["gen", "llm", *options.split()]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("field", ["tensor", "virtual", "zero"])
def test_texts_are_no_numbers(field):
    with pytest.raises(ConfigError, match=f"{field}: found 'a'"):
        Training.from_dict({"model": "gpt2", "ranks": 8, "gbs": 16, "seq": 256, field: "a"})
