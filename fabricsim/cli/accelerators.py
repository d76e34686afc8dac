"""``fabricsim accelerators``: what they can do at most."""

from __future__ import annotations

import argparse
from typing import Any

from fabricsim.cli.output import emit_json, pairs, table

NAME = "accelerators"
SUMMARY = "list the accelerators, or show one with its sources and what kernels attain on it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="an accelerator, such as h100")


def run(arguments: argparse.Namespace) -> int:
    """List or show."""
    from fabricsim.compute import ACCELERATORS, EFFICIENCY, Accelerator, accelerator_named

    def entry(found: Accelerator) -> dict[str, Any]:
        return {
            "name": found.name,
            "label": found.label,
            "family": found.family,
            "peak_flops": dict(found.peak_flops),
            "mem_bytes_per_s": found.mem_bytes_per_s,
            "mem_bytes": found.mem_bytes,
            "power_w": found.power_w,
            "source": found.source,
        }

    if arguments.name is None:
        if arguments.json:
            emit_json([entry(found) for found in ACCELERATORS.values()])
            return 0
        shown = ("fp8", "fp4", "int8")
        table(
            ["accelerator", "label", "16-bit TFLOPS", *(f"{p} TFLOPS" for p in shown), "GB/s", "GB", "W"],
            [
                [
                    found.name,
                    found.label,
                    _tera(found.peak_flops.get("bf16") or found.peak_flops.get("fp16", 0.0)),
                    *(_tera(found.peak_flops.get(p, 0.0)) for p in shown),
                    f"{found.mem_bytes_per_s / 1e9:g}",
                    f"{found.mem_bytes / 1e9:.0f}",
                    "-" if found.power_w is None else f"{found.power_w:g}",
                ]
                for found in ACCELERATORS.values()
            ],
            left=2,
        )
        return 0
    found = accelerator_named(arguments.name)
    constants = EFFICIENCY.of(found)
    if arguments.json:
        emit_json(entry(found) | {"efficiency": {name: one.value for name, one in constants.items()}})
        return 0
    rows = [("name", found.name), ("label", found.label), ("family", found.family)]
    rows += [(f"peak {p}", f"{_tera(rate)} TFLOPS, dense") for p, rate in found.peak_flops.items()]
    rows += [
        ("memory", f"{found.mem_bytes / 1e9:.0f} GB, {found.mem_bytes_per_s / 1e9:g} GB/s"),
        ("power", "not published" if found.power_w is None else f"{found.power_w:g} W"),
        ("source", found.source),
    ]
    rows += [(name, f"{one.value:g}: {one.meaning} ({one.basis})") for name, one in constants.items()]
    pairs(rows)
    return 0


def _tera(rate: float) -> str:
    return f"{rate / 1e12:g}" if rate else "-"
