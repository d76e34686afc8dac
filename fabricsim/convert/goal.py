"""Import GOAL schedules, text and binary, of LogGOPSim and ATLAHS: sends, receives, computations of ranks.

Text.  ``num_ranks N``, then for each rank ``rank i {`` ... ``}`` with a statement a line: ``[label:] send Nb
to R [tag T] [cpu C] [nic K]``, ``recv Nb from R|-1 [tag T|-1]`` and the same, ``calc N [cpu C]`` in ns, ``a
requires b`` (a after b has ended), ``a irequires b`` (a after b has started); ``//`` and ``/* */`` are
comments. Binary: what LogGOPSim's `txt2bin` makes of it (`Parser.hpp` of https://github.com/spcl/LogGOPSim).

What becomes what
-----------------
calc        compute on the stream of its cpu.  A cpu computes one thing at a time, in the order in which
            things become ready were the network infinitely fast: a stream has a fixed order, LogGOPSim's cpu
            none.
send, recv  without a stream: a message waits for what it requires, not for its cpu or nic.  A send ends when
            it is acknowledged.  0 bytes become 1.
requires    ``after``.
irequires   an operation starts as soon as all that it waits for has ended, so who waits for the start of b
            waits for all that b waits for, and if b computes for what its cpu does before it.

Matching.  The k-th send of (source, destination, tag) belongs to the k-th receive of the same, in the order
in which they are posted: of two that wait for the same the first in the file, of others the one that cannot
start later than the other.  Where neither is sure to be first the file is refused, for LogGOPSim then
matches by chance and may stop for ever; ``matching="file"`` takes the order of the file.  Receives from any
source, or of any tag, get the messages that nobody else asks for, if they come from one source or if the
receives are alike; else the file is refused too.  Messages of one (source, destination, tag) get tags of
their own: tag + k * 2**32.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from pathlib import Path

from fabricsim.convert import ConvertReport
from fabricsim.convert._captures import LIMIT, MAX_RANKS, Notes, head, read, shown
from fabricsim.errors import ConfigError, InputError, Problem, unknown_name
from fabricsim.trace import make_provenance

SEND, RECV, CALC = 1, 2, 3
KINDS = {SEND: "send", RECV: "recv", CALC: "calc"}
#: Any source, or any tag, as both formats have it.
ANY = 0xFFFFFFFF
MAGIC = 4223
#: The longest calc, in ns.
MOST_NS = LIMIT // 1_024_000

_NUMBER = r"(\d{1,20})"
_ENDS = r"(?:\s+tag\s+(-1|\d{1,20}))?(?:\s+cpu\s+(\d{1,20}))?(?:\s+nic\s+(\d{1,20}))?"
_LABEL = r"\s*(?:([A-Za-z]\w*)\s*:\s*)?"
_MESSAGE = re.compile(
    rf"{_LABEL}(?:send\s+{_NUMBER}b\s+to|recv\s+{_NUMBER}b\s+from)\s+(-1|\d{{1,20}}){_ENDS}\s*"
)
_CALC = re.compile(rf"{_LABEL}calc\s+{_NUMBER}(?:\s+cpu\s+{_NUMBER})?\s*")
_REQUIRES = re.compile(r"\s*([A-Za-z]\w*)\s+(i?)requires\s+([A-Za-z]\w*)\s*")
_USAGE = {
    "send": "[label:] send Nb to R [tag T] [cpu C] [nic K]",
    "recv": "[label:] recv Nb from R|-1 [tag T|-1] [cpu C] [nic K]",
    "calc": "[label:] calc N [cpu C]",
    "requires": "label requires label",
    "irequires": "label irequires label",
    "num_ranks": "num_ranks N",
    "rank": "rank N {",
}


@dataclass
class Schedule:
    """Operations of all ranks, by number; `place` is a line, or a byte of a binary file.

    `after` and `starts` hold the numbers of the operations whose end, and whose start, each one waits for;
    `partner` the send of each matched receive.
    """

    where: str
    binary: bool = False
    n_ranks: int = 0
    kind: bytearray = field(default_factory=bytearray)
    rank: array[int] = field(default_factory=lambda: array("q"))
    peer: array[int] = field(default_factory=lambda: array("q"))
    size: array[int] = field(default_factory=lambda: array("q"))
    tag: array[int] = field(default_factory=lambda: array("q"))
    cpu: array[int] = field(default_factory=lambda: array("q"))
    place: array[int] = field(default_factory=lambda: array("q"))
    label: list[str | None] = field(default_factory=list)
    after: list[list[int]] = field(default_factory=list)
    starts: dict[int, list[int]] = field(default_factory=dict)
    partner: dict[int, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)

    def __len__(self) -> int:
        return len(self.kind)

    def add(
        self, kind: int, rank: int, size: int, place: int, *, peer: int = 0, tag: int = 0, cpu: int = 0
    ) -> int:
        """Append an operation and return its number."""
        self.kind.append(kind)
        self.rank.append(rank)
        self.peer.append(peer)
        self.size.append(size)
        self.tag.append(tag)
        self.cpu.append(cpu)
        self.place.append(place)
        self.label.append(None)
        self.after.append([])
        return len(self.kind) - 1

    def at(self, op: int) -> str:
        """The place of an operation."""
        return f"{self.where}: byte {self.place[op]}" if self.binary else f"{self.where}:{self.place[op]}"

    def name(self, op: int) -> str:
        """An operation in words."""
        kind, label = KINDS[self.kind[op]], self.label[op]
        told = f"{kind} {label}" if label else kind
        if self.kind[op] == CALC:
            return f"{told} of rank {self.rank[op]}"
        peer = "any" if self.peer[op] == ANY else str(self.peer[op])
        tag = "any" if self.tag[op] == ANY else str(self.tag[op])
        way = "to" if self.kind[op] == SEND else "from"
        return f"{told} of rank {self.rank[op]} {way} {peer}, tag {tag}, {self.size[op]} bytes"

    def bad(self, place: object, message: str) -> None:
        """Note a problem at a line."""
        self.problems.append(Problem(f"{self.where}:{place}" if place else self.where, message))


def sniff(path: Path) -> bool:
    """Tell whether the file begins with num_ranks, or with the number of a binary schedule."""
    data = head(path)
    if data[:8] == MAGIC.to_bytes(8, "little"):
        return True
    text = re.sub(rb"//[^\n]*|/\*.*?\*/", b" ", data, flags=re.DOTALL)
    return re.match(rb"\s*num_ranks\s+\d", text) is not None


def convert(path: Path, *, matching: str = "strict") -> ConvertReport:
    """Import a schedule, text or binary, plain or gzip.

    Parameters
    ----------
    matching
        ``strict`` or ``file``: whether messages whose order of posting is not sure are refused, or matched in
        the order of the file.

    Raises
    ------
    ConfigError
        A bad option.
    InputError
        With every problem and its place: statements, messages without a partner or with several possible
        ones, operations that wait for each other.
    """
    from fabricsim.convert import _goal_binary, _goal_match, _goal_rows

    if matching not in ("strict", "file"):
        raise ConfigError([Problem("matching", f"found {shown(matching)}, allowed: strict, file")])
    data = read(Path(path))
    if data[:8] == MAGIC.to_bytes(8, "little"):
        schedule = _goal_binary.parse(data, str(path))
    else:
        try:
            schedule = parse(data.decode("utf-8"), str(path))
        except UnicodeDecodeError as error:
            raise InputError([Problem(f"{path}: byte {error.start}", "is no text")]) from None
    n = len(schedule)
    for step in (_goal_match.flatten, lambda s: _goal_match.match(s, matching == "strict")):
        if not schedule.problems:
            step(schedule)
    if schedule.problems:
        raise InputError(schedule.problems)
    if not n:
        raise InputError([Problem(schedule.where, "found no operation, allowed: at least one")])
    rows = _goal_rows.build(schedule)
    kinds = {f"{name}s": schedule.kind.count(kind) for kind, name in KINDS.items()}
    if len(schedule) > n:
        schedule.notes.count("computations of 0 ns added where many things start with one", len(schedule) - n)
        kinds["calcs"] -= len(schedule) - n
    provenance = make_provenance("convert goal", source=path, ranks=schedule.n_ranks, matching=matching)
    counts = {"ranks": schedule.n_ranks, "operations": n, **kinds}
    return ConvertReport(rows.trace(str(path), provenance), schedule.notes.warnings(), counts)


class _Block:
    """The rank that is being read, and its labels."""

    def __init__(self) -> None:
        self.rank: int | None = None
        self.line = 0
        self.labels: dict[str, int] = {}
        self.seen: dict[int, int] = {}


def parse(text: str, where: str) -> Schedule:
    """Read a text schedule; what is wrong with it is in the result's `problems`."""
    schedule, block = Schedule(where), _Block()
    comment = False
    number = 0
    for number, line in enumerate(text.splitlines(), 1):
        if comment or "/" in line:
            line, comment = _uncommented(line, comment)
        if block.rank is not None:
            found = _MESSAGE.fullmatch(line)
            if found:
                _message(schedule, block, number, line, found)
                continue
            found = _REQUIRES.fullmatch(line)
            if found:
                _requires(schedule, block, number, *found.groups())
                continue
            found = _CALC.fullmatch(line)
            if found:
                _calc(schedule, block, number, found)
                continue
        for piece in re.findall(r"[^{}]*\{|\}|[^{}]+", line):
            _other(schedule, block, number, piece)
    if comment:
        schedule.bad(number, "found a /* that no */ ends")
    if block.rank is not None:
        schedule.bad(block.line, f"found no }} that ends rank {block.rank}")
    if not schedule.n_ranks and not schedule.problems:
        schedule.bad("", "found no num_ranks, allowed: num_ranks N")
    _check_peers(schedule)
    return schedule


