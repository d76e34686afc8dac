"""The workloads that a sweep can name: generators with their options, a user's function, trace files."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabricsim.errors import ConfigError, Problem, unknown_name
from fabricsim.fabrics.parameters import UNITS, split_unit
from fabricsim.sweep.point import file_digest

if TYPE_CHECKING:
    from fabricsim.trace import Trace

__all__ = ["GENERATORS", "Generator", "Option", "make_trace", "option_problems", "workload_digest"]

#: What options may be, by their annotation.
_TYPES: Mapping[str, tuple[str, tuple[type, ...]]] = {
    "int": ("a whole number", (int,)),
    "float": ("a number", (int, float)),
    "bool": ("true or false", (bool,)),
    "str": ("a text", (str,)),
}


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a generator: the parameter that takes it, how it is read, and whether it must be given."""

    parameter: str
    kind: str
    required: bool

    def read(self, value: Any) -> Any:
        """Read a value; ValueError says what is allowed."""
        unit = split_unit(self.parameter)[1]
        if unit in ("bytes", "ps") and isinstance(value, str):
            return UNITS[unit].parse(value)
        names = [name.strip() for name in self.kind.split("|")]
        allowed = [_TYPES[name] for name in names if name in _TYPES]
        fits = any(
            isinstance(value, types) and isinstance(value, bool) == (types == (bool,)) for _, types in allowed
        )
        if allowed and not fits:
            unit_form = f", or a text such as {UNITS[unit].example}" if unit in ("bytes", "ps") else ""
            raise ValueError(f"found {value!r}, allowed: {' or '.join(a for a, _ in allowed)}{unit_form}")
        return value


@dataclass(frozen=True, slots=True)
class Generator:
    """A workload by name: its options, and what makes its trace of them."""

    name: str
    options: Callable[[], Mapping[str, Option]]
    make: Callable[[Mapping[str, Any]], Trace]


def _short(parameter: str) -> str:
    """Return the name of an option: that of its parameter, less a unit and ``n_``."""
    stem, unit = split_unit(parameter)
    return (stem if unit in ("bytes", "ps") else parameter).removeprefix("n_")


