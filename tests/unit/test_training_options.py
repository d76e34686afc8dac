"""Options of a training: what goes together; where ranks stand; in which order passes run."""

from dataclasses import fields

import pytest

from fabricsim.compute import EFFICIENCY, Jitter, accelerator_named
from fabricsim.errors import ConfigError
from fabricsim.workload import llm
from fabricsim.workload.shapes import named_shape
from fabricsim.workload.training import ALIASES, GROUPS, Layout, Training, memory
from fabricsim.workload.training.footprint import layer_activation_bytes
from fabricsim.workload.training.schedule import layers_of, passes

GIVEN = {"model": "gpt2", "n_ranks": 16, "global_batch_seqs": 32, "sequence_tokens": 1024}


def problems(**options):
    with pytest.raises(ConfigError) as caught:
        Training(**GIVEN | options)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "gpt-2"}, "unknown model 'gpt-2'; did you mean 'gpt2'"),
        ({"accelerator": "h10"}, "unknown accelerator 'h10'"),
        ({"precision": "bf17"}, "unknown precision 'bf17'; did you mean 'bf16'"),
        ({"precision": "fp8", "accelerator": "a100"}, "found fp8, which needs fp8 on a100, allowed:"),
        ({"tensor": 0}, "tensor: found 0, allowed: a whole number, at least 1"),
        ({"steps": 1.5}, "steps: found 1.5, allowed: a whole number"),
        ({"steps": 10_001}, "steps: found 10001, allowed: at most 10000"),
        ({"zero": 4}, "zero: found 4, allowed: 0, 1, 2, 3"),
        ({"fsdp": "shard"}, "fsdp: found 'shard', allowed: none, full, grad, hybrid"),
        ({"overlap_tensor": 1}, "overlap_tensor: found 1, allowed: true, false"),
        ({"tensor": 3, "n_ranks": 16}, "allowed: a multiple of tensor x context x pipeline, 3"),
        ({"tensor": 8}, "tensor: found 8, allowed: a divisor of heads of gpt2, 12"),
        ({"virtual": 2}, "virtual: found 2 with pipeline 1"),
        ({"pipeline": 16, "tensor": 1}, "pipeline: found 16 x virtual 1, allowed: at most 12, the layers"),
        ({"pipeline": 4, "virtual": 2, "global_batch_seqs": 24}, "virtual: found 2 with 6 micro-batches"),
        ({"sequence_parallel": True}, "sequence_parallel: found true with tensor 1"),
        ({"context": 2, "fused_attention": False}, "fused_attention: found false with context 2"),
        ({"overlap_tensor": True}, "overlap_tensor: found true with tensor 1"),
        ({"overlap_tensor": True, "tensor": 2, "sequence_parallel": False}, "without sequence_parallel"),
        ({"overlap_pipeline": True}, "overlap_pipeline: found true with pipeline 1"),
        ({"context_exchange": "gather"}, "context_exchange: found gather with context 1"),
        ({"global_batch_seqs": 31}, "a multiple of micro_batch_seqs x data parallelism, 1 x 16"),
        ({"context": 2, "sequence_tokens": 1023}, "found 1023, allowed: a multiple of 2 x context"),
        ({"tensor": 2, "sequence_tokens": 1023}, "allowed with sequence_parallel: a multiple"),
        ({"sequence_tokens": 2048}, "sequence_tokens: found 2048, allowed: at most 1024, the positions"),
        ({"fsdp": "full", "zero": 1}, "zero: found 1 with fsdp full"),
        ({"zero": 2, "pipeline": 2}, "zero: found 2 with pipeline 2, allowed: 0, 1"),
        ({"zero": 3, "reduce_every": False}, "reduce_every: found false with zero 3"),
        ({"fsdp": "hybrid"}, "shard_ranks: found 0 with fsdp hybrid, allowed: a divisor of data x context"),
        ({"shard_ranks": 4}, "shard_ranks: found 4 with fsdp none"),
        ({"expert": 2}, "expert: found 2, allowed: 1, as gpt2 has no experts"),
        ({"expert_tensor": 2}, "expert_tensor: found 2, allowed: 1, as gpt2 has no experts"),
        ({"overlap_expert": True}, "overlap_expert: found true, allowed with: a model with shared experts"),
        ({"checkpoint_every": 2}, "checkpoint_every: found 2 with 1 steps"),
        ({"checkpoint": {"mode": "async"}}, "checkpoint: found options without checkpoint_every"),
        ({"checkpoint_every": 1, "checkpoint": {"steps": 3}}, "unknown option of a checkpoint 'steps'"),
        ({"jitter": 3}, "jitter: found 3"),
        ({"model": 5}, "unknown model '5'"),
        ({"checkpoint": 5, "checkpoint_every": 1}, "checkpoint: found 5, allowed: a mapping"),
        ({"checkpoint": {"fsync": 1}, "checkpoint_every": 1}, "checkpoint: fsync: found 1, allowed: true or"),
        ({"checkpoint": {"mode": "x"}, "checkpoint_every": 1}, "checkpoint: mode: found 'x'"),
        ({"efficiency": {}}, "efficiency: found {}, allowed: an Efficiency"),
        ({"data_path": ""}, "data_path: found '', allowed: a path"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(options, said):
    assert any(said in problem for problem in problems(**options)), problems(**options)


MOE = {"model": "mixtral-8x7b", "n_ranks": 16, "global_batch_seqs": 32, "sequence_tokens": 1024}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"expert": 3}, "expert: found 3, allowed: a divisor of 8, the experts"),
        (
            {"expert": 8, "expert_tensor": 4},
            "expert: found 8 x expert_tensor 4, allowed: a divisor of tensor",
        ),
        ({"tensor": 2, "sequence_parallel": False}, "sequence_parallel: found false with experts"),
        ({"expert_tensor": 3}, "expert_tensor: found 3, allowed: a divisor of 14336"),
        ({"dispatch": "rank"}, "dispatch: found rank with expert 1"),
        ({"fsdp": "hybrid", "shard_ranks": 8, "expert": 2}, "fsdp: found hybrid with expert 2"),
    ],
)
def test_what_does_not_fit_experts_is_refused(options, said):
    assert any(said in problem for problem in problems(**MOE | options)), problems(**MOE | options)