def _uncommented(line: str, comment: bool) -> tuple[str, bool]:
    """A line without its comments, and whether the next one begins in one."""
    kept, at = [], 0
    while at < len(line):
        if comment:
            end = line.find("*/", at)
            if end < 0:
                break
            at, comment = end + 2, False
            continue
        found = re.compile(r"//|/\*").search(line, at)
        if not found:
            kept.append(line[at:])
            break
        kept.append(line[at : found.start()])
        if found.group() == "//":
            break
        at, comment = found.end(), True
    return " ".join(kept), comment


def _within(schedule: Schedule, line: int, key: str, word: str, low: int, high: int) -> int:
    value = int(word)
    if low <= value <= high:
        return value
    schedule.bad(f"{line}:{key}", f"found {word}, allowed: a whole number from {low} to {high}")
    return low


def _message(schedule: Schedule, block: _Block, line: int, text: str, found: re.Match[str]) -> None:
    label, sent, received, peer, tag, cpu, nic = found.groups()
    kind = SEND if sent is not None else RECV
    assert block.rank is not None
    if peer == "-1" and kind == SEND:
        schedule.bad(f"{line}:to", f"found -1, allowed: {_USAGE['send']}")
        peer = "0"
    size = sent if kind == SEND else received
    op = schedule.add(
        kind,
        block.rank,
        int(size) if len(size) < 18 else _within(schedule, line, "bytes", size, 0, LIMIT),
        line,
        peer=ANY if peer == "-1" else _within(schedule, line, "rank", peer, 0, MAX_RANKS),
        tag=0 if tag is None else ANY if tag == "-1" else _within(schedule, line, "tag", tag, 0, ANY - 1),
        cpu=0 if cpu is None else _within(schedule, line, "cpu", cpu, 0, 255),
    )
    if nic is not None and _within(schedule, line, "nic", nic, 0, 255):
        schedule.notes.count("messages of a nic above 0, which is not told from the others")
    if label is not None:
        _label(schedule, block, line, label, op)


