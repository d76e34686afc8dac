"""Import the workload text of SimAI and of ASTRA-sim 1.0: layers of a training step, one a line.

Format.  Line 1: the parallelism and its numbers, as ``key: value`` pairs; line 2: how many layers; then a
line a layer, ``name dependency`` and three phases (forward, input gradient, weight gradient) of compute time
in ns, collective and its bytes, then the update time, and for HYBRID_CUSTOMIZED the layer's own parallelism.
Read and run as `Workload.cc` and `Layer.cc` of both simulators do (https://github.com/aliyun/SimAI,
https://github.com/astra-sim/astra-sim, branch ASTRA-sim-1.0).

Groups.  Ranks are numbered tp-ep-dp-pp: a tensor group is neighbours, pipeline stages are outermost.  A
collective of the forward and input-gradient phases belongs to the tensor group, one of the weight-gradient
phase to the data group, one named ``_EP`` to the expert group, one named ``_DP_EP`` to the data group of an
expert.  MODEL and DATA have one group of all; HYBRID_DATA_MODEL has model groups of neighbours,
HYBRID_MODEL_DATA data groups of neighbours.  All groups of a kind are one row (``group_size``).

Size.  As in SimAI and nccl-tests the bytes of an ALLGATHER are the gathered total; with
``all_gather_bytes="input"`` they are what a rank puts in, as in ASTRA-sim 1.0.

Inference.  With ``mode: 1`` in line 1, as AICB writes it, there is only the forward phase.

Left out: the dependency column, which no version reads; the scheduling priorities of collectives; ``vpp``;
the dimensions of a collective (a group is one group, not a hierarchy).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from fabricsim.convert import ConvertReport
from fabricsim.convert._captures import LIMIT, MAX_RANKS, Notes, head, option_count, read_text, shown
from fabricsim.errors import ConfigError, InputError, Problem, unknown_name
from fabricsim.trace import make_provenance

PHASES = ("forward", "input grad", "weight grad")
#: What the groups of a phase's collectives are, by parallelism; None: the simulators do none there.
SCOPES: dict[str, tuple[str | None, str | None, str | None]] = {
    "DATA": (None, None, "all"),
    "MODEL": ("all", "all", None),
    "HYBRID_DATA_MODEL": ("tp", "tp", "dp"),
    "HYBRID_MODEL_DATA": ("far", "far", "near"),
    "HYBRID_TRANSFORMER": ("tp", "tp", "dp"),
    "HYBRID_TRANSFORMER_FWD_IN_BCKWD": ("tp", "tp", "dp"),
    "HYBRID_DLRM": (None, None, "all"),
    "HYBRID_DLRM_ENHANCED": (None, None, "all"),
    "HYBRID_CUSTOMIZED": (None, None, None),
    "DISTRIBUTED_INFERENCE": ("all", "all", None),
    "MICRO": (None, None, "all"),
}
TRANSFORMERS = ("HYBRID_TRANSFORMER", "HYBRID_TRANSFORMER_FWD_IN_BCKWD")
_DLRM = ("HYBRID_DLRM", "HYBRID_DLRM_ENHANCED")
#: What a layer of HYBRID_CUSTOMIZED may be.
_CUSTOM = ("DATA", "MODEL", "HYBRID_DATA_MODEL", "HYBRID_MODEL_DATA", *TRANSFORMERS)
_KINDS = {
    "ALLREDUCE": "all_reduce",
    "ALLGATHER": "all_gather",
    "REDUCESCATTER": "reduce_scatter",
    "ALLTOALL": "all_to_all",
    "BROADCAST": "broadcast",
}
_SUFFIXES = {"_EP": "ep", "_DP_EP": "dp_ep"}
_KEYS = {
    "model_parallel_NPU_group": "tp",
    "ep": "ep",
    "expert_parallel_npu_group": "ep",
    "pp": "pp",
    "vpp": "vpp",
    "ga": "ga",
    "all_gpus": "ranks",
    "pp_comm": "pp_comm",
    "DLRM_LAST_BOTTOM_LAYER": "last_bottom",
    "mode": "mode",
}
_LISTS = ("checkpoints", "checkpoint_initiates")
_FIELDS = (
    "name",
    "dependency",
    *(f"{p} {w}" for p in PHASES for w in ("compute", "comm", "bytes")),
    "update",
)


@dataclass(slots=True)
class Phase:
    """A phase of a layer: compute in ps, then a collective of `scope` (its groups), or none."""

    compute_ps: int = 0
    kind: str | None = None
    size: int = 0
    scope: str | None = None


@dataclass(slots=True)
class Layer:
    """A layer; `update_ps` follows each of its collectives."""

    line: int
    name: str
    phases: list[Phase]
    update_ps: int = 0


@dataclass
class Workload:
    """A file: parallelism, numbers of its header, layers; ranks are numbered tp-ep-dp-pp."""

    where: str
    parallelism: str = ""
    numbers: dict[str, int] = field(default_factory=dict)
    lists: dict[str, list[int]] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)
    ranks: int = 0
    tp: int = 1
    ep: int = 1
    pp: int = 1

    def bad(self, place: object, message: str) -> None:
        self.problems.append(Problem(f"{self.where}:{place}" if place else self.where, message))


def sniff(path: Path) -> bool:
    """Tell whether line 1 begins with a parallelism and line 2 is a number."""
    try:
        lines = head(path).decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return False
    if len(lines) < 2 or not lines[0].split():
        return False
    return lines[0].split()[0] in SCOPES and lines[1].strip().isdigit()


def convert(
    path: Path,
    *,
    ranks: int | None = None,
    tp: int | None = None,
    ep: int | None = None,
    pp: int | None = None,
    passes: int = 1,
    all_gather_bytes: str = "total",
    forward_groups: str = "tp",
) -> ConvertReport:
    """Import a workload text.

    Parameters
    ----------
    ranks, tp, ep, pp
        Ranks of the job, and of a tensor, an expert and a pipeline group; by themselves those of line 1.
    passes
        How many steps.
    all_gather_bytes
        ``total`` or ``input``: what the bytes of an ALLGATHER are (see the top of this file).
    forward_groups
        ``tp`` or ``dp``: the groups of the collectives of the forward and input-gradient phases of
        HYBRID_TRANSFORMER files; ``dp`` for ZeRO-3, whose parameters are gathered there.

    Raises
    ------
    ConfigError
        A bad option.
    InputError
        With every problem, its line and its column.
    """
    from fabricsim.convert._simai_rows import build

    given = {"ranks": ranks, "tp": tp, "ep": ep, "pp": pp}
    options = {k: option_count(v, k) for k, v in given.items() if v is not None}
    steps = option_count(passes, "passes", 1, 1_000_000)
    words = {"all_gather_bytes": (all_gather_bytes, "total", "input")}
    words["forward_groups"] = (forward_groups, "tp", "dp")
    wrong = [
        Problem(name, f"found {shown(found)}, allowed: {', '.join(allowed)}")
        for name, (found, *allowed) in words.items()
        if found not in allowed
    ]
    if wrong:
        raise ConfigError(wrong)
    work = parse(read_text(Path(path)), str(path), options)
    if work.problems:
        raise InputError(work.problems)
    if work.parallelism in TRANSFORMERS:
        for part in (phase for layer in work.layers for phase in layer.phases if phase.scope == "tp"):
            part.scope = forward_groups
    table, counts = build(work, steps, all_gather_bytes == "input")
    if not len(table):
        raise InputError([Problem(work.where, "found no compute and no collective, allowed: at least one")])
    header = {k: v for k, v in work.numbers.items() if k in ("vpp", "ga")}
    provenance = make_provenance("convert simai", source=path, steps=steps, **counts, **header)
    total = {"layers": len(work.layers), **counts, "rows": len(table)}
    return ConvertReport(table.trace(str(path), provenance), work.notes.warnings(), total)


def parse(text: str, where: str, options: dict[str, int]) -> Workload:
    """Read a file; what is wrong with it is in the result's `problems`."""
    work = Workload(where)
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, words) for number, words in lines if words]
    if len(lines) < 2:
        work.bad("", f"found {len(lines)} lines, allowed: a parallelism, a number of layers, and the layers")
        return work
    _header(work, *lines[0])
    number, words = lines[1]
    count = None
    if len(words) == 1:
        count = _whole(work, f"{number}:layers", words[0], 1, 10_000_000)
    else:
        work.bad(f"{number}:layers", f"found {shown(' '.join(words))}, allowed: how many layers follow")
    for number, words in lines[2:]:
        _layer(work, number, words)
    if count is not None and count != len(lines) - 2:
        work.bad(f"{lines[1][0]}:layers", f"found {count}, but {len(lines) - 2} lines of layers follow")
    if work.parallelism and not work.problems:
        _sizes(work, options)
        _check_lists(work)
    return work


