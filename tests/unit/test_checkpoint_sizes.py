"""Sizes of checkpoints, rank by rank and file by file."""

from collections import Counter

import pytest

from fabricsim.checkpoint import (
    MLPERF,
    OPTIMISERS,
    SHARDINGS,
    Checkpoint,
    MlperfCheckpoint,
    Parallel,
    mlperf_checkpoint,
)
from fabricsim.errors import ConfigError
from fabricsim.workload.shapes import ModelShape, named_shape

GIB = 1 << 30


@pytest.mark.parametrize(
    ("name", "world", "tp", "weights", "state", "gib"),
    [
        ("llama3-8b", 8, 1, 2_007_565_312, 12_045_637_632, 104.70),
        ("llama3-70b", 64, 8, 2_184_120_320, 13_103_482_368, 911.21),
    ],
)
def test_mlperf_lists_byte_for_byte(name, world, tp, weights, state, gib):
    wanted = []
    for rank in range(world):
        prefix = f"zero_pp_rank_{rank // tp}_mp_rank_{rank % tp}"
        wanted += [(rank, f"{prefix}_model_states", weights), (rank, f"{prefix}_optim_states", state)]
    found = mlperf_checkpoint(name)
    assert [(file.rank, file.name, file.bytes) for file in found.files] == wanted
    assert found.total_bytes / GIB == pytest.approx(gib, abs=0.005)


