"""Shapes of models: their parameters are those that were published."""

import pytest

from fabricsim.errors import ConfigError
from fabricsim.workload.shapes import SHAPES, ModelShape, Tensor, named_shape, part

# As the weights that were published count; where only rounded numbers were, see below.
EXACT = {
    "gpt2": 124_439_808,
    "gpt2-xl": 1_557_611_200,
    "bloom-176b": 176_247_271_424,
    "llama2-7b": 6_738_415_616,
    "llama2-13b": 13_015_864_320,
    "llama2-70b": 68_976_648_192,
    "llama3.2-1b": 1_235_814_400,
    "llama3.2-3b": 3_212_749_824,
    "mpt-1b": 1_315_950_592,
    "mpt-13b": 12_853_954_560,
    "mpt-30b": 29_975_214_080,
    "mpt-70b": 64_862_437_376,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3-405b": 405_853_388_800,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-8b": 8_190_735_360,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
}
ROUNDED = {"gpt3-175b": 174.6e9, "mt-nlg-530b": 530e9, "deepseek-v2": 235.7e9, "deepseek-v3": 671e9}
# Names of sizes that are rounded: what they say, and by how much they may be off.
NAMED = {"gpt3-": 0.03, "gpt-": 0.03, "mpt-": 0.32}
ACTIVE = {
    "mixtral-8x7b": 12.9e9,
    "qwen3-30b-a3b": 3.35e9,
    "qwen3-235b-a22b": 22e9,
    "deepseek-v2": 21e9,
    "deepseek-v3": 37e9,
}


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_are_the_published_ones(name):
    shape = named_shape(name)
    if name in EXACT:
        assert shape.parameters == EXACT[name]
    elif name in ROUNDED:
        assert shape.parameters == pytest.approx(ROUNDED[name], rel=1e-3)
    else:
        family = next(prefix for prefix in NAMED if name.startswith(prefix))
        size = name.removeprefix(family)
        told = float(size[:-1]) * {"m": 1e6, "b": 1e9}[size[-1]]
        assert shape.parameters == pytest.approx(told, rel=NAMED[family])
    assert shape.active_parameters == pytest.approx(ACTIVE.get(name, shape.parameters), rel=0.02)
    assert shape.source


def test_unknown_models_are_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'llama3-8b'"):
        named_shape("llama-3-8b")


def test_shapes_are_checked():
    common = {"name": "x", "hidden": 8, "heads": 2, "ffn": 8, "vocab": 16, "source": "here"}
    with pytest.raises(ConfigError, match="layers: found 0"):
        ModelShape(layers=0, **common)
    with pytest.raises(ConfigError, match="experts_used: found 0 of 4"):
        ModelShape(layers=1, experts=4, **common)
    shape = ModelShape(layers=1, **common)
    assert (shape.kv_heads, shape.head_width) == (2, 4)
    assert shape.padded(10).vocab == 20 and repr(shape) == "<ModelShape x: 1 layers of 8, 728 parameters>"


@pytest.mark.parametrize("parts", [1, 3, 8])
def test_the_cuts_of_a_tensor_are_the_whole(parts):
    tensor = Tensor("attention.q", (24 * 16, 100), 0, 16)
    local = [tensor.local(parts, index) for index in range(parts)]
    assert sum(rows for rows, _ in local) == 24 * 16
    assert all(rows % 16 == 0 and columns == 100 for rows, columns in local)
    assert sum(part(tensor.elements, parts, index) for index in range(parts)) == tensor.elements


def test_fewer_heads_than_ranks_are_held_by_several():
    assert [Tensor("attention.k", (2 * 16, 8), 0, 16).local(8, index) for index in range(8)] == [(16, 8)] * 8
