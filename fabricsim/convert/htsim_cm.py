"""Imports htsim's connection matrices (.cm): flows between hosts, started at times or by triggers.

Grammar and meaning follow csg-htsim's `connection_matrix.cpp` and `trigger.cpp`: `Nodes N`, `Connections C`,
optional `Triggers T` and `Failures F`, then rows `S->D [id n] (start ps | trigger n) size bytes
[send_done_trigger n] [recv_done_trigger n] [prio p]`, `trigger id n oneshot|multishot|barrier [count k]` and
`failure switch_type TOR|AGG|CORE switch_id i link_id j`, a link that is not there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from fabricsim.convert import ConvertReport
from fabricsim.convert.flows import Flows
from fabricsim.errors import InputError, Problem, unknown_name
from fabricsim.trace import make_provenance
from fabricsim.trace.order import find_cycle
from fabricsim.units import INT64_MAX

_PAIR = re.compile(r"(\d+)->(\d+)", re.ASCII)
_HEADERS = ("Nodes", "Connections", "Triggers", "Failures")
_FLOW_KEYS = ("id", "start", "trigger", "size", "send_done_trigger", "recv_done_trigger", "prio")
_TRIGGER_KINDS = ("oneshot", "multishot", "barrier")
_MAX_NODES = 2**31 - 1
# A failed link is an uplink of its switch, but of a core switch; the names are those of our fat-trees.
_FAILED = {"TOR": ("edge", "uplink"), "AGG": ("agg", "uplink"), "CORE": ("core", "port")}


@dataclass(slots=True)
class _Flow:
    line: int
    src: int
    dst: int
    size: int
    id: int | None = None
    start_ps: int | None = None
    trigger: int | None = None
    send_done: int | None = None
    recv_done: int | None = None
    prio: int = 0


@dataclass(slots=True)
class _Trigger:
    """A trigger: its sources are (flow index, whether the receiver fires it), its targets flow indices."""

    line: int
    id: int
    kind: str
    count: int | None
    sources: list[tuple[int, bool]] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)


@dataclass
class _Matrix:
    where: str
    headers: dict[str, int] = field(default_factory=dict)
    flows: list[_Flow] = field(default_factory=list)
    triggers: dict[int, _Trigger] = field(default_factory=dict)
    failures: list[dict[str, object]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def bad(self, line: int | None, message: str) -> None:
        place = self.where if line is None else f"{self.where}:{line}"
        self.problems.append(Problem(place, message))


def sniff(path: Path) -> bool:
    """Tell whether the first words that are no comment are a header of a connection matrix."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    for line in head.splitlines():
        words = line.split(b"#")[0].split()
        if words:
            return len(words) == 2 and words[0].decode("ascii", "replace") in _HEADERS and words[1].isdigit()
    return False


def convert(path: Path) -> ConvertReport:
    """Import a connection matrix.

    A flow is a send on its source and a recv on its destination, both named after its id; `start` becomes the
    delay of the send. A flow with a trigger waits for the trigger's sources: by `after` where they end on its
    own source host, else by a 1-byte message from where they end, as no word travels for nothing in a real
    fabric. A multishot trigger starts its targets in order, one for each source in order of the file.

    Raises
    ------
    InputError
        With every problem and its line.
    """
    where = str(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"{where}: cannot read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: byte {error.start} is no text, allowed: a connection matrix") from None
    matrix = _parse(text, where)
    if not matrix.problems:
        _connect(matrix)
    if matrix.problems:
        raise InputError(matrix.problems)
    return _build(matrix, path)


def _number(
    matrix: _Matrix, line: int, key: str, word: str, least: int = 0, most: int = INT64_MAX
) -> int | None:
    if word.isascii() and word.isdigit() and len(word) <= 19 and least <= int(word) <= most:
        return int(word)
    matrix.bad(line, f"{key}: found {word!r}, allowed: a whole number from {least} to {most}")
    return None


