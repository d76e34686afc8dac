"""Accelerators, kernels and their times, jitter."""

from __future__ import annotations

import numpy as np
import pytest

from fabricsim.cluster_file import layers_of_file
from fabricsim.compute import (
    ACCELERATORS,
    EFFICIENCY,
    Jitter,
    Kernel,
    KernelClass,
    accelerator_like,
    accelerator_named,
    attention,
    elementwise,
    flops_of,
    gemm,
    grouped_gemm,
    kernel_ps,
)
from fabricsim.compute import transformer as T
from fabricsim.compute.accelerators import PRECISIONS
from fabricsim.errors import ConfigError
from fabricsim.fabrics.accelerator import Accelerator as Section
from fabricsim.platforms import preset_names
from fabricsim.workload.shapes import named_shape

H100 = accelerator_named("h100")


@pytest.mark.parametrize("found", ACCELERATORS.values(), ids=ACCELERATORS)
def test_an_accelerator_is_complete(found):
    assert found.peak_flops and set(found.peak_flops) <= set(PRECISIONS)
    assert all(1e12 <= rate <= 1e17 for rate in found.peak_flops.values())
    assert 1e11 < found.mem_bytes_per_s < 1e13 and 1e10 < found.mem_bytes < 1e12
    assert found.power_w is None or 10 < found.power_w < 2000
    assert "recalled" in found.source or "read" in found.source
    assert found.peak_flops.get("fp8", 1e20) >= found.peak_flops["fp16" if found.name == "v100" else "bf16"]


@pytest.mark.parametrize("preset", preset_names())
def test_presets_and_catalogue_agree(preset):
    table = layers_of_file(preset).merged().get("accelerator")
    if table is None:
        return
    section = Section.model_validate(table)
    found = accelerator_like(section.name, section.mem_bytes_per_s)
    assert found is not None, f"{section.name} of {section.mem_bytes_per_s} B/s is not in the catalogue"
    precision = "bf16" if "bf16" in found.peak_flops else "fp16"
    assert found.peak(precision) == section.flops_per_s


def test_names_and_labels():
    assert accelerator_named("A100 SXM").name == "a100"
    with pytest.raises(ConfigError, match="h1000"):
        accelerator_named("h1000")
    with pytest.raises(ConfigError, match="'fp4', which A100 SXM does not support, allowed: fp32, tf32"):
        accelerator_named("a100").peak("fp4")


@pytest.mark.parametrize(
    ("n", "published"),
    [(128, 2.6), (256, 18.3), (512, 105), (1024, 350), (2048, 679), (4096, 893), (8192, 950), (32768, 956)],
)
def test_gemm_falls_off_with_size_as_measured(n, published):
    """Google's sweep of bf16 products on TPU7x, a device of which is half a chip; to 15 %."""
    chip = accelerator_named("tpu-v7x")
    values = {"gemm/tpu": 2 * 956e12 / chip.peak("bf16"), "gap_s": 1.4e-6, "host_s": 1e-9}
    one = gemm(n, n, n)
    # both halves at once, each a product of its own
    pair = Kernel(KernelClass.GEMM, 2 * one.flops, 2 * one.mem_bytes, "bf16", one.size)
    seconds = kernel_ps([pair], chip, EFFICIENCY.with_values(values)) * 1e-12
    assert one.flops / seconds / 1e12 == pytest.approx(published, rel=0.15)


def test_a_kernel_takes_the_longer_of_both_times_and_a_gap():
    values = {"gemm/hopper": 0.5, "memory": 0.5, "gap_s": 1e-6, "host_s": 1e-9}
    efficiency = EFFICIENCY.with_values(values)
    rate, memory = H100.peak("bf16") / 2, H100.mem_bytes_per_s / 2
    work = Kernel(KernelClass.GEMM, 10**12, 10)
    assert kernel_ps([work], H100, efficiency) == pytest.approx((1e12 / rate + 1e-6) * 1e12, abs=1)
    move = elementwise(10**9, 4)
    assert kernel_ps([move], H100, efficiency) == pytest.approx((1e9 / memory + 4e-6) * 1e12, abs=1)
    assert kernel_ps([work, move.times(3)], H100, efficiency) == pytest.approx(
        kernel_ps([work], H100, efficiency) + 3 * kernel_ps([move], H100, efficiency), abs=2
    )
    assert kernel_ps([], H100) == 0


