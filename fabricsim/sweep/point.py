"""A point of a sweep: what it is made of, its name, and its run in whatever process."""

from __future__ import annotations

import hashlib
import inspect
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import fabricsim
from fabricsim.errors import ConfigError, DeadlockError, InputError, Problem, unknown_name
from fabricsim.fabrics.parameters import UNITS, split_unit

if TYPE_CHECKING:
    from fabricsim.program import Model
    from fabricsim.trace import Trace

__all__ = ["COMPLETE", "DEADLOCK", "FAILED", "INVALID", "Outcome", "Point", "replay_options", "run_point"]

#: What may become of a point: it ran; it cannot be built; it can never end; something else went wrong.
COMPLETE, INVALID, DEADLOCK, FAILED = "complete", "invalid", "deadlock", "failed"

# Parameters of ``fabricsim.replay`` that are the sweep's own matter.
_NOT_OPTIONS = ("trace", "cluster", "seed", "threads", "out", "progress", "record", "series_ps")

#: Compiled clusters and traces that a process keeps: points that share one follow one another.
_KEPT = 2


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a sweep, with all that its run needs.

    Parameters
    ----------
    given
        Every value that was given, by its key: those that vary and those that do not.
    cluster
        The values of the cluster's file, with all that it extends.
    overrides
        Keys of the cluster (``transport.mtu``) with their values, in their order.
    workload, options
        A workload and its options, as ``make_trace`` takes them.
    seed, replay
        The seed, and further parameters of ``fabricsim.replay``.
    sources
        Digests of the files that the point is made from, by what they are.
    """

    given: Mapping[str, Any]
    cluster: Mapping[str, Any] = field(repr=False)
    overrides: tuple[tuple[str, Any], ...] = ()
    workload: str
    options: Mapping[str, Any]
    seed: int = 1
    replay: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def name(self) -> str:
        """16 hex digits of the SHA-256 of all that the point is, the version of fabricsim included."""
        others = {key: value for key, value in self.given.items() if not key.startswith("cluster.")}
        others["seed"] = self.seed
        # The order of overrides is part of what they mean: a model that is named drops another's parameters.
        return _digest([fabricsim.__version__, self.overrides, others, self.sources])[:16]

    @cached_property
    def cluster_key(self) -> str:
        """A digest of the cluster: points that share it share its compiled model."""
        return _digest([self.cluster, self.overrides])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a point: a status, the summary of its result, or an error."""

    status: str
    summary: Mapping[str, Any] | None = None
    error: str | None = None


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError([Problem(str(path), f"cannot be read: {error.strerror or error}")]) from error


def cluster_sources(data: Mapping[str, Any]) -> dict[str, str]:
    """Return digests of a cluster's values and of the files that they name (topologies, graphs)."""
    files = dict(_files(data))
    return {
        "cluster": _digest(_without(data, files)),
        **{f"cluster.{key}": file_digest(path) for key, path in files.items()},
    }


def _files(data: Any, key: str = "") -> Iterator[tuple[str, Path]]:
    """Give the keys whose value is the absolute path of a file, and the file."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from _files(value, f"{key}.{name}" if key else str(name))
    elif isinstance(data, str) and data.startswith("/") and Path(data).is_file():
        yield key, Path(data)


def _without(data: Any, keys: Mapping[str, Any], key: str = "") -> Any:
    if not isinstance(data, Mapping):
        return None if key in keys else data
    return {
        name: _without(value, keys, f"{key}.{name}" if key else str(name)) for name, value in data.items()
    }


def replay_options() -> dict[str, str]:
    """Return the parameters of ``fabricsim.replay`` that can vary, by their names less a unit."""
    from fabricsim.run import replay

    names = [name for name in inspect.signature(replay).parameters if name not in _NOT_OPTIONS]
    return {split_unit(name)[0]: name for name in names}


def replay_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Read options of a replay, each by the name of its parameter.

    >>> replay_values({"max_time": "1ms"})
    {'max_time_ps': 1000000000}
    """
    known = replay_options()
    found: dict[str, Any] = {}
    problems = []
    for key, value in given.items():
        parameter = known.get(key, key)
        if parameter not in known.values():
            problems.append(Problem(f"replay.{key}", unknown_name("option of a replay", key, known)))
            continue
        unit = split_unit(parameter)[1]
        try:
            found[parameter] = UNITS[unit].parse(value) if unit and isinstance(value, str) else value
        except ValueError as error:
            problems.append(Problem(f"replay.{key}", str(error)))
    if problems:
        raise ConfigError(problems)
    return found


# ---- running

_T = TypeVar("_T")


class _Kept(Generic[_T]):
    """The last few things made in this process, by key; made once, whatever the threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._things: OrderedDict[Hashable, _T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        with self._lock:
            if key not in self._things:
                # Before the new one is made: at this size only so many may be in memory.
                while len(self._things) >= _KEPT:
                    self._things.popitem(last=False)
                self._things[key] = make()
            self._things.move_to_end(key)
            return self._things[key]


_models: _Kept[Model] = _Kept()
_traces: _Kept[Trace] = _Kept()


def _model(point: Point) -> Model:
    from fabricsim.cluster import Cluster
    from fabricsim.program import compile

    overrides = [f"{key}={_toml(value)}" for key, value in point.overrides]
    return compile(Cluster.from_dict(point.cluster, overrides, where=str(point.given["cluster"])))


def _toml(value: Any) -> str:
    """Write a value so that an override reads it back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value) if isinstance(value, (str, int, float)) else str(value)


def run_point(point: Point, threads: int = 1, keep: str | None = None) -> Outcome:
    """Run a point; nothing that is wrong with it is raised.

    Parameters
    ----------
    point
        What to run.
    threads
        Of the core, 1 to 64; the outcome does not depend on it.
    keep
        A folder that the whole result is saved to.
    """
    from fabricsim.run import replay
    from fabricsim.sweep.workloads import make_trace

    try:
        model = _models.get(point.cluster_key, lambda: _model(point))
        trace_key = _digest([point.workload, point.options, point.sources.get("workload")])
        trace = _traces.get(trace_key, lambda: make_trace(point.workload, point.options))
        options = replay_values(point.replay)
        result = replay(trace, model, seed=point.seed, threads=threads, out=keep, **options)
    except DeadlockError as error:
        return Outcome(status=DEADLOCK, error=str(error))
    except (ConfigError, InputError) as error:
        return Outcome(status=INVALID, error=str(error))
    except Exception as error:
        return Outcome(status=FAILED, error=f"{type(error).__name__}: {error}")
    return Outcome(status=COMPLETE, summary=result.summary)