def _parse(text: str, where: str) -> _Matrix:
    matrix = _Matrix(where)
    for line, raw in enumerate(text.splitlines(), 1):
        words = raw.split("#", 1)[0].split()
        if not words:
            continue
        pair = _PAIR.fullmatch(words[0])
        if pair:
            _parse_flow(matrix, line, pair, words)
        elif words[0] in _HEADERS:
            _parse_header(matrix, line, words)
        elif words[0] == "trigger":
            _parse_trigger(matrix, line, words)
        elif words[0] == "failure":
            _parse_failure(matrix, line, words)
        else:
            known = (*_HEADERS, "trigger", "failure", "S->D")
            matrix.bad(line, unknown_name("statement", words[0], known))
    _check_headers(matrix)
    return matrix


def _parse_header(matrix: _Matrix, line: int, words: list[str]) -> None:
    key = words[0]
    if len(words) != 2:
        matrix.bad(line, f"found {' '.join(words)!r}, allowed: {key} and one number")
    elif key in matrix.headers:
        matrix.bad(line, f"found {key} again, allowed: once")
    else:
        number = _number(matrix, line, key, words[1], *((1, _MAX_NODES) if key == "Nodes" else ()))
        matrix.headers[key] = -1 if number is None else number


def _parse_flow(matrix: _Matrix, line: int, pair: re.Match[str], words: list[str]) -> None:
    values: dict[str, int] = {}
    before = len(matrix.problems)
    for at in range(1, len(words), 2):
        key = words[at]
        if key not in _FLOW_KEYS:
            matrix.bad(line, unknown_name("key", key, _FLOW_KEYS))
        elif at + 1 == len(words):
            matrix.bad(line, f"found {key} without a number")
        elif key in values:
            matrix.bad(line, f"found {key} again, allowed: once")
        else:
            number = _number(matrix, line, key, words[at + 1], 1 if key == "size" else 0)
            values[key] = 0 if number is None else number
    ends = [_number(matrix, line, "host", word, 0, _MAX_NODES - 1) for word in pair.groups()]
    if "size" not in values:
        matrix.bad(line, "found no size, allowed: size and a number of bytes of at least 1")
    if ("start" in values) == ("trigger" in values):
        found = "both start and trigger" if "start" in values else "neither start nor trigger"
        matrix.bad(line, f"found {found}, allowed: one of them")
    if ends[0] == ends[1] and ends[0] is not None:
        matrix.bad(line, f"found a flow from host {ends[0]} to itself, allowed: another host")
    if len(matrix.problems) > before or ends[0] is None or ends[1] is None:
        # Counted all the same, so that a bad line does not also show up as a wrong count.
        matrix.flows.append(_Flow(line, 0, 0, 1))
        return
    flow = _Flow(line, ends[0], ends[1], values["size"], values.get("id"), values.get("start"))
    flow.trigger, flow.prio = values.get("trigger"), values.get("prio", 0)
    flow.send_done, flow.recv_done = values.get("send_done_trigger"), values.get("recv_done_trigger")
    matrix.flows.append(flow)


def _parse_trigger(matrix: _Matrix, line: int, words: list[str]) -> None:
    usage = "allowed: trigger id N oneshot|multishot|barrier [count K]"
    if len(words) not in (4, 6) or words[1] != "id" or (len(words) == 6 and words[4] != "count"):
        matrix.bad(line, f"found {' '.join(words)!r}, {usage}")
        return
    if words[3] not in _TRIGGER_KINDS:
        matrix.bad(line, unknown_name("kind of trigger", words[3], _TRIGGER_KINDS))
        return
    number = _number(matrix, line, "id", words[2])
    count = _number(matrix, line, "count", words[5], 1) if len(words) == 6 else None
    if number is None:
        return
    if number in matrix.triggers:
        first = matrix.triggers[number].line
        matrix.bad(line, f"found trigger {number} again (first in line {first}), allowed: once")
        return
    if words[3] == "barrier" and len(words) == 4:
        matrix.bad(line, "found a barrier without a count, allowed: count and how many flows fire it")
    matrix.triggers[number] = _Trigger(line, number, words[3], count)