def test_many_small_kernels_wait_for_the_host():
    small = gemm(16, 16, 16, count=1000)
    slow = EFFICIENCY.with_values({"host_s": 1e-5})
    assert kernel_ps([small], H100, slow) == 10**10


def test_fewer_bits_are_faster_but_not_where_memory_decides():
    wide, narrow = gemm(8192, 8192, 8192), gemm(8192, 8192, 8192, "fp8")
    assert kernel_ps([narrow], H100) < kernel_ps([wide], H100)
    assert narrow.mem_bytes < wide.mem_bytes
    with pytest.raises(ConfigError, match="fp8"):
        kernel_ps([narrow], accelerator_named("a100"))


def test_constants_by_name_family_and_precision():
    changed = EFFICIENCY.with_values({"gemm/hopper": 0.11, "gemm/hopper/fp8": 0.12})
    assert changed.value("gemm", H100, "bf16") == 0.11
    assert changed.value("gemm", H100, "fp8") == 0.12
    assert changed.value("gemm", accelerator_named("mi300x"), "fp8") == EFFICIENCY.value(
        "gemm", accelerator_named("mi300x"), "fp8"
    )
    assert changed.of(H100)["gemm/fp8"].basis == "given"
    with pytest.raises(ConfigError) as error:
        EFFICIENCY.with_values({"gem": 0.5, "memory": -1})
    assert "'gem'" in str(error.value) and "memory: found -1" in str(error.value)


def test_counts_of_attention_and_groups():
    one = attention(2, 8, 8, 1024, 1024, 64)
    assert one.flops == 2 * 8 * 1024 * 1024 * 64 * 2  # half of 4 s^2 d
    group = grouped_gemm(4, 100, 64, 32)
    assert group.flops == 4 * gemm(100, 64, 32).flops
    assert flops_of([group.times(3)]) == 12 * gemm(100, 64, 32).flops


@pytest.mark.parametrize("name", ["gpt3-175b", "llama3-70b", "qwen3-235b-a22b", "deepseek-v3"])
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_products_follow_the_parameters(name, recompute):
    """Forward does 2 operations a token and active weight, backward 4, a recomputation 2 more."""
    shape = named_shape(name)
    micro = T.Micro(shape=shape, sequences=1, sequence_tokens=2048)
    ahead = back = 0
    for layer in range(shape.layers):
        ahead += _products(T.forward(micro, layer))
        back += _products(T.backward(micro, layer, recompute))
    outside = shape.hidden * (shape.vocab + shape.positions)  # embedding and output
    weights = shape.active_parameters - outside * (1 if shape.tied else 2)
    assert ahead == pytest.approx(2 * 2048 * weights, rel=0.02)
    assert back == pytest.approx((3 if recompute == "full" else 2) * ahead, rel=1e-3)


def _products(parts):
    kinds = (KernelClass.GEMM, KernelClass.GROUPED_GEMM)
    return flops_of(kernel for kernels in parts.values() for kernel in kernels if kernel.kind in kinds)


@pytest.mark.parametrize("name", ["llama3-70b", "qwen3-235b-a22b"])
def test_parallel_ranks_share_the_work(name):
    shape = named_shape(name)
    whole = T.Micro(shape=shape, sequences=2, sequence_tokens=4096)
    cut = T.Micro(
        shape=shape, sequences=2, sequence_tokens=4096, tensor=4, sequence_parallel=True, context=2, expert=8
    )
    for part, kernels in T.forward(cut, 0).items():
        assert flops_of(kernels) == pytest.approx(flops_of(T.forward(whole, 0)[part]) / 8, rel=0.02), part


