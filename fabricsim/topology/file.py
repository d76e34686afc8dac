"""Topology files of the HPCC simulator (and of simulators that took its format over).

The first line is ``nodes switches links``, the second line holds the numbers of the switches, and every
further line is a cable: ``a b rate delay error_rate``, such as ``0 16 100Gbps 1000ns 0``. Format:
alibaba-edu/High-Precision-Congestion-Control, simulation/mix.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import model_validator

from fabricsim.fabrics.section import raise_issues
from fabricsim.topology.links import unchecked
from fabricsim.topology.model import Topology, cable_problems
from fabricsim.topology.spec import MAX_HOSTS, TopologySpec
from fabricsim.units import parse_rate_mbps, parse_time_ps

__all__ = ["TopologyFile", "read_topology_file"]

MAX_PROBLEMS = 50


class _Problems(ValueError):
    def __init__(self, lines: list[tuple[int, str]]) -> None:
        super().__init__("; ".join(text for _, text in lines))
        self.lines = lines


class TopologyFile(TopologySpec):
    """A topology read from a file in the HPCC format.

    Nodes that are not listed as switches are hosts, numbered in the order of the file's numbers; names keep
    those numbers (``host3``, ``switch17``). The order of the lines is the port order.

    Parameters
    ----------
    path
        The file; a relative path counts from the folder of the cluster file.
    """

    summary: ClassVar[str] = "a topology file in the HPCC format"

    kind: Literal["file"] = "file"
    path: str

    @model_validator(mode="after")
    def _check_file(self) -> Self:
        try:
            read_topology_file(self.path)
        except _Problems as error:
            raise_issues("TopologyFile", [(("path",), text, self.path) for _, text in error.lines])
        return self

    def build(self) -> Topology:
        """Make the flat arrays; see ``Topology``."""
        arrays = read_topology_file(self.path)
        n_hosts, n_switches = arrays["n_hosts"], arrays["n_switches"]
        return Topology(kind=self.kind, node_latency_ps=self.node_latency_ps(n_hosts, n_switches), **arrays)


def read_topology_file(path: str | Path) -> dict[str, Any]:
    """Read a topology file.

    Returns
    -------
    dict
        The arrays of ``Topology`` but for the node latencies.

    Raises
    ------
    ValueError
        With every problem found, each with its line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file (UTF-8)"
        raise _Problems([(0, f"{path}: cannot be read: {reason}")]) from None
    rows = [(i, line.split()) for i, line in enumerate(lines, 1) if line.strip()]
    n_nodes, switch_ids, cables = _header(path, rows)
    wrong: list[tuple[int, str]] = []
    ends = np.zeros((len(cables), 2), np.int32)
    numbers = np.zeros((len(cables), 2), np.int64)
    for i, (line, words) in enumerate(cables):
        try:
            ends[i], numbers[i] = _cable(words, n_nodes)
        except ValueError as error:
            wrong.append((line, f"{path}:{line}: {error}"))
            if len(wrong) >= MAX_PROBLEMS:
                break
    if wrong:
        raise _Problems(wrong)
    is_switch = np.zeros(n_nodes, bool)
    is_switch[switch_ids] = True
    # The file's numbers, hosts first; and where each of them went.
    order = np.concatenate([np.flatnonzero(~is_switch), switch_ids]).astype(np.int32)
    place = np.empty(n_nodes, np.int32)
    place[order] = np.arange(n_nodes, dtype=np.int32)
    n_hosts = n_nodes - len(switch_ids)
    arrays: dict[str, Any] = {
        "n_hosts": n_hosts,
        "n_switches": len(switch_ids),
        "cable_a": place[ends[:, 0]],
        "cable_b": place[ends[:, 1]],
        "cable_rate_mbps": numbers[:, 0].copy(),
        "cable_delay_ps": numbers[:, 1].copy(),
        "node_names": tuple(f"switch{i}" if is_switch[i] else f"host{i}" for i in order.tolist()),
    }
    faults = cable_problems(unchecked(**arrays), MAX_PROBLEMS)
    if faults:
        at = [(0, path) if i is None else (cables[i][0], f"{path}:{cables[i][0]}") for i, _ in faults]
        raise _Problems([(n, f"{where}: {text}") for (n, where), (_, text) in zip(at, faults, strict=True)])
    return arrays


def _header(
    path: Path, rows: list[tuple[int, list[str]]]
) -> tuple[int, list[int], list[tuple[int, list[str]]]]:
    """Return the number of nodes, the switches and the lines of the cables."""
    if not rows:
        raise _Problems([(1, f"{path}: the file is empty, allowed: first the line 'nodes switches links'")])
    line, head = rows[0]
    if len(head) != 3 or not all(word.isascii() and word.isdigit() for word in head):
        more = " (a head with NVLink switches needs hosts of several cables, which this kind has not)"
        text = (
            f"{path}:{line}: found {' '.join(head)!r}, allowed: 'nodes switches links', three whole numbers"
        )
        raise _Problems([(line, text + (more if len(head) > 3 else ""))])
    if max(map(len, head)) > 9:
        raise _Problems(
            [(line, f"{path}:{line}: found {' '.join(head)!r}, allowed: at most {MAX_HOSTS} nodes")]
        )
    n_nodes, n_switches, n_links = map(int, head)
    wrong: list[tuple[int, str]] = []
    if not 1 <= n_nodes <= MAX_HOSTS or n_switches >= n_nodes:
        text = f"found {n_nodes} nodes and {n_switches} switches, allowed: 1 to {MAX_HOSTS}, fewer switches"
        raise _Problems([(line, f"{path}:{line}: {text}")])
    # The list of switches may be broken into several lines.
    ids: list[int] = []
    at = 1
    while len(ids) < n_switches and at < len(rows):
        number, words = rows[at]
        at += 1
        for word in words:
            if not (word.isascii() and word.isdigit() and len(word) <= 9 and int(word) < n_nodes):
                raise _Problems(
                    [(number, f"{path}:{number}: found {word!r}, allowed: a switch 0 to {n_nodes - 1}")]
                )
            ids.append(int(word))
    if len(ids) != n_switches or len(set(ids)) != len(ids):
        wrong.append(
            (line, f"{path}:{line}: found {len(set(ids))} different switches, allowed: {n_switches}")
        )
    cables = rows[at:]
    if len(cables) != n_links:
        wrong.append((line, f"{path}:{line}: found {len(cables)} cables in the file, allowed: {n_links}"))
    if wrong:
        raise _Problems(wrong)
    return n_nodes, ids, cables


def _cable(words: list[str], n_nodes: int) -> tuple[tuple[int, int], tuple[int, int]]:
    form = "allowed: 'a b rate delay error_rate', such as '0 16 100Gbps 1000ns 0'"
    if len(words) not in (4, 5):
        raise ValueError(f"found {len(words)} words, {form}")
    for word in words[:2]:
        if not (word.isascii() and word.isdigit() and len(word) <= 9 and int(word) < n_nodes):
            raise ValueError(f"found node {word!r}, allowed: 0 to {n_nodes - 1}")
    rate, delay = parse_rate_mbps(words[2]), parse_time_ps(words[3])
    if len(words) == 5:
        try:
            errors = float(words[4])
        except ValueError:
            raise ValueError(f"found error rate {words[4]!r}, {form}") from None
        if errors != 0:
            raise ValueError(
                f"found error rate {words[4]}, allowed: 0 (bit errors are not part of a topology)"
            )
    return (int(words[0]), int(words[1])), (rate, delay)
