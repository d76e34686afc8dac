"""Fits the constants of ``fabricsim.compute.efficiency`` on the published step times of odd rows.

    python benches/fit_efficiency.py [--rounds 3] [-o fit.json]

A round replays every row that is fitted with the constants so far; what a step takes beyond its compute
(exposed communication) is held, and the constants are moved so that compute and that together meet the
published times. Rows with even numbers are not looked at, nor are those that a later release of the same
software made much faster: see ``fitted`` in fabricsim/validate/_training_steps.py. Errors are relative, and
large ones count in proportion rather than squared. ``benches/training_steps.py`` then reports all rows.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fabricsim.compute import EFFICIENCY, Efficiency, Kernel, kernel_ps
from fabricsim.compute.transformer import (
    Micro,
    backward,
    embedding_backward,
    embedding_forward,
    forward,
    optimizer,
    output_backward,
    output_forward,
)
from fabricsim.validate._training_rows import Published, published
from fabricsim.validate._training_steps import fitted, step_s, training_of
from fabricsim.workload.training import Training

#: What is fitted; the rest of the constants stays.
FITTED = (
    "gemm/ampere", "gemm/hopper", "gemm/blackwell/fp8", "gemm/tpu", "eager_attention/ampere",
    "eager_attention/hopper", "memory", "eager/ampere", "eager/hopper", "spread", "host_s",
)  # fmt: skip
#: Errors beyond this count in proportion.
_FAR = 0.05


class Compute:
    """The compute of a training's step, for any constants."""

    def __init__(self, training: Training) -> None:
        self.training = training
        micro = Micro(
            shape=training.padded,
            sequences=training.micro_batch_seqs,
            sequence_tokens=training.sequence_tokens,
            tensor=training.tensor,
            sequence_parallel=training.sequence_parallel is True,
            context=training.context,
            expert=training.expert,
            expert_tensor=training.expert_tensor,
            precision=training.precision,
            fused_attention=training.fused_attention,
            eager=training.eager,
        )
        last = training.shape.layers - 1
        passes = (forward(micro, last), backward(micro, last, training.recompute))
        self.layer = [[kernel for part in one.values() for kernel in part] for one in passes]
        self.ends = [
            embedding_forward(micro), embedding_backward(micro),
            output_forward(micro), output_backward(micro),
        ]  # fmt: skip
        cut = training.zero or training.fully_sharded
        mine = training.shape.parameters // (training.tensor * training.pipeline)
        self.update = optimizer(mine // (training.data if cut else 1))

    def seconds(self, efficiency: Efficiency) -> float:
        """Return how long the busiest stage computes, and waits for the pipeline to fill and drain."""
        one = self.training
        layers = one.shape.layers / one.pipeline * sum(self._s(part, efficiency) for part in self.layer)
        ends = sum(self._s(part, efficiency) for part in self.ends) / (1 if one.pipeline == 1 else 2)
        rounds = one.micro_batches + (one.pipeline - 1) / one.virtual
        return rounds * layers + one.micro_batches * ends + self._s(self.update, efficiency)

    def _s(self, kernels: Sequence[Kernel], efficiency: Efficiency) -> float:
        return kernel_ps(kernels, self.training.device, efficiency, self.training.n_ranks) * 1e-12


def moved(
    rows: Sequence[Published], computes: Sequence[Compute], beyond: np.ndarray, start: Mapping[str, float]
) -> dict[str, float]:
    """Return the constants that make compute, and what is beyond it, meet the published times."""
    names = list(start)

    def errors(logs: np.ndarray) -> np.ndarray:
        efficiency = EFFICIENCY.with_values(dict(zip(names, np.exp(logs), strict=True)))
        found = [one.seconds(efficiency) for one in computes]
        return np.array([math.log((s + e) / r.step_s) for s, e, r in zip(found, beyond, rows, strict=True)])

    def loss(found: np.ndarray) -> float:
        return float(np.sum(np.sqrt(1 + (found / _FAR) ** 2) - 1))

    logs, damp, small = np.log(np.array(list(start.values()))), 1e-2, 1e-4
    found = errors(logs)
    for _ in range(40):
        slopes = np.stack(
            [(errors(logs + small * axis) - found) / small for axis in np.eye(len(logs))], axis=1
        )
        weight = 1 / np.sqrt(1 + (found / _FAR) ** 2)
        square = slopes.T @ (slopes * weight[:, None])
        gradient = slopes.T @ (weight * found)
        gain = 0.0
        while damp < 1e6:
            step = np.linalg.solve(square + damp * np.diag(np.diag(square) + 1e-6), -gradient)
            tried = errors(logs + np.clip(step, -0.3, 0.3))
            gain = loss(found) - loss(tried)
            if gain > 0:
                logs, found, damp = logs + np.clip(step, -0.3, 0.3), tried, damp / 3
                break
            damp *= 4
        if gain < 1e-5:
            break
    return {name: float(f"{value:.3g}") for name, value in zip(names, np.exp(logs), strict=True)}


def main(arguments: Sequence[str]) -> int:
    """Fit, and print the constants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="replays of every row that is fitted")
    parser.add_argument("-o", metavar="FILE", help="write constants and errors as JSON")
    given = parser.parse_args(arguments)

    rows = [row for row in published() if fitted(row)]
    values = {name: EFFICIENCY.constants[name].value for name in FITTED}
    report: dict[str, Any] = {}
    for turn in range(given.rounds):
        efficiency = EFFICIENCY.with_values(values)
        trainings = [replace(training_of(row), efficiency=efficiency) for row in rows]
        computes = [Compute(training) for training in trainings]
        steps = np.array([step_s(row, training) for row, training in zip(rows, trainings, strict=True)])
        errors = steps / np.array([row.step_s for row in rows]) - 1
        beyond = steps - np.array([one.seconds(efficiency) for one in computes])
        median, high = np.median(np.abs(errors)), np.quantile(np.abs(errors), 0.9)
        print(f"round {turn}: median {median:.3f}, 90th percentile {high:.3f}, {values}", flush=True)
        report = {
            "values": values,
            "errors": {row.label: float(e) for row, e in zip(rows, errors, strict=True)},
        }
        values = moved(rows, computes, beyond, values)
    print(f"next: {values}")
    if given.o:
        with open(given.o, "w", encoding="utf-8") as file:
            json.dump(report | {"next": values}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
