"""``fabricsim doctor``: does this installation work."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from typing import Any

from fabricsim.cli.output import emit_json, table

NAME = "doctor"
SUMMARY = "check this installation: versions, the compiled core and a self-test, threads, disk"

LEAST_DISK_BYTES = 1 << 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing to add."""


def run(arguments: argparse.Namespace) -> int:
    """Check; exit 1 if anything is wrong."""
    rows = [_python(), *_packages(), *_core(), _threads(), _disk()]
    bad = [row for row in rows if not row["ok"]]
    if arguments.json:
        emit_json({"ok": not bad, "checks": rows})
    else:
        table(
            ["check", "found", ""],
            [[r["check"], r["found"], "ok" if r["ok"] else "FAIL"] for r in rows],
            left=3,
        )
    return 1 if bad else 0


def _row(check: str, found: object, ok: bool = True) -> dict[str, Any]:
    return {"check": check, "found": str(found), "ok": ok}


def _python() -> dict[str, Any]:
    return _row("python", f"{platform.python_version()} on {platform.machine()}", sys.version_info >= (3, 11))


def _packages() -> list[dict[str, Any]]:
    from importlib import metadata

    import fabricsim

    rows = [_row("fabricsim", fabricsim.__version__)]
    for name in ("numpy", "pyarrow", "pydantic", "rich", "rich-argparse"):
        try:
            rows.append(_row(name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            rows.append(_row(name, "not installed", False))
    return rows


def _core() -> list[dict[str, Any]]:
    try:
        from fabricsim._core import engine

        rooms = engine.implementations()
    except ImportError as error:
        return [_row("compiled core", f"does not load: {error}", False)]
    rows = [_row("compiled core", f"loads, {sum(map(len, rooms.values()))} models")]
    from fabricsim.workload.selftest import SELF_TEST_DIGEST, self_test

    try:
        digests = self_test()
    except Exception as error:
        # Whatever goes wrong here is what the doctor was called for.
        return [*rows, _row("self-test", f"{type(error).__name__}: {error}", False)]
    ok = set(digests.values()) == {SELF_TEST_DIGEST}
    told = (
        "one thread, two threads and plain windows agree" if ok else f"{digests}, wanted {SELF_TEST_DIGEST}"
    )
    return [*rows, _row("self-test", f"digest {SELF_TEST_DIGEST}: {told}", ok)]


def _threads() -> dict[str, Any]:
    from fabricsim.run import MAX_THREADS

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _row("threads", f"{usable} usable (--threads {min(usable, MAX_THREADS)})")


def _disk() -> dict[str, Any]:
    import tempfile

    free = shutil.disk_usage(tempfile.gettempdir()).free
    return _row("disk for temporary files", f"{free / 1e9:.1f} GB free", free >= LEAST_DISK_BYTES)