def test_all_problems_are_told_at_once():
    found = problems(
        tensor=5, zero=1, fsdp="full", overlap_tensor=True, sequence_parallel=False, shard_ranks=2
    )
    assert len(found) >= 4, found


def test_short_names_are_those_of_the_command_line():
    given = {"model": "gpt2", "ranks": 16, "tp": 2, "pp": 2, "gbs": 32, "mbs": 2, "seq": 512, "sp": False}
    training = Training.from_dict(given | {"bucket-bytes": "40MB", "jitter": {"sigma": 0.1}})
    assert (training.tensor, training.pipeline, training.data, training.micro_batches) == (2, 2, 4, 4)
    assert (training.bucket_bytes, training.jitter) == (40_000_000, Jitter(seed=1, sigma=0.1))
    assert Training.from_dict(training.options()) == training
    saves = {"checkpoint": {"transfer_bytes": "16MiB", "copy_bytes_per_s": "25GB/s"}, "checkpoint_every": 1}
    plan = Training.from_dict(GIVEN | saves).plan()
    assert (plan.transfer_bytes, plan.copy_bytes_per_s) == (16 << 20, 25 * 10**9)
    assert set(ALIASES.values()) <= {field.name for field in fields(Training)}


def test_a_mapping_of_unknown_missing_and_double_names_is_refused():
    with pytest.raises(ConfigError) as caught:
        Training.from_dict(
            {"tp": 2, "tensor": 2, "pq": 3, "bucket_bytes": "4 parsecs", "jitter": {"sgima": 1}}
        )
    text = str(caught.value)
    assert "unknown option of a training 'pq'" in text and "tensor: found twice" in text
    assert "model: missing" in text and "gbs: missing" in text and "bucket_bytes" in text and "sgima" in text
    with pytest.raises(ConfigError, match="unknown efficiency 'gem'"):
        Training.from_dict(GIVEN | {"efficiency": {"gem": 1.0}})
    with pytest.raises(ConfigError, match="found a training and tp"):
        llm(Training(**GIVEN), tp=2)