def _calc(schedule: Schedule, block: _Block, line: int, found: re.Match[str]) -> None:
    label, size, cpu = found.groups()
    assert block.rank is not None
    took = int(size) if len(size) < 12 else _within(schedule, line, "calc", size, 0, MOST_NS)
    core = 0 if cpu is None else _within(schedule, line, "cpu", cpu, 0, 255)
    op = schedule.add(CALC, block.rank, took, line, cpu=core)
    if label is not None:
        _label(schedule, block, line, label, op)


def _label(schedule: Schedule, block: _Block, line: int, label: str, op: int) -> None:
    first = block.labels.setdefault(label, op)
    schedule.label[op] = label
    if first != op:
        schedule.bad(
            line, f"found label {label} again (first in line {schedule.place[first]}), allowed: once"
        )


def _requires(schedule: Schedule, block: _Block, line: int, left: str, start: str, right: str) -> None:
    a, b = block.labels.get(left), block.labels.get(right)
    if a is None or b is None:
        for label, op in ((left, a), (right, b)):
            if op is None:
                text = f"found label {label}, allowed: one that is defined above in rank {block.rank}"
                schedule.bad(f"{line}:{start}requires", text)
    elif a == b:
        schedule.bad(f"{line}:{start}requires", f"found {left} waiting for itself")
    elif start:
        schedule.starts.setdefault(a, []).append(b)
    else:
        schedule.after[a].append(b)


