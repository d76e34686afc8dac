"""Import the results of nccl-tests (the JSON of its ``-J``, or of ``fabricsim bench``) as a trace.

Every result is its collective once, with its size, in the order of the file and one after another on stream
0; measured start and end are its mean time, counted from the end of the one before.  A sendrecv is a send of
each rank to the next and a recv from the one before.

Left out: repetitions, types of data (the size tells all), what was wrong with the data (a warning).
"""

from __future__ import annotations

import os
from pathlib import Path

from fabricsim.analysis.nccl_tests import KINDS, NcclTests, parse_nccl_tests
from fabricsim.convert import ConvertReport
from fabricsim.convert._captures import MAX_RANKS, Notes, head, option_count, parse_json, read, shown
from fabricsim.convert._table import TableRows
from fabricsim.errors import ConfigError, InputError, Problem, unknown_name
from fabricsim.trace import make_provenance


def sniff(path: Path) -> bool:
    """Whether the file begins as nccl-tests' JSON does."""
    data = head(path, 1 << 16).lstrip()
    return data.startswith(b"{") and b'"version"' in data[:64] and b'"args"' in data


def convert(
    path: str | os.PathLike[str], *, ranks: int | None = None, test: str | None = None
) -> ConvertReport:
    """Import a document of nccl-tests, plain or gzip.

    Parameters
    ----------
    ranks
        How many, where the file does not list its devices.
    test
        What ran, such as ``all_reduce``, where the file's arguments do not tell.

    Raises
    ------
    ConfigError
        A bad option.
    InputError
        With every result that has no size or time.
    """
    said = None if ranks is None else option_count(ranks, "ranks", 2)
    if test is not None and test not in KINDS:
        raise ConfigError([Problem("test", unknown_name("test", str(test), KINDS))])
    where = str(path)
    found = parse_nccl_tests(parse_json(where, read(Path(path))), where)
    kind = KINDS[test] if test is not None else found.kind
    n = said or found.ranks
    problems = []
    if kind is None:
        allowed = f"allowed: the program, one of {', '.join(KINDS)}, here or as the option test"
        problems.append(Problem(f"{where}:args", f"found none that is known, {allowed}"))
    if n is None or not 2 <= n <= MAX_RANKS:
        text = f"found {shown(n)}, allowed: 2 to {MAX_RANKS} ranks, here or as the option ranks"
        problems.append(Problem(f"{where}:config.devices", text))
    if not found.rows:
        problems.append(Problem(f"{where}:results", "found none, allowed: at least one"))
    if n is not None:
        problems += [
            Problem(f"{where}:results[{i}]", f"root: found {row['root']}, allowed: -1 to {n - 1}")
            for i, row in enumerate(found.rows)
            if row["root"] >= n
        ]
    if problems or kind is None or n is None:
        raise InputError(problems)
    notes = Notes()
    rows = _rows(found, kind, n, notes)
    if not len(rows):
        raise InputError([Problem(where, "found results of 0 bytes alone, allowed: some of more")])
    counts = {"ranks": n, "results": len(found.rows), "rows": len(rows)}
    provenance = make_provenance("convert nccl-tests", source=path, ranks=n, test=kind)
    return ConvertReport(rows.trace(where, provenance), notes.warnings(), counts)


def _rows(found: NcclTests, kind: str, n: int, notes: Notes) -> TableRows:
    rows = TableRows()
    everyone = rows.rank_set(range(n))
    ahead = rows.rank_set([(rank + 1) % n for rank in range(n)])
    behind = rows.rank_set([(rank - 1) % n for rank in range(n)])
    now = 0
    for result in found.rows:
        end = now + result["time_ps"]
        if result["wrong"]:
            notes.count("results that nccl-tests found wrong")
        if not result["bytes"]:
            notes.count("results of 0 bytes left out")
            continue
        name = " ".join(filter(None, (kind, result["type"], result["redop"])))
        columns = {"bytes": result["bytes"], "name": name, "start_ps": now, "end_ps": end}
        if kind == "send":
            recv = rows.add("recv", everyone, peer=behind, stream=1, **columns)
            rows.add("send", everyone, peer=ahead, stream=0, **columns)
            # The next round begins when both have ended.
            rows.put("after", recv, [recv - 1] if recv else None)
            rows.put("after", recv + 1, [recv - 2] if recv else None)
        elif kind in ("broadcast", "reduce"):
            root = rows.rank_set([max(result["root"], 0)])
            rows.add(kind, everyone, peer=root, stream=0, **columns)
        else:
            rows.add(kind, everyone, stream=0, **columns)
        now = end
    return rows