#: A training in which each option, changed to the value beside it, must change the trace.
CHANGES = {
    "model": ("llama2-7b", {}),
    "n_ranks": (32, {}),
    "global_batch_seqs": (64, {}),
    "sequence_tokens": (512, {}),
    "accelerator": ("a100", {}),
    "precision": ("fp8", {}),
    "tensor": (2, {}),
    "sequence_parallel": (False, {"tensor": 2}),
    "pipeline": (2, {}),
    "virtual": (2, {"pipeline": 2}),
    "context": (2, {}),
    "context_exchange": ("gather", {"context": 2}),
    "expert": (2, {"model": "mixtral-8x7b"}),
    "expert_tensor": (1, {"model": "mixtral-8x7b", "tensor": 2}),
    "dispatch": ("rank", {"model": "mixtral-8x7b", "expert": 2}),
    "micro_batch_seqs": (2, {}),
    "zero": (1, {}),
    "fsdp": ("full", {}),
    "shard_ranks": (4, {"fsdp": "hybrid", "_shard_ranks": 8}),
    "reduce_every": (True, {}),
    "recompute": ("selective", {}),
    "fused_attention": (False, {}),
    "eager": (True, {}),
    "efficiency": (EFFICIENCY.with_values({"memory": 0.5}), {}),
    "param_dtype": ("fp32", {"zero": 1}),
    "grad_dtype": ("bf16", {}),
    "overlap_grad_reduce": (False, {}),
    "overlap_param_gather": (False, {"zero": 1}),
    "overlap_tensor": (True, {"tensor": 2}),
    "overlap_pipeline": (True, {"pipeline": 2}),
    "overlap_expert": (True, {"model": "deepseek-v3", "expert": 2}),
    "prefetch": (2, {"fsdp": "full"}),
    "prefetch_backward": (0, {"fsdp": "full"}),
    "bucket_bytes": (1 << 20, {}),
    "vocab_multiple": (1000, {}),
    "steps": (2, {}),
    "checkpoint_every": (1, {}),
    "checkpoint": ({"mode": "async"}, {"checkpoint_every": 1}),
    "data_loading": (True, {}),
    "data_path": ("/elsewhere", {"data_loading": True}),
    "detail": ("stage", {}),
    "jitter": (Jitter(seed=1, sigma=0.1), {}),
}


@pytest.mark.parametrize("name", [field.name for field in fields(Training)])
def test_every_option_changes_something(name):
    value, more = CHANGES[name]
    base = GIVEN | {"detail": "layer"} | {key.lstrip("_"): entry for key, entry in more.items()}
    before, after = llm(Training(**base)), llm(Training(**base | {name: value}))
    assert not before.table.equals(after.table)
    assert before.provenance["options"] != after.provenance["options"]


# ---- where ranks stand


def test_groups_are_those_of_megatron():
    # The example of Megatron-LM's own documentation: 16 ranks, tensor 2, pipeline 4.
    groups = Layout(tensor=2, data=2, pipeline=4, shard=2).groups()
    assert groups["tp"] == [[rank, rank + 1] for rank in range(0, 16, 2)]
    assert groups["dp"] == [[0, 2], [1, 3], [4, 6], [5, 7], [8, 10], [9, 11], [12, 14], [13, 15]]
    assert groups["pp"] == [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]]


@pytest.mark.parametrize(
    "layout",
    [
        Layout(tensor=2, context=2, data=4, pipeline=2, expert=4, expert_tensor=1, shard=4),
        Layout(tensor=4, data=6, expert=3, expert_tensor=4, shard=2),
    ],
)
def test_every_kind_of_group_has_each_rank_once(layout):
    world = layout.stage_ranks * layout.pipeline
    groups = layout.groups()
    assert set(groups) == {*GROUPS, "pp"}
    for kind, found in groups.items():
        assert sorted(rank for group in found for rank in group) == list(range(world)), kind
        if kind != "pp":
            assert [rank for group in found for rank in group] == [
                rank for stage in range(layout.pipeline) for rank in layout.ranks(stage, kind).tolist()
            ]
            assert {len(group) for group in found} == {layout.size(kind)}
    # Replicas of an expert and the ranks that share it are the whole: no rank has two of them.
    assert layout.size("ep") * layout.size("etp") * layout.size("edp") == layout.stage_ranks
    assert layout.size("shard") * layout.size("replica") == layout.size("dp_cp")


def test_checkpoints_have_the_same_places():
    layout = Layout(tensor=2, context=2, data=2, pipeline=2)
    data_groups = [ranks for _, _, ranks in layout.parallel.data_groups()]
    assert sorted(data_groups) == sorted(layout.groups()["dp_cp"])


# ---- in which order


def words(found):
    return " ".join(f"{'BF'[one.forward]}{one.micro_batch}.{one.chunk}" for one in found)


def test_one_forward_one_backward():
    assert words(passes(1, 3, 4)) == "F0.0 F1.0 B0.0 F2.0 B1.0 F3.0 B2.0 B3.0"
    assert words(passes(0, 1, 2)) == "F0.0 B0.0 F1.0 B1.0"
    assert words(passes(0, 4, 2)) == "F0.0 F1.0 B0.0 B1.0"