def _parse_failure(matrix: _Matrix, line: int, words: list[str]) -> None:
    usage = "allowed: failure switch_type TOR|AGG|CORE switch_id I link_id J"
    if len(words) != 7 or words[1::2] != ["switch_type", "switch_id", "link_id"]:
        matrix.bad(line, f"found {' '.join(words)!r}, {usage}")
        return
    if words[2] not in _FAILED:
        matrix.bad(line, unknown_name("switch_type", words[2], _FAILED))
        return
    tier, port = _FAILED[words[2]]
    switch, link = _number(matrix, line, "switch_id", words[4]), _number(matrix, line, "link_id", words[6])
    matrix.failures.append({"at_ps": 0, "kind": "down", "node": f"{tier}{switch}", port: link})


def _check_headers(matrix: _Matrix) -> None:
    headers = matrix.headers
    for key in ("Nodes", "Connections"):
        if key not in headers:
            matrix.bad(None, f"found no {key}, allowed: a line {key} and a number")
    counts = (
        ("Connections", len(matrix.flows), "flows"),
        ("Triggers", len(matrix.triggers), "triggers"),
        ("Failures", len(matrix.failures), "failures"),
    )
    for key, found, what in counts:
        if headers.get(key, -1) not in (-1, found):
            matrix.bad(None, f"{key} says {headers[key]}, found {found} {what}")
    if "Triggers" not in headers and matrix.triggers:
        matrix.bad(None, f"found {len(matrix.triggers)} triggers, but no line Triggers")
    if "Failures" not in headers and matrix.failures:
        matrix.bad(None, f"found {len(matrix.failures)} failures, but no line Failures")
    nodes = headers.get("Nodes", -1)
    if nodes > 0:
        for flow in matrix.flows:
            for host in (flow.src, flow.dst):
                if host >= nodes:
                    matrix.bad(flow.line, f"found host {host}, allowed: 0 to {nodes - 1} (Nodes {nodes})")


def _connect(matrix: _Matrix) -> None:
    """Number the flows, tie them to their triggers, and refuse triggers that can never do what they say."""
    lines: dict[int, int] = {}
    for flow in matrix.flows:
        if flow.id is not None and lines.setdefault(flow.id, flow.line) != flow.line:
            matrix.bad(flow.line, f"found id {flow.id} again (first in line {lines[flow.id]}), allowed: once")
    free = iter(range(1, 2 * len(matrix.flows) + 2))
    for index, flow in enumerate(matrix.flows):
        if flow.id is None:
            flow.id = next(n for n in free if n not in lines)
        for key, number, received in (
            ("trigger", flow.trigger, None),
            ("send_done_trigger", flow.send_done, False),
            ("recv_done_trigger", flow.recv_done, True),
        ):
            if not number:
                # Zero means none: htsim counts triggers from 1.
                if key == "trigger" and number == 0:
                    matrix.bad(flow.line, "trigger: found 0, allowed: the id of a trigger")
                continue
            trigger = matrix.triggers.get(number)
            if trigger is None:
                matrix.bad(flow.line, f"{key}: found {number}, allowed: the id of a trigger of this file")
            elif received is None:
                trigger.targets.append(index)
            else:
                trigger.sources.append((index, received))
    for trigger in matrix.triggers.values():
        _check_trigger(matrix, trigger)
    if not matrix.problems:
        _check_order(matrix)


def _check_trigger(matrix: _Matrix, trigger: _Trigger) -> None:
    sources, targets, name = len(trigger.sources), len(trigger.targets), f"trigger {trigger.id}"
    if not targets:
        return
    if trigger.kind == "oneshot" and sources != 1:
        matrix.bad(trigger.line, f"{name}: found {sources} flows that fire it, allowed: one for a oneshot")
    elif trigger.kind == "barrier" and sources != trigger.count:
        matrix.bad(trigger.line, f"{name}: count says {trigger.count}, found {sources} flows that fire it")
    elif trigger.kind == "multishot" and sources < targets:
        text = f"found {sources} flows that fire it for {targets} that wait, allowed: at least as many"
        matrix.bad(trigger.line, f"{name}: {text}")