def test_mlperf_pipelines_save_a_file_a_layer():
    found = mlperf_checkpoint("llama3-405b")
    assert found.parallel.world == 512 and found.total_bytes / 1e12 == pytest.approx(5.68, abs=0.005)
    layers = Counter(file.name.split("-")[0] for file in found.files if file.holds == "weights")
    # 126 layers, the embedding before and output and norm after them, each on 8 tensor-parallel ranks.
    assert layers == {f"layer_{index}": 8 for index in range(129)}
    assert sum(file.bytes for file in found.files if file.name.startswith("layer_128-")) == 8 * 2 * 16384
    state = [file for file in found.files if file.holds == "optimiser"]
    assert [file.rank for file in state] == list(range(512))
    assert {file.bytes for file in state} == {12 * (405_853_388_800 // 512) + 60 * 16384}


def test_mlperf_one_trillion_has_its_published_size():
    assert mlperf_checkpoint("llama3-1t").total_bytes / (1 << 40) == pytest.approx(15, rel=0.01)


def test_mlperf_counts_parameters_and_cuts_each_tensor():
    given = {
        "name": "small",
        "hidden": 512,
        "layers": 2,
        "heads": 8,
        "kv_heads": 2,
        "ffn": 1000,
        "vocab": 321,
    }
    found = MlperfCheckpoint(**given)
    layer = 512 * (512 + 256) + 512 * 512 + 3 * 512 * 1000 + 2 * 512
    assert found.parameters == 2 * 321 * 512 + 2 * layer + 512
    assert [file.bytes for file in found.files] == [2 * found.parameters, 12 * found.parameters + 60 * 512]
    # Three parts: the remainder of every tensor is dropped.
    parts = MlperfCheckpoint(**given, dp=3)
    tensors = [321 * 512, 321 * 512, 512] + 2 * [512, 512, 512 * 768, 512 * 512, 2 * 512_000, 512_000]
    assert parts.files[0].bytes == 2 * sum(elements // 3 for elements in tensors)
    assert [file.name for file in MlperfCheckpoint(**given, dp=2, stage=1).files] == [
        "model_0_model_states",
        "zero_pp_rank_0_mp_rank_0_optim_states",
        "zero_pp_rank_1_mp_rank_0_optim_states",
    ]


def test_unknown_workloads_and_stages_are_refused():
    with pytest.raises(ConfigError, match="llama3-405b"):
        mlperf_checkpoint("llama3-406b")
    with pytest.raises(ConfigError, match="stage: found 3 with pp 2"):
        MlperfCheckpoint(name="x", layers=2, hidden=8, heads=2, kv_heads=2, ffn=8, vocab=8, pp=2)
    assert set(MLPERF) == {"llama3-8b", "llama3-70b", "llama3-405b", "llama3-1t"}


@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("weights", ["bf16", "fp32"])
def test_data_parallelism_saves_each_parameter_once(sharding, optimiser, weights):
    if OPTIMISERS[optimiser].factored and sharding not in ("ddp", "fsdp-full"):
        pytest.skip("states of whole matrices")
    shape = named_shape("llama3-8b")
    found = Checkpoint(
        shape=shape, sharding=sharding, weights=weights, optimiser=optimiser, parallel=Parallel(dp=6)
    )
    size = {"bf16": 2, "fp32": 4}[weights]
    size += {
        "adam-mixed": 12,
        "adam": 8,
        "adam-low": 2 * size,
        "sgd-momentum-mixed": 8,
        "sgd-momentum": 4,
    }.get(optimiser, 0)
    total = size * shape.parameters
    if optimiser == "adafactor":
        total += 4 * sum(sum(t.shape) if len(t.shape) > 1 else t.shape[0] for t in shape.tensors())
    assert found.total_bytes == total
    files = {"ddp": 1, "fsdp-full": 1, "zero1": 7, "zero2": 7, "zero3": 12, "fsdp": 6}[sharding]
    assert len(found.files) == files if optimiser not in ("none", "adafactor") else files >= len(found.files)
    if sharding in ("zero3", "fsdp"):
        sizes = Counter()
        for file in found.files:
            sizes[file.rank] += file.bytes
        assert max(sizes.values()) - min(sizes.values()) <= size


def test_zero_divides_the_optimiser_over_the_world():
    found = Checkpoint(shape=named_shape("llama3-8b"), sharding="zero1", parallel=Parallel(tp=2, pp=2, dp=4))
    state = sum(file.bytes for file in found.files if file.holds == "optimiser")
    weights = sum(file.bytes for file in found.files if file.holds == "weights")
    assert state == 6 * weights
    # Norms are whole on both tensor-parallel ranks.
    assert weights == 2 * (8_030_261_248 + 65 * 4096)
    assert {file.rank for file in found.files if file.holds == "weights"} == {0, 1, 8, 9}
    assert {file.rank for file in found.files} == set(range(16))


def test_pipelines_keep_layers_whole_and_a_tied_output_twice():
    shape = named_shape("gpt2")
    found = Checkpoint(shape=shape, sharding="ddp", optimiser="none", parallel=Parallel(pp=5))
    assert found.total_bytes == 2 * (shape.parameters + 50257 * 768)
    layer = 2 * sum(tensor.elements for tensor in shape.layer(0))
    # 12 layers on 5 stages: 3, 3, 2, 2, 2.
    assert [file.bytes for file in found.files][1:4] == [3 * layer, 2 * layer, 2 * layer]


def test_experts_are_saved_by_the_ranks_that_have_them():
    shape = named_shape("mixtral-8x7b")
    expert = 32 * 3 * 4096 * 14336
    found = Checkpoint(shape=shape, sharding="ddp", optimiser="none", parallel=Parallel(dp=16, ep=8))
    assert [file.bytes for file in found.files][1:] == [2 * expert] * 8
    assert found.total_bytes == 2 * shape.parameters
    cut = Checkpoint(shape=shape, sharding="zero3", parallel=Parallel(dp=16, ep=8))
    assert cut.total_bytes == 14 * shape.parameters and {file.rank for file in cut.files} == set(range(16))


def test_vocabularies_are_padded_as_megatron_does():
    shape = named_shape("gpt3-175b")
    found = Checkpoint(
        shape=shape, sharding="ddp", optimiser="none", parallel=Parallel(tp=8), vocab_multiple=128
    )
    # 50,257 rows become 51,200, each of 8 ranks has 6,400; positions, norms and output biases are on all.
    repeated = 2048 * 12288 + 96 * 6 * 12288 + 2 * 12288
    assert found.total_bytes == 2 * (shape.parameters + (51_200 - 50_257) * 12288 + 7 * repeated)
    assert len({file.bytes for file in found.files}) == 1


def test_sizes_that_were_told():
    gpt3 = Checkpoint(shape=named_shape("gpt3-175b"), sharding="zero3", parallel=Parallel(dp=8))
    assert gpt3.total_bytes == pytest.approx(2.45e12, rel=0.005)
    bloom = Checkpoint(shape=named_shape("bloom-176b"), sharding="zero1")
    weights = sum(file.bytes for file in bloom.files if file.holds == "weights")
    assert weights / GIB == pytest.approx(329, rel=0.005)
    assert bloom.total_bytes / GIB == pytest.approx(2300, rel=0.005)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sharding": "zero4"}, "did you mean 'zero"),
        ({"weights": "fp8"}, "unknown precision"),
        ({"optimiser": "adan"}, "did you mean 'adam'"),
        ({"parallel": Parallel(pp=33)}, "pp: found 33"),
        ({"parallel": Parallel(tp=64)}, "tp: found 64"),
        ({"parallel": Parallel(dp=2, ep=2)}, "ep: found 2"),
        ({"sharding": "fsdp-full", "parallel": Parallel(tp=2)}, "data parallelism alone"),
        ({"sharding": "fsdp", "optimiser": "adafactor"}, "whole matrices"),
        ({"vocab_multiple": 0}, "vocab_multiple"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Checkpoint(shape=named_shape("llama3-8b"), **given)


def test_degrees_are_checked():
    with pytest.raises(ConfigError, match="tp: found 0"):
        Parallel(tp=0)
    with pytest.raises(ConfigError, match="a divisor of dp"):
        Parallel(dp=4, ep=3)
    with pytest.raises(ConfigError, match="tp-pp-dp"):
        Parallel(order="dp")
    for order in ("tp-dp-pp", "tp-pp-dp"):
        parallel = Parallel(tp=2, pp=3, dp=4, order=order)
        places = [place for _, place in parallel.places()]
        assert len(set(places)) == 24
        assert all(parallel.rank(p.tp, p.pp, p.dp) == rank for rank, p in parallel.places())
        assert sorted(rank for *_, ranks in parallel.data_groups() for rank in ranks) == list(range(24))


def test_a_model_of_ones_own():
    shape = ModelShape(name="own", layers=4, hidden=64, heads=4, ffn=128, vocab=100, source="here", tied=True)
    found = Checkpoint(shape=shape, sharding="zero3", parallel=Parallel(tp=2, pp=2, dp=3))
    assert found.total_bytes > 14 * shape.parameters and len(found.files) == 24