def _kind(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _options_of(function: Callable[..., Any], without: Iterable[str] = ()) -> dict[str, Option]:
    """Return the options of a function (or of the fields of a class) by name."""
    return {
        _short(name): Option(name, _kind(one.annotation), one.default is inspect.Parameter.empty)
        for name, one in inspect.signature(function).parameters.items()
        if name not in without and one.kind is not inspect.Parameter.VAR_KEYWORD
    }


def _simple(name: str) -> Generator:
    """Return the generator that is the function of this name in ``fabricsim.workload``."""

    def function() -> Callable[..., Trace]:
        from fabricsim import workload

        found: Callable[..., Trace] = getattr(workload, name)
        return found

    return Generator(name, lambda: _options_of(function()), lambda options: function()(**options))


def _demo(options: Mapping[str, Any]) -> Trace:
    from fabricsim.workload.demo import demo_trace

    return demo_trace()


# ---- training steps: the options of ``fabricsim gen llm``


def _llm_options() -> dict[str, Option]:
    from fabricsim.workload.training.options import ALIASES, Training

    # The training checks its values itself, all of them together.
    options = {_short(one.name): Option(one.name, "", False) for one in dataclasses.fields(Training)}
    return options | {alias: options[_short(name)] for alias, name in ALIASES.items()}


def _llm(options: Mapping[str, Any]) -> Trace:
    from fabricsim.workload import llm

    return llm(**options)


# ---- checkpoints: the options of ``fabricsim gen checkpoint``

_SAVED = ("sharding", "weights", "optimiser", "vocab_multiple")
_PARALLEL = ("tp", "pp", "dp", "ep", "order")
_RESTORE = ("tier", "failed", "broadcast")


def _checkpoint_options() -> dict[str, Option]:
    from fabricsim.checkpoint import Checkpoint, Parallel, Plan

    options = {name: Option(name, "str", False) for name in ("model", "mlperf", "action", "tier")}
    options |= {"failed": Option("failed", "list", False), "broadcast": Option("broadcast", "bool", False)}
    for group in (Checkpoint, Parallel, Plan):
        fields = {one.name: Option(one.name, str(one.type), False) for one in dataclasses.fields(group)}
        options |= {_short(name): one for name, one in fields.items()}
    for name in ("shape", "parallel", "saved", "copy_bytes_per_s"):
        del options[name]
    for name, parameter in (("step_time", "step_ps"), ("gradients", "gradient_bytes")):
        options[name] = options.pop(_short(parameter))
    return options | {"copy_rate": Option("copy_rate", "str", False)}


def _checkpoint(options: Mapping[str, Any]) -> Trace:
    from fabricsim.checkpoint import Checkpoint, MlperfCheckpoint, Parallel, mlperf_checkpoint
    from fabricsim.units import parse_rate_mbps
    from fabricsim.workload import checkpoint
    from fabricsim.workload.shapes import named_shape

    given = dict(options)
    model, mlperf = given.pop("model", None), given.pop("mlperf", None)
    if (model is None) == (mlperf is None):
        raise ConfigError(["workload checkpoint needs one of workload.model and workload.mlperf"])
    if "copy_rate" in given:
        rate = given.pop("copy_rate")
        given["copy_bytes_per_s"] = 0 if rate == "0" else parse_rate_mbps(rate) * 125_000
    parts = {name: given.pop(name) for name in (*_SAVED, *_PARALLEL) if name in given}
    saved: Checkpoint | MlperfCheckpoint
    if mlperf is not None:
        if parts:
            raise ConfigError([f"workload.{name}: allowed with workload.model" for name in parts])
        saved = mlperf_checkpoint(mlperf)
    else:
        parallel = Parallel(**{name: parts.pop(name) for name in _PARALLEL if name in parts})
        saved = Checkpoint(shape=named_shape(model), parallel=parallel, **parts)
    return checkpoint(saved, **given)


#: Every generator by name.
GENERATORS: Mapping[str, Generator] = {
    one.name: one
    for one in (
        *map(_simple, ("collective", "permutation", "incast", "file_io")),
        Generator("llm", _llm_options, _llm),
        Generator("checkpoint", _checkpoint_options, _checkpoint),
        Generator("demo", dict, _demo),
    )
}


# ---- by name


def _is_function(name: str) -> bool:
    """Whether a name is that of a function, ``package.module:function``."""
    module, colon, function = name.partition(":")
    return bool(colon) and function.isidentifier() and all(p.isidentifier() for p in module.split("."))


def _function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError([Problem("workload", f"{name}: cannot be imported: {error}")]) from error
    if not callable(found):
        raise ConfigError([Problem("workload", f"{name}: found a {type(found).__name__}, no function")])
    return found


def _options(name: str) -> Mapping[str, Option]:
    return _options_of(_function(name)) if _is_function(name) else GENERATORS[name].options()


def _named(options: Mapping[str, Option]) -> dict[str, Option]:
    """Return options also by the full names of their parameters."""
    return {one.parameter: one for one in options.values()} | dict(options)


def _nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with tables in place of keys with dots: ``jitter.sigma`` is a value of ``jitter``."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        *above, last = key.split(".")
        table = found
        for name in above:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ConfigError([Problem(f"workload.{key}", f"found workload.{name} too, allowed: one")])
        table[last] = value
    return found


def option_problems(workload: str, keys: Iterable[str]) -> list[str]:
    """Return what is wrong with a workload's name and those of its options, before anything is run.

    >>> option_problems("incast", ["sendrs"])
    ["unknown option of workload incast 'sendrs'; did you mean 'senders'? (known: senders, size)"]
    """
    if workload in GENERATORS or _is_function(workload):
        known = _options(workload)
        takes = _named(known)
        keys = list(dict.fromkeys(key.partition(".")[0] for key in keys))
        wrong = [key for key in keys if key not in takes]
        problems = [unknown_name(f"option of workload {workload}", key, known) for key in wrong]
        names: dict[str, list[str]] = {}
        for key in keys:
            if key in takes:
                names.setdefault(takes[key].parameter, []).append(key)
        return problems + [f"found {' and '.join(n)}, allowed: one of them" for n in names.values() if n[1:]]
    if Path(workload).is_file():
        return [
            f"workload.{key}: the workload {workload} is a trace file, allowed: no options" for key in keys
        ]
    known_text = unknown_name("workload", workload, GENERATORS)
    return [f"{known_text}, or a trace file, or package.module:function"]


def make_trace(workload: str, options: Mapping[str, Any]) -> Trace:
    """Make the trace of a workload.

    Parameters
    ----------
    workload
        A key of ``GENERATORS``, the path of a trace file, or a function ``package.module:function``.
    options
        Its options by name; ``size`` and ``size_bytes`` are the same, as are ``ranks`` and ``n_ranks``.

    Raises
    ------
    ConfigError, InputError
        When the options do not fit, or the file cannot be read.

    >>> make_trace("collective", {"kind": "all_reduce", "size": "1MiB", "ranks": 8}).n_ranks
    8
    """
    problems = option_problems(workload, options)
    if problems:
        raise ConfigError([Problem("workload", text) for text in problems])
    if workload not in GENERATORS and not _is_function(workload):
        from fabricsim.trace import read_trace

        return read_trace(workload)
    options = _nested(options)
    known = _options(workload)
    takes = _named(known)
    values: dict[str, Any] = {}
    wrong: list[Problem] = []
    for key, value in options.items():
        try:
            values[takes[key].parameter] = takes[key].read(value)
        except ValueError as error:
            wrong.append(Problem(f"workload.{key}", str(error)))
    given = {takes[key].parameter for key in options}
    wrong += [
        Problem(f"workload.{name}", f"missing, {workload} needs it")
        for name, one in known.items()
        if one.required and one.parameter not in given
    ]
    if wrong:
        raise ConfigError(wrong)
    make = GENERATORS[workload].make if workload in GENERATORS else lambda given: _function(workload)(**given)
    try:
        return make(values)
    except ValueError as error:
        raise ConfigError([Problem(f"workload {workload}", str(error))]) from error


def workload_digest(workload: str) -> str | None:
    """Return the SHA-256 of a workload's file: of a trace, or of the module of a function; else None."""
    if workload in GENERATORS:
        return None
    path = Path(workload)
    if _is_function(workload):
        path = Path(inspect.getfile(_function(workload)))
    return file_digest(path)
