"""Time and size of a report and of exports, on results of growing size.

    python benches/report.py [--ranks 512] [--each 2000 20000] [-o results.json]

A result is made up (no run): ranks x each rows of operations, written to a folder. CPU-seconds of one
process for each measurement, reading the folder included, and the most memory that it held. See
benches/README.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def make(folder: str, ranks: int, each: int) -> None:
    """Save a result of so many ranks and operations."""
    sys.path.insert(0, str(ROOT / "tests" / "unit"))
    from report_results import large_result

    large_result(ranks=ranks, each=each).save(folder)


def measure(what: str, folder: str) -> dict[str, float]:
    """Write one thing about a result."""
    from fabricsim.report import iblinkinfo, prometheus, write_perfetto, write_report
    from fabricsim.result import Result

    out = Path(folder).parent / f"out.{what}"
    began = time.process_time()
    result = Result.load(folder)
    if what == "report":
        write_report(result, out)
    elif what == "perfetto":
        write_perfetto(result, out)
    else:
        lines = iblinkinfo(result) if what == "iblinkinfo" else prometheus(result)
        out.write_text("".join(f"{line}\n" for line in lines))
    took = time.process_time() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "seconds": round(took, 2),
        "megabytes": round(out.stat().st_size / 1e6, 2),
        "memory_gb": round(memory, 2),
    }


def main() -> None:
    """Measure, each in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=512)
    parser.add_argument("--each", type=int, nargs="+", default=[2000, 20000], help="operations of a rank")
    parser.add_argument("-o", "--out", help="write the figures as JSON")
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one)))
        return
    found = []
    for each in arguments.each:
        with tempfile.TemporaryDirectory() as folder:
            make(f"{folder}/result", arguments.ranks, each)
            for what in ("report", "perfetto", "iblinkinfo", "prometheus"):
                command = [sys.executable, __file__, "--one", what, f"{folder}/result"]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                row = {"rows": arguments.ranks * each, "what": what} | json.loads(done.stdout)
                print(
                    f"{row['rows']:>12,} rows  {what:<10}  {row['seconds']:7.2f} s"
                    f"  {row['megabytes']:8.2f} MB  {row['memory_gb']:5.2f} GB held",
                    flush=True,
                )
                found.append(row)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