def _whole(work: Workload, place: object, word: str, low: int, high: int = LIMIT) -> int | None:
    match = re.fullmatch(r"(\d{1,19})(?:\.0*)?", word, re.ASCII)
    if match and low <= int(match[1]) <= high:
        return int(match[1])
    work.bad(place, f"found {shown(word)}, allowed: a whole number from {low} to {high}")
    return None


def _header(work: Workload, line: int, words: list[str]) -> None:
    if words[0] in SCOPES:
        work.parallelism = words[0]
    else:
        work.bad(f"{line}:parallelism", unknown_name("parallelism", words[0], SCOPES))
    at = 1
    if work.parallelism in _DLRM and len(words) == 2 and words[1].isdigit():
        # ASTRA-sim 1.0's own files give the number alone.
        words = [words[0], "DLRM_LAST_BOTTOM_LAYER:", words[1]]
    while at < len(words):
        key = words[at].rstrip(":")
        place = f"{line}:{key}"
        at += 1
        if key not in _KEYS and key not in _LISTS:
            work.bad(f"{line}", unknown_name("key", key, (*_KEYS, *_LISTS)))
            while at < len(words) and re.fullmatch(r"[\d.]+", words[at]):
                at += 1
            continue
        if at == len(words):
            work.bad(place, "found no number behind it")
            break
        low = 1 if _KEYS.get(key) in ("ep", "pp", "ranks") else 0
        value = _whole(work, place, words[at], low, 1 if key == "mode" else LIMIT)
        at += 1
        if key in _LISTS:
            have = words[at : at + (value or 0)]
            if len(have) < (value or 0):
                work.bad(place, f"found {len(have)} layers, but it says {value}")
            layers = [_whole(work, place, word, 0) for word in have]
            work.lists[key] = [layer for layer in layers if layer is not None]
            at += len(have)
        elif _KEYS[key] in work.numbers:
            work.bad(place, "found it again, allowed: once")
        elif value is not None:
            work.numbers[_KEYS[key]] = value