def test_the_interleaved_schedule():
    # SC21, figure 4: four stages of two chunks, eight micro-batches; the first stage warms up with ten
    # passes.
    first = words(passes(0, 4, 8, 2)).split()
    assert first[:12] == [
        "F0.0",
        "F1.0",
        "F2.0",
        "F3.0",
        "F0.1",
        "F1.1",
        "F2.1",
        "F3.1",
        "F4.0",
        "F5.0",
        "F6.0",
        "B0.1",
    ]
    last = words(passes(3, 4, 8, 2)).split()
    assert last[:8] == ["F0.0", "F1.0", "F2.0", "F3.0", "F0.1", "B0.1", "F1.1", "B1.1"]
    # As many micro-batches as stages: no other rule.
    assert words(passes(3, 4, 4, 2)).startswith("F0.0 F1.0 F2.0 F3.0 F0.1 B0.1 F1.1 B1.1")


@pytest.mark.parametrize(("stages", "micro_batches", "chunks"), [(1, 3, 1), (4, 9, 1), (4, 8, 3), (2, 2, 4)])
def test_every_pass_runs_once_and_forward_first(stages, micro_batches, chunks):
    for stage in range(stages):
        order = passes(stage, stages, micro_batches, chunks)
        assert len(set(order)) == len(order) == 2 * micro_batches * chunks
        for chunk in range(chunks):
            forward = [p.micro_batch for p in order if p.forward and p.chunk == chunk]
            assert forward == list(range(micro_batches))
            for micro_batch in forward:
                both = [p.forward for p in order if (p.micro_batch, p.chunk) == (micro_batch, chunk)]
                assert both == [True, False]


def test_layers_are_spread():
    assert [len(own[0]) for own in layers_of(126, 16)] == [7, *[8] * 14, 7]
    assert [[len(chunk) for chunk in own] for own in layers_of(6, 2, 4)] == [[0, 1, 1, 1], [1, 1, 1, 0]]
    assert [len(own[0]) for own in layers_of(61, 16)] == [*[4] * 13, *[3] * 3]
    assert layers_of(8, 2, 2) == [[range(2), range(4, 6)], [range(2, 4), range(6, 8)]]
    for layers, stages, chunks in ((12, 4, 3), (13, 4, 1), (30, 4, 2)):
        flat = sorted(i for own in layers_of(layers, stages, chunks) for chunk in own for i in chunk)
        assert flat == list(range(layers))


# ---- memory


@pytest.mark.parametrize(("tensor", "sequence"), [(1, False), (8, False), (8, True)])
@pytest.mark.parametrize("recompute", ["none", "selective"])
def test_activations_of_a_layer_are_those_of_the_paper(tensor, sequence, recompute):
    training = Training(
        model="gpt3-175b", n_ranks=8, tensor=tensor, sequence_parallel=sequence, global_batch_seqs=8,
        sequence_tokens=2048, fused_attention=False,
    )  # fmt: skip
    s, h, a, t = 2048, 12288, 96, tensor
    scores = 5 * a * s // h if recompute == "none" else 0
    # arXiv 2205.05198, table 2.
    wanted = s * h * (34 + scores) // t if sequence else s * h * 10 + s * h * (24 + scores) // t
    assert layer_activation_bytes(training, recompute=recompute) == wanted


def test_memory_follows_the_sharding():
    shape = named_shape("llama3-8b")
    given = {"model": shape, "n_ranks": 8, "global_batch_seqs": 8, "sequence_tokens": 4096}
    n = shape.parameters
    (ddp,) = memory(Training(**given))
    (zero1,) = memory(Training(**given, zero=1))
    (zero2,) = memory(Training(**given, zero=2))
    (fsdp,) = memory(Training(**given, fsdp="full"))
    assert (ddp.weights, ddp.gradients, ddp.optimizer) == (2 * n, 4 * n, 12 * n)
    assert (zero1.weights, zero1.gradients, zero1.optimizer) == (2 * n, 4 * n, 12 * -(-n // 8))
    assert zero2.gradients < zero1.gradients and fsdp.weights < zero2.weights
    assert ddp.activations == zero1.activations == fsdp.activations
    (full,) = memory(Training(**given, recompute="full"))
    assert full.activations < ddp.activations
    assert "h100 has" in ddp.excess(accelerator_named("h100")) and ddp.to_json()["total"] == ddp.total


def test_the_first_stage_keeps_the_most_activations():
    found = memory(
        Training(model="llama3-8b", n_ranks=8, pipeline=4, global_batch_seqs=16, sequence_tokens=4096)
    )
    assert [one.stage for one in found] == [0, 1, 2, 3]
    assert found[0].activations > found[1].activations > found[2].activations