def test_attention_that_is_not_fused_moves_its_scores():
    shape = named_shape("gpt3-175b")
    fused, plain = (
        T.Micro(shape=shape, sequences=1, sequence_tokens=2048, tensor=8, fused_attention=fused)
        for fused in (True, False)
    )
    for run in (T.forward, T.backward):
        assert kernel_ps(run(plain, 0)["attention"], H100) > kernel_ps(run(fused, 0)["attention"], H100)


def test_eager_work_has_constants_of_its_own():
    fused, eager = (
        T.Micro(shape=named_shape("llama3-8b"), sequences=1, sequence_tokens=4096, eager=eager)
        for eager in (False, True)
    )
    alike = EFFICIENCY.with_values(
        {"eager/hopper": 0.4, "memory": 0.4, "attention": 0.3, "eager_attention/hopper": 0.3}
    )
    slow = alike.with_values({"eager/hopper": 0.2, "eager_attention/hopper": 0.15})
    for run in (
        lambda micro: [k for ks in T.forward(micro, 0).values() for k in ks],
        lambda micro: [k for ks in T.backward(micro, 0, "full").values() for k in ks],
        T.output_forward,
        T.output_backward,
    ):
        assert kernel_ps(run(fused), H100, alike) == kernel_ps(run(eager), H100, alike)
        assert kernel_ps(run(fused), H100, slow) < kernel_ps(run(eager), H100, slow)
        assert flops_of(run(fused)) == flops_of(run(eager))


def test_more_ranks_wait_for_a_slower_one():
    one = [gemm(4096, 4096, 4096)]
    wide = EFFICIENCY.with_values({"spread": 0.01})
    assert kernel_ps(one, H100, wide, n_ranks=1024) == pytest.approx(1.10 * kernel_ps(one, H100, wide), abs=2)
    assert kernel_ps(one, H100, EFFICIENCY.with_values({"spread": 0}), n_ranks=1024) == kernel_ps(one, H100)


def test_the_rest_of_a_step():
    micro = T.Micro(shape=named_shape("llama3-8b"), sequences=1, sequence_tokens=4096, precision="fp8")
    assert flops_of(T.output_backward(micro)) == 2 * flops_of(T.output_forward(micro))
    assert flops_of([*T.embedding_forward(micro), *T.embedding_backward(micro)]) == 0
    assert kernel_ps(T.optimizer(10**9), H100) == pytest.approx(
        1e12 * 30e9 / H100.mem_bytes_per_s / EFFICIENCY.value("memory", H100), rel=0.01
    )


def test_jitter_is_keyed():
    jitter = Jitter(seed=3, sigma=0.05, straggler_share=0.1, straggler_factor=1.5)
    slow = jitter.stragglers(1000)
    assert 60 < slow.sum() < 140
    assert (jitter.stragglers(2000)[:1000] == slow).all()
    first = int(np.argmax(slow))
    quick = np.flatnonzero(~slow)
    assert jitter.factor(quick[:8], 5) == jitter.factor(quick[:8], 5) != jitter.factor(quick[:8], 6)
    assert Jitter(seed=3, straggler_share=0.1, straggler_factor=1.5).factor([first], 0) == 1.5
    assert jitter.factor(quick[:8], 5, "forward") != jitter.factor(quick[:8], 5, "backward")
    draws = np.log([jitter.factor([int(quick[0])], step) for step in range(400)])
    assert abs(draws.mean()) < 0.01 and 0.04 < draws.std() < 0.06


def test_jitter_is_checked():
    with pytest.raises(ConfigError) as error:
        Jitter(seed=1, sigma=2, straggler_share=-0.1, straggler_factor=0.5)
    assert str(error.value).count("jitter:") == 3


@pytest.mark.parametrize("value", ["0.5", True, 1.5, float("nan")])
def test_efficiencies_are_shares(value):
    with pytest.raises(ConfigError, match=r"efficiency gemm: found .*, allowed"):
        EFFICIENCY.with_values({"gemm": value})


def test_jitter_of_numbers():
    with pytest.raises(ConfigError) as caught:
        Jitter(seed="x", sigma="abc", straggler_share=2)
    assert len(caught.value.problems) == 3