def _layer(work: Workload, line: int, words: list[str]) -> None:
    custom = work.parallelism == "HYBRID_CUSTOMIZED"
    fields = (*_FIELDS, "parallelism") if custom else _FIELDS
    if len(words) != len(fields):
        work.bad(line, f"found {len(words)} columns, allowed: {len(fields)}: {', '.join(fields)}")
        return
    if not re.fullmatch(r"-?\d{1,9}", words[1], re.ASCII):
        work.bad(f"{line}:dependency", f"found {shown(words[1])}, allowed: a layer's number, or -1")
    policy = work.parallelism
    if custom:
        policy = words[12]
        if policy not in _CUSTOM:
            work.bad(f"{line}:parallelism", unknown_name("parallelism", policy, _CUSTOM))
            policy = "DATA"
    scopes = SCOPES.get(policy, ("tp", "tp", "dp"))
    if policy in _DLRM and not work.layers:
        scopes = ("all", "all", "all")
    phases = []
    for at, (title, scope) in enumerate(zip(PHASES, scopes, strict=True)):
        compute, comm, size = words[2 + 3 * at : 5 + 3 * at]
        phase = Phase(_time(work, f"{line}:{title} compute", compute))
        phase.size = _whole(work, f"{line}:{title} bytes", size, 0) or 0
        _comm(work, f"{line}:{title} comm", comm, phase, scope, policy)
        phases.append(phase)
    work.layers.append(Layer(line, words[0], phases, _time(work, f"{line}:update", words[11])))


