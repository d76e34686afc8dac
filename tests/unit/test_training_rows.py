"""The published training steps: the table, how rows become trainings on clusters, and which were fitted."""

from __future__ import annotations

import pytest

from fabricsim.validate._training_rows import SOURCES, published
from fabricsim.validate._training_steps import (
    cluster_of,
    fitted,
    shape_of,
    spread_of,
    step_s,
    superseded,
    training_of,
)
from fabricsim.workload.training import llm

ROWS = published()
#: Weights, as the source tells them with the rows.
WEIGHTS = {
    ("mpt-70b", 2048): 64_862_437_376,
    ("mpt-30b", 2048): 29_975_214_080,
    ("mpt-13b", 32768): 13_011_240_960,
    ("mpt-7b", 512): 6_652_567_552,
    ("mpt-3b", 16384): 2_688_537_600,
    ("mpt-1b", 65536): 1_445_974_016,
    ("mpt-760m", 8192): 769_907_712,
    ("mpt-350m", 1024): 354_936_832,
    ("mpt-125m", 2048): 125_311_488,
}


def test_the_table_is_whole():
    assert [row.number for row in ROWS] == list(range(1, 159))
    assert {row.source for row in ROWS} == set(SOURCES)
    assert all(row.step_s > 0 and row.tflops > 0 for row in ROWS)


def test_models_have_the_weights_that_the_source_tells():
    found = {(row.model, row.sequence_tokens): shape_of(row).parameters for row in ROWS}
    assert {key: found[key] for key in WEIGHTS} == WEIGHTS


def test_every_row_is_a_training():
    for row in ROWS:
        training = training_of(row)
        assert training.micro_batches * training.data * row.micro_batch_seqs == row.global_batch_seqs
        assert training.fsdp == row.sharding or row.source == "tpu-recipes"


@pytest.mark.parametrize(
    "source", ["nemo-26.08", "foundry-h100", "foundry-a100", "tpu-recipes", "sc21", "llama3"]
)
def test_a_cluster_has_a_place_for_every_rank(source):
    for row in ROWS:
        if row.source == source and row.n_ranks <= 512:
            cluster = cluster_of(row)
            assert len(cluster.rank_host(row.n_ranks)) == row.n_ranks
            assert cluster.accelerator is not None
            assert cluster.accelerator.name == training_of(row).device.label


def test_odd_rows_are_fitted_unless_a_later_release_is_faster():
    assert superseded() == {8, 11, 14, 17, 18, 20, 23}
    assert all(row.number % 2 for row in ROWS if fitted(row))
    assert not any(row.number in superseded() for row in ROWS if fitted(row))


def test_the_size_of_errors():
    assert spread_of([0.1, -0.2, 0.05]) == (0.1, 0.2)
    assert spread_of([n / 100 for n in range(1, 11)])[1] == 0.09


@pytest.mark.parametrize("number", [1, 44, 54, 135, 149])
def test_a_step_takes_about_as_long_as_published(number):
    row = ROWS[number - 1]
    assert step_s(row) == pytest.approx(row.step_s, rel=0.25)


def test_further_micro_batches_take_what_the_last_ones_took():
    """A step whose micro-batches are all emulated, and one of which only the first rounds are."""
    row = next(one for one in ROWS if one.model == "mpt-1b" and training_of(one).micro_batches == 8)
    training = training_of(row)
    from fabricsim.run import replay

    whole = replay(llm(training), cluster_of(row), fidelity="flow").summary["end_ps"] * 1e-12
    assert step_s(row) == pytest.approx(whole, rel=1e-3)