def _other(schedule: Schedule, block: _Block, line: int, text: str) -> None:
    """What is no statement of a rank: its beginning, its end, num_ranks, or an error."""
    words = text.split()
    if not words:
        return
    if text.strip() == "}":
        if block.rank is None:
            schedule.bad(line, "found a } outside of any rank")
        block.rank = None
    elif words[0] == "num_ranks" and len(words) == 2 and re.fullmatch(r"\d{1,20}", words[1]):
        if schedule.n_ranks:
            schedule.bad(line, "found num_ranks again, allowed: once")
        schedule.n_ranks = _within(schedule, line, "num_ranks", words[1], 1, MAX_RANKS)
    elif found := re.fullmatch(r"\s*rank\s+(\d{1,20})\s*\{", text):
        _begin(schedule, block, line, int(found[1]))
    else:
        _unknown(schedule, block, line, text.strip(), words)


def _begin(schedule: Schedule, block: _Block, line: int, rank: int) -> None:
    if block.rank is not None:
        schedule.bad(line, f"found rank {rank} inside of rank {block.rank}, which no }} ends")
    if not schedule.n_ranks:
        schedule.bad(line, "found a rank before num_ranks")
        schedule.n_ranks = MAX_RANKS
    if rank >= schedule.n_ranks:
        schedule.bad(f"{line}:rank", f"found {rank}, allowed: 0 to {schedule.n_ranks - 1}")
    elif rank in block.seen:
        schedule.bad(line, f"found rank {rank} again (first in line {block.seen[rank]}), allowed: once")
    block.seen.setdefault(rank, line)
    block.rank, block.line, block.labels = min(rank, MAX_RANKS), line, {}


def _unknown(schedule: Schedule, block: _Block, line: int, text: str, words: list[str]) -> None:
    rest = re.sub(r"^[A-Za-z]\w*\s*:", "", text).split() or [""]
    word = next((w for w in (rest[0], words[1] if len(words) > 1 else "") if w in _USAGE), None)
    if word is None and re.fullmatch(r"[A-Za-z]\w*", rest[0]):
        schedule.bad(line, unknown_name("statement", rest[0], _USAGE))
    elif word is None:
        schedule.bad(line, f"found {shown(text)}, allowed: a statement such as {_USAGE['send']}")
    elif block.rank is None and word not in ("rank", "num_ranks"):
        schedule.bad(line, f"found {shown(text)} outside of any rank")
    else:
        schedule.bad(line, f"found {shown(text)}, allowed: {_USAGE[word]}")


def _check_peers(schedule: Schedule) -> None:
    n, kind, rank = schedule.n_ranks, schedule.kind, schedule.rank
    for op, peer in enumerate(schedule.peer):
        if kind[op] == CALC:
            continue
        if peer >= n and (peer != ANY or kind[op] == SEND):
            schedule.bad(f"{schedule.place[op]}:rank", f"found {peer}, allowed: 0 to {n - 1}")
        elif peer == rank[op]:
            text = f"found {schedule.name(op)}: a message to itself, allowed: another rank"
            schedule.bad(schedule.place[op], text)