def _comm(work: Workload, place: str, comm: str, phase: Phase, scope: str | None, policy: str) -> None:
    """Set the kind of a phase's collective and the groups that do it."""
    if comm == "NONE":
        return
    name, suffix = comm, ""
    for ending in sorted(_SUFFIXES, key=len, reverse=True):
        if comm.endswith(ending):
            name, suffix = comm.removesuffix(ending), ending
            break
    if name not in _KINDS:
        work.bad(place, unknown_name("collective", comm, ("NONE", *_KINDS)))
        return
    if suffix and policy not in TRANSFORMERS:
        allowed = f"allowed: {name}; groups of experts are of {' and '.join(TRANSFORMERS)}"
        work.bad(place, f"found {comm}, {allowed}")
    elif scope is None:
        work.notes.count(f"collectives in a phase in which {policy} does none, left out")
    elif phase.size == 0:
        work.notes.count("collectives of 0 bytes left out")
    else:
        phase.kind, phase.scope = _KINDS[name], _SUFFIXES.get(suffix, scope)


def _time(work: Workload, place: str, word: str) -> int:
    """Nanoseconds as picoseconds."""
    if re.fullmatch(r"\d{1,18}(\.\d{1,18})?", word, re.ASCII):
        value = round(Fraction(word) * 1000)
        if value <= LIMIT // 1024:
            return value
    work.bad(place, f"found {shown(word)}, allowed: nanoseconds from 0 to {LIMIT // 1_024_000}")
    return 0


def _sizes(work: Workload, options: dict[str, int]) -> None:
    """Settle how many ranks there are and how they are grouped."""
    numbers = {**work.numbers, **options}
    hybrid = work.parallelism in (
        *TRANSFORMERS,
        "HYBRID_DATA_MODEL",
        "HYBRID_MODEL_DATA",
        "HYBRID_CUSTOMIZED",
    )
    if "ranks" not in numbers:
        work.bad("1:all_gpus", "found none, allowed: the number of ranks, here or as the option ranks")
    if hybrid and "tp" not in numbers:
        key = "1:model_parallel_NPU_group"
        work.bad(key, "found none, allowed: the ranks of a model group, here or as the option tp")
    if not hybrid:
        for key in ("tp", "ep", "pp"):
            if key in options:
                work.bad("1:parallelism", f"{work.parallelism} has no groups, found the option {key}")
    if work.problems:
        return
    work.ranks = numbers["ranks"]
    if hybrid:
        # Zero stands for all, as ASTRA-sim has it.
        work.tp = numbers["tp"] or work.ranks
        work.ep, work.pp = numbers.get("ep", 1), numbers.get("pp", 1)
    if work.ranks > MAX_RANKS:
        work.bad("1:all_gpus", f"found {work.ranks}, allowed: up to {MAX_RANKS}")
    if work.parallelism not in TRANSFORMERS and (work.ep, work.pp) != (1, 1):
        work.bad("1:parallelism", f"{work.parallelism} knows no ep or pp, found ep {work.ep}, pp {work.pp}")
    elif work.ranks % (work.tp * work.ep * work.pp):
        each = f"tp {work.tp} x ep {work.ep} x pp {work.pp} = {work.tp * work.ep * work.pp}"
        work.bad("1:all_gpus", f"found {work.ranks} ranks, allowed: a multiple of {each}")


def _check_lists(work: Workload) -> None:
    for key in _LISTS:
        for layer in work.lists.get(key, ()):
            if layer >= len(work.layers):
                work.bad(f"1:{key}", f"found layer {layer}, allowed: 0 to {len(work.layers) - 1}")
    checkpoints = work.lists.get("checkpoints", ())
    for layer in work.lists.get("checkpoint_initiates", ()):
        if not any(c <= layer for c in checkpoints):
            work.bad("1:checkpoint_initiates", f"found layer {layer} with no checkpoint at or before it")
    last = work.numbers.get("last_bottom")
    if work.parallelism in _DLRM and (last is None or last >= len(work.layers)):
        found = "none" if last is None else str(last)
        allowed = f"allowed: a layer from 0 to {len(work.layers) - 1}"
        work.bad("1:DLRM_LAST_BOTTOM_LAYER", f"found {found}, {allowed}")