def _check_order(matrix: _Matrix) -> None:
    """Refuse flows that wait for themselves through triggers, and name them."""
    n = len(matrix.flows)
    waits: dict[int, list[int]] = {}
    for place, trigger in enumerate(matrix.triggers.values()):
        sources = [index for index, _ in trigger.sources]
        if trigger.kind == "multishot":
            waits.update((target, [source]) for target, source in zip(trigger.targets, sources, strict=False))
        else:
            # The trigger is a node of its own, so many sources and many targets stay a sum, not a product.
            waits[n + place] = sources
            waits.update((target, [n + place]) for target in trigger.targets)
    ring = [index for index in find_cycle(waits) if index < n]
    if ring:
        names = " waits for ".join(f"flow {matrix.flows[i].id}" for i in [*ring, ring[0]])
        matrix.bad(matrix.flows[ring[0]].line, f"found a cycle: {names}, allowed: none")


def _build(matrix: _Matrix, path: Path) -> ConvertReport:
    flows, rows = matrix.flows, Flows()
    after: dict[int, list[int]] = {}
    for index, flow in enumerate(flows):
        # The list is filled below, when all sends have their rows.
        after[index] = []
        assert flow.id is not None
        rows.flow(
            flow.src,
            flow.dst,
            flow.size,
            tag=flow.id,
            name=f"flow {flow.id}",
            start_ps=flow.start_ps or 0,
            after=after[index],
            priority=flow.prio,
        )
    words = _fire(matrix, rows, after)
    warnings = []
    if words:
        warnings.append(
            f"{words} 1-byte messages stand for triggers that act on another host than where they fire"
        )
    shots = sum(
        1 for t in matrix.triggers.values() if t.kind == "multishot" and len(t.sources) > 1 and t.targets
    )
    if shots:
        warnings.append(
            f"{shots} multishot triggers start their flows in the file's order of the flows firing them"
        )
    idle = sum(1 for t in matrix.triggers.values() if not t.targets)
    if idle:
        warnings.append(f"{idle} triggers start nothing")
    provenance = make_provenance("convert htsim", source=path, nodes=matrix.headers["Nodes"])
    counts = {
        "nodes": matrix.headers["Nodes"],
        "flows": len(flows),
        "triggers": len(matrix.triggers),
        "trigger_messages": words,
    }
    if matrix.failures:
        counts["failures"] = len(matrix.failures)
    return ConvertReport(rows.trace(str(path), provenance), warnings, counts, tuple(matrix.failures))


def _fire(matrix: _Matrix, rows: Flows, after: dict[int, list[int]]) -> int:
    """Let each flow with a trigger wait for the trigger's sources; return how many messages that took."""
    tag = max((flow.id or 0 for flow in matrix.flows), default=0) + 1
    first = tag
    for trigger in matrix.triggers.values():
        if trigger.kind == "multishot":
            shots = [
                ([source], [target]) for source, target in zip(trigger.sources, trigger.targets, strict=False)
            ]
        else:
            shots = [(trigger.sources, trigger.targets)]
        for sources, targets in shots:
            ends: dict[int, list[int]] = {}
            for index, received in sources:
                flow = matrix.flows[index]
                ends.setdefault(flow.dst if received else flow.src, []).append(2 * index + received)
            # What flows of a host wait for is told to that host once.
            told: dict[int, list[int]] = {}
            for target in targets:
                here = matrix.flows[target].src
                if here not in told:
                    told[here] = list(ends.get(here, ()))
                    for host in [h for h in ends if h != here]:
                        send = rows.flow(
                            host, here, 1, tag=tag, name=f"trigger {trigger.id}", after=ends[host]
                        )
                        told[here].append(send + 1)
                        tag += 1
                after[target] += told[here]
    return tag - first
