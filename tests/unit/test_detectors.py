"""The detectors of silent corruption catch the bit flips that they should, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabricsim.goodput.corruption import METHODS, abft_overhead, checksum_overhead
from fabricsim.goodput.detectors import (
    NormWatch,
    Shard,
    checked_all_reduce,
    checked_product,
    flip_bit,
    product_with_checksums,
    repeats,
    t10_guard,
)


def factors(kind, m=12, k=9, n=15, seed=0):
    rng = np.random.default_rng(seed)
    if kind is np.int64:
        return rng.integers(-1000, 1000, (m, k)), rng.integers(-1000, 1000, (k, n))
    return rng.standard_normal((m, k)).astype(kind), rng.standard_normal((k, n)).astype(kind)


def test_every_bit_of_an_integer_product_is_guarded():
    a, b = factors(np.int64)
    good = product_with_checksums(a, b)
    assert checked_product(good).ok
    for index in range(0, good.size, 7):
        for bit in range(0, 64, 3):
            full = good.copy()
            flip_bit(full, index, bit)
            found = checked_product(full)
            row, column = divmod(index, good.shape[1])
            wanted = (row if row < 12 else None, column if column < 15 else None)
            assert not found.ok and (found.row, found.column) == wanted
            assert (found.product == a @ b).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_flip_in_a_float_product_is_found_when_it_is_more_than_rounding(kind):
    a, b = factors(kind)
    good = product_with_checksums(a, b)
    tolerance = float(9 * 27 * np.finfo(kind).eps * np.abs(a).max() * np.abs(b).max())
    assert checked_product(good, tolerance).ok
    found = missed = 0
    rng = np.random.default_rng(1)
    for _ in range(600):
        full = good.copy()
        row, column = int(rng.integers(12)), int(rng.integers(15))
        flip_bit(full, row * 16 + column, int(rng.integers(8 * full.dtype.itemsize)))
        change = abs(float(full[row, column]) - float(good[row, column]))
        check = checked_product(full, tolerance)
        if change > 2 * tolerance or not np.isfinite(change):
            found += 1
            assert (check.row, check.column) == (row, column)
            assert np.abs(check.product - a @ b).max() <= 2 * tolerance
        elif change < tolerance / 2:
            missed += check.ok
            assert np.abs(full[:-1, :-1] - good[:-1, :-1]).max() <= tolerance
    assert found > 150 and missed > 50


def test_two_wrong_elements_are_found_and_not_corrected():
    a, b = factors(np.int64)
    full = product_with_checksums(a, b)
    full[1, 2] += 5
    full[3, 4] -= 7
    found = checked_product(full)
    assert not found.ok and found.product is None and found.row is None


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 7), st.integers(1, 40), st.integers(0, 10**6))
def test_a_checked_all_reduce_sums_and_sees_every_flip(ranks, length, seed):
    rng = np.random.default_rng(seed)
    vectors = [rng.integers(-(2**62), 2**62, length) for _ in range(ranks)]
    total, seen = checked_all_reduce(vectors)
    assert not seen and (total == np.sum(vectors, axis=0)).all()
    step, rank, bit = int(rng.integers(2 * ranks - 2)), int(rng.integers(ranks)), int(rng.integers(64))

    def fault(at, who, message):
        if (at, who) == (step, rank):
            flip_bit(message, int(rng.integers(len(message))), bit)

    assert checked_all_reduce(vectors, fault=fault)[1]


def test_an_all_reduce_of_floats_sees_what_is_more_than_rounding():
    rng = np.random.default_rng(3)
    vectors = [rng.standard_normal(64).astype(np.float32) for _ in range(4)]
    tolerance = float(4 * 64 * np.finfo(np.float32).eps * 4)
    assert not checked_all_reduce(vectors, tolerance=tolerance)[1]
    for bit, wanted in ((31, True), (30, True), (24, True), (0, False)):

        def fault(step, rank, message, bit=bit):
            if (step, rank) == (1, 2):
                flip_bit(message, 3, bit)

        assert checked_all_reduce(vectors, tolerance=tolerance, fault=fault)[1] is wanted


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=2000), st.data())
def test_shards_show_any_flip_and_any_short_burst(data, draw):
    shard = Shard.seal(data)
    assert shard.intact() and not shard.wrong_blocks()
    first = draw.draw(st.integers(0, 8 * len(data) - 1))
    burst = draw.draw(st.integers(1, 2**16 - 1)) | 1
    touched = set()
    for offset in range(16):
        if burst >> offset & 1 and first + offset < 8 * len(data):
            # The bits of a byte go on the wire from the most significant, for both sums of one byte.
            byte, bit = divmod(first + offset, 8)
            shard.data[byte] ^= 0x80 >> bit
            touched.add(byte // 512)
    assert not shard.intact()
    assert set(shard.wrong_blocks()) == touched


def test_known_values_of_the_sums():
    assert t10_guard(b"") == 0 and t10_guard(b"123456789") == 0xD0DB
    assert Shard.seal(b"123456789").crc == 0xCBF43926


def test_a_step_that_differs_once_does_not_repeat():
    calls = []

    def broken(state):
        calls.append(1)
        state = state * 3
        if len(calls) == 2:
            flip_bit(state, 1, 2)
        return state

    assert not repeats(broken, np.ones(4)) and repeats(broken, np.ones(4))


def test_the_norm_watch_sees_jumps_and_not_drift():
    rng = np.random.default_rng(5)
    watch = NormWatch()
    norms = 3 * np.exp(-np.arange(2000) / 1500) * (1 + 0.05 * rng.standard_normal(2000))
    assert not any(watch.suspect(norm) for norm in norms)
    assert watch.suspect(40.0) and watch.suspect(float("nan"))


def test_costs_by_their_formulas():
    m, n, k = 96, 80, 64
    extra = (m + 1) * (n + 1) * k * 2 - 2 * m * n * k + m * k + k * n + 2 * m * n
    assert abft_overhead(m, n, k) == pytest.approx(extra / (2 * m * n * k))
    assert abft_overhead(10**5, 10**5, 10**5) < 1e-4
    assert checksum_overhead(64) == 1 / 8
    assert METHODS["shard_crc"].covers["storage"] == round(1e6 * (1 - 2.0**-32))
