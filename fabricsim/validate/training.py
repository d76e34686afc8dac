"""Training steps as their owners published them: generated, and replayed on fluid links.

Constants of kernels are fitted on the rows with odd numbers, and those with even numbers are predicted; see
docs/compute.md, which has every row.
"""

from __future__ import annotations

from collections.abc import Callable

from fabricsim.validate import check
from fabricsim.validate._training_rows import SOURCES, Published, published
from fabricsim.validate._training_steps import fitted, spread_of, step_s

_CALIBRATED = "calibrated on the odd rows of docs/compute.md"
_PREDICTED = "predicted; constants fitted on the odd rows of docs/compute.md"


def _row(model: str, n_ranks: int, source: str) -> Published:
    (found,) = [
        row
        for row in published()
        if (row.model, row.n_ranks) == (model, n_ranks) and row.source.startswith(source)
    ]
    return found


def _step_check(row: Published, name: str, tolerance: float) -> None:
    """Register the step time of a row."""

    @check(
        name,
        configuration=row.label,
        published=row.step_s,
        unit="s",
        tolerance=tolerance,
        source=SOURCES[row.source],
        kind="end-to-end",
        status=_CALIBRATED if fitted(row) else _PREDICTED,
    )
    def step() -> float:
        return step_s(row)


for _one in published():
    if _one.source == "sc21":
        _step_check(_one, f"Megatron SC21, {_one.model.upper()}", 0.10)


def _llama3_tflops(n_ranks: int) -> float:
    """TFLOP/s of an accelerator, by the six operations a token and weight of which the rate was told."""
    row = _row("llama3-405b", n_ranks, "llama3")
    return row.tflops * row.step_s / step_s(row)


def _llama3_check(n_ranks: int) -> Callable[[], float]:
    row = _row("llama3-405b", n_ranks, "llama3")

    @check(
        f"Llama 3 405B on {n_ranks:,} H100",
        configuration=row.label,
        published=row.tflops,
        unit="TFLOP/s",
        tolerance=0.10,
        source=SOURCES["llama3"],
        kind="end-to-end",
        status=_CALIBRATED if fitted(row) else _PREDICTED,
    )
    def rate() -> float:
        return _llama3_tflops(n_ranks)

    return rate


_llama3_check(8192)
_llama3_check(16384)


@check(
    "Llama 3 405B, 16,384 to 8,192 H100",
    configuration="ratio of the TFLOP/s of an accelerator",
    published=400 / 430,
    tolerance=0.03,
    source=SOURCES["llama3"],
    kind="end-to-end",
    status=_PREDICTED,
)
def llama3_ratio() -> float:
    """Half as many micro-batches a pipeline."""
    return _llama3_tflops(16384) / _llama3_tflops(8192)


def _mpt_check(n_ranks: int, mfu: float) -> None:
    @check(
        f"MPT-70B FSDP on {n_ranks} H100",
        configuration=f"MFU, {_row('mpt-70b', n_ranks, 'foundry').label}",
        published=mfu,
        unit="%",
        tolerance=0.03,
        source=SOURCES["foundry-h100-large"],
        kind="end-to-end",
        status="calibrated on 128 H100, where it is 43.36 %",
    )
    def utilization() -> float:
        first, other = (step_s(_row("mpt-70b", n, "foundry-h100-large")) for n in (128, n_ranks))
        return 43.36 * first / other


_mpt_check(256, 42.42)
_mpt_check(512, 41.25)


def _spread_check(name: str, chosen: Callable[[Published], bool], status: str) -> None:
    rows = [row for row in published() if chosen(row)]
    for which, title, goal in ((0, "median", 0.10), (1, "90th percentile", 0.25)):

        def size(which: int = which) -> float:
            return spread_of([step_s(row) / row.step_s - 1 for row in rows])[which]

        check(
            f"Training steps, {name}, {title}",
            configuration=f"error of the step time of {len(rows)} published runs",
            published=goal,
            tolerance=0,
            source="the sources of docs/compute.md",
            kind="end-to-end",
            status=status,
            sense="at most",
        )(size)


_spread_check("fitted", fitted, _CALIBRATED)
_spread_check("not fitted", lambda row: not fitted(row), _PREDICTED)
