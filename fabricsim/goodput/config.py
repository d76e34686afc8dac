"""What a study of goodput is told: the job, its checkpoints, and what fails how often."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from fabricsim.cluster_file import Layer, Layers, problems_of, with_overrides
from fabricsim.errors import ConfigError, Problem, nearest
from fabricsim.fabrics.parameters import UNITS
from fabricsim.fabrics.section import Issue, Section, raise_issues
from fabricsim.fabrics.toml import key_lines
from fabricsim.goodput.corruption import Corruption
from fabricsim.goodput.measured import filled
from fabricsim.goodput.rates import MOST_PS, Length, Rate, Time

__all__ = ["Checkpoint", "Component", "GoodputConfig", "Job", "ListedFailure", "preset_names"]

Count = Annotated[int, Field(ge=1, le=10**9)]
Counted = Annotated[int, Field(ge=0, le=10**9)]


class Job(Section):
    """The job, and how it comes back after an interruption.

    Parameters
    ----------
    nodes, gpus_per_node
        What it runs on.
    wall_ps
        How long it is watched, ps, up to 100 days; or
    work_ps
        the useful time after which it is done, ps, on all its nodes.
    spares
        Nodes that stand ready at the start.
    no_spare
        ``wait`` for a repaired node, or ``shrink``: go on with fewer.
    shrink_nodes
        With ``shrink``: the job loses nodes by so many at a time (a data-parallel replica), default 1.
    least_nodes
        With ``shrink``: waits with fewer than this; default half of ``nodes``.
    repair_ps
        Until a failed node is a spare again, ps, where a component does not tell its own.
    detection_ps
        From a failure to the decision to restart, ps, where a component does not tell its own.
    replacement_ps
        To put spares in the place of failed nodes, ps.
    restart_ps
        To start the job's processes and its communication, ps.
    """

    nodes: Count = 1
    gpus_per_node: Count = 8
    wall_ps: Length | None = None
    work_ps: Length | None = None
    spares: Counted = 0
    no_spare: Literal["wait", "shrink"] = "wait"
    shrink_nodes: Count = 1
    least_nodes: Count | None = None
    repair_ps: Time = 24 * 3600 * 10**12
    detection_ps: Time = 0
    replacement_ps: Time = 0
    restart_ps: Time = 0

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        issues: list[Issue] = []
        if (self.wall_ps is None) == (self.work_ps is None):
            issues.append(((), "allowed: one of wall (how long to watch) and work (useful time to do)", None))
        if self.shrink_nodes > self.nodes:
            text = f"found {self.shrink_nodes}, allowed: at most nodes, {self.nodes}"
            issues.append((("shrink_nodes",), text, self.shrink_nodes))
        if self.least_nodes is not None and self.least_nodes > self.nodes:
            text = f"found {self.least_nodes}, allowed: at most nodes, {self.nodes}"
            issues.append((("least_nodes",), text, self.least_nodes))
        raise_issues("Job", issues)
        return self

    @property
    def gpus(self) -> int:
        """GPUs of the whole job."""
        return self.nodes * self.gpus_per_node


def _parse_interval(value: Any) -> Any:
    if value in ("young", "daly"):
        return value
    try:
        return UNITS["ps"].parse(value)
    except ValueError as error:
        raise ValueError(f"{error}; or 'young' or 'daly', the best by their formulas") from None


def _checked_interval(value: Any) -> Any:
    if isinstance(value, str) and value in ("young", "daly"):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST_PS:
        raise ValueError(f"found {value!r}, allowed: a time of more than 0, 'young' or 'daly'")
    return value


class Checkpoint(Section):
    """Saves and restores.

    Parameters
    ----------
    mode
        ``sync``: training stands still for ``save``. ``async``: it stands still for ``snapshot``, the write
        goes on beside it, and the checkpoint can be used when that is done. ``two_tier``: the snapshot goes
        to the memory of peers in ``replicate``, every ``write_every_count``-th also to storage. ``none``:
        never.
    interval_ps
        Running time from the end of a save's stall to the next, ps, > 0; or ``young`` or ``daly``.
    save_ps
        With ``sync``: the stall, ps.
    snapshot_ps
        With ``async`` and ``two_tier``: the stall of the copy, ps.
    write_ps
        With ``async`` and ``two_tier``: the write to storage behind it, ps.
    replicate_ps
        With ``two_tier``: until peers hold the snapshot, ps.
    write_every_count
        With ``two_tier``: snapshots from one write to storage to the next.
    tolerates_nodes
        With ``two_tier``: nodes lost at once that leave the peers' copies whole.
    slowdown_ppm
        What a write or replication behind training takes from its speed, ppm.
    restore_ps
        To read the last checkpoint from storage, ps.
    memory_restore_ps
        With ``two_tier``: to read it from peers, ps.
    saves_from, restore_from, memory_restore_from
        Folders of results of ``fabricsim gen checkpoint``, whose times stand where others are not given.
    """

    mode: Literal["none", "sync", "async", "two_tier"] = "sync"
    interval_ps: Annotated[int | Literal["young", "daly"], BeforeValidator(_checked_interval)] = "young"
    save_ps: Time | None = None
    snapshot_ps: Time | None = None
    write_ps: Time | None = None
    replicate_ps: Time | None = None
    write_every_count: Count = 10
    tolerates_nodes: Counted = 1
    slowdown_ppm: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    restore_ps: Time = 0
    memory_restore_ps: Time | None = None
    saves_from: str | None = None
    restore_from: str | None = None
    memory_restore_from: str | None = None

    extra_short_names: ClassVar[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
        "interval": ("interval_ps", _parse_interval)
    }

    _NEEDS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "none": (),
        "sync": ("save_ps",),
        "async": ("snapshot_ps", "write_ps"),
        "two_tier": ("snapshot_ps", "write_ps", "replicate_ps", "memory_restore_ps"),
    }

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        issues: list[Issue] = []
        needed = self._NEEDS[self.mode]
        for name in ("save_ps", "snapshot_ps", "write_ps", "replicate_ps", "memory_restore_ps"):
            value = getattr(self, name)
            if (value is not None) != (name in needed):
                allowed = [mode for mode, names in self._NEEDS.items() if name in names]
                text = f"missing, allowed: a time, which mode = {self.mode!r} needs"
                if value is not None:
                    text = f"found {value} ps, allowed: with mode = {' or '.join(map(repr, allowed))}"
                issues.append(((name.removesuffix("_ps"),), text, value))
        raise_issues("Checkpoint", issues)
        if self.mode != "none" and isinstance(self.interval_ps, str) and not self.stall_ps:
            text = f"found {self.interval_ps!r}, allowed: a time where saves stall nothing"
            raise_issues("Checkpoint", [(("interval",), text, self.interval_ps)])
        return self

    @classmethod
    def needs(cls, mode: Any) -> set[str]:
        """Return the times that a mode needs."""
        return set(cls._NEEDS.get(mode, ())) if isinstance(mode, str) else set()

    @property
    def lag_ps(self) -> int:
        """From the end of a save's stall until the checkpoint can be used, ps."""
        return {"async": self.write_ps, "two_tier": self.replicate_ps}.get(self.mode) or 0

    @property
    def stall_ps(self) -> int:
        """How long a save keeps training from running, ps."""
        return (self.save_ps if self.mode == "sync" else self.snapshot_ps) or 0


class Component(Rate):
    """Something that fails, how often, and what that does; the fields of ``Rate``, and these.

    Parameters
    ----------
    effect
        ``replace``: the job stops, its node is exchanged. ``restart``: the job stops, and starts again on
        the same nodes, after ``outage``. ``stall``: training stands still for ``outage`` and goes on.
        ``storage``: saves and restores make no headway for ``outage``; training runs.
    lost_nodes
        With ``replace``: nodes that go at once, such as those behind a switch.
    repair_ps, detection_ps
        As those of the job, which are used where these are left out.
    outage_ps
        How long it is out, ps; ``stall`` and ``storage`` need it.
    """

    effect: Literal["replace", "restart", "stall", "storage"] = "replace"
    lost_nodes: Count = 1
    repair_ps: Time | None = None
    detection_ps: Time | None = None
    outage_ps: Time | None = None

    @model_validator(mode="after")
    def _has_its_effect(self) -> Self:
        if self.effect in ("stall", "storage") and self.outage_ps is None:
            text = f"missing, allowed: a time, which effect = {self.effect!r} needs"
            raise_issues("Component", [(("outage",), text, None)])
        return self

    @property
    def interrupts(self) -> bool:
        """Whether it ends what is running."""
        return self.effect in ("replace", "restart")


class ListedFailure(Section):
    """A failure at a given time.

    Parameters
    ----------
    at_ps
        When, ps from the start.
    component
        Name of a component.
    item
        Which one of them, from 0; only told in the log.
    """

    at_ps: Time
    component: str
    item: Counted = 0


class GoodputConfig(Section):
    """A study as a frozen value; every error of its making is told at once.

    Parameters
    ----------
    name, description, sources
        What it is, in words; the sources of its numbers, and which are assumed.
    job, checkpoint
        The tables of these names.
    component
        What fails: ``[[component]]``.
    event
        Failures at given times: ``[[event]]``.
    events
        A file of such failures, CSV, Arrow or TOML, relative to the configuration.
    corruption
        Silent data corruption; None for none.

    Raises
    ------
    ConfigError
        From ``load`` and ``from_dict``; each problem with file, line and key.

    >>> job = {"nodes": 4, "wall": "10d", "restart": "5min"}
    >>> gpu = {"name": "gpu", "per": "gpu", "mtbf_hours": 50_000}
    >>> config = GoodputConfig.from_dict(
    ...     {"job": job, "checkpoint": {"save": "30s"}, "component": [gpu]})
    >>> round(config.mtti_hours(), 6)
    1562.5
    """

    name: Annotated[str, Field(min_length=1)] = "goodput"
    description: str = ""
    sources: Annotated[tuple[str, ...], Field(strict=False)] = ()
    job: Job
    checkpoint: Checkpoint
    component: Annotated[tuple[Component, ...], Field(strict=False)] = ()
    event: Annotated[tuple[ListedFailure, ...], Field(strict=False)] = ()
    events: str | None = None
    corruption: Corruption | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        issues: list[Issue] = []
        known: dict[str, int] = {}
        for i, component in enumerate(self.component):
            if component.name in known:
                text = f"found {component.name!r} twice, allowed: names that differ"
                issues.append((("component", i, "name"), text, component.name))
            known[component.name] = i
            if component.effect == "replace" and component.lost_nodes > self.job.nodes:
                text = f"found {component.lost_nodes}, allowed: at most the job's nodes, {self.job.nodes}"
                issues.append((("component", i, "lost_nodes"), text, component.lost_nodes))
        for i, event in enumerate(self.event):
            if event.component not in known:
                guess = nearest(event.component, known)
                hint = f"; did you mean {guess!r}?" if guess else ""
                text = f"unknown component {event.component!r}{hint} (known: {', '.join(known) or 'none'})"
                issues.append((("event", i, "component"), text, event.component))
        ruled = self.checkpoint.mode != "none" and isinstance(self.checkpoint.interval_ps, str)
        if ruled and not issues and self.mtti_hours() is None:
            text = f"found {self.checkpoint.interval_ps!r}, allowed: a time where no component has a rate"
            issues.append((("checkpoint", "interval"), text, self.checkpoint.interval_ps))
        raise_issues("GoodputConfig", issues)
        return self

    # ---- making

    @classmethod
    def load(cls, source: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Self:
        """Read a configuration file, or a preset by its name; ``overrides`` such as ``job.spares=8``.

        Raises
        ------
        ConfigError
            With every problem found and its place.
        """
        return cls._of_layers(with_overrides(Layers([_read(source)]), overrides))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], overrides: Iterable[str] = ()) -> Self:
        """Take a dict that is shaped as a configuration file."""
        return cls._of_layers(with_overrides(Layers([Layer("goodput", data)]), overrides))

    @classmethod
    def _of_layers(cls, layers: Layers) -> Self:
        try:
            return cls.model_validate(_of_the_mode(layers))
        except ValidationError as error:
            raise ConfigError(problems_of(error, layers)) from None

    def changed(self, *overrides: str) -> Self:
        """Return a copy with values replaced, checked again: ``config.changed("job.nodes=512")``."""
        return self.from_dict(self.model_dump(exclude_none=True), overrides)

    # ---- telling

    def items_of(self, component: Rate) -> int:
        """Return how many there are of a component in the whole job."""
        return component.items(self.job.nodes, self.job.gpus)

    def mtti_hours(self) -> float | None:
        """Return the mean time to an interruption by the rates, in hours; None without rates."""
        rate = 0.0
        for component in self.component:
            mean = component.mean_hours()
            if component.interrupts and mean is not None:
                rate += self.items_of(component) / mean
        return 1 / rate if rate else None

    def recovery_ps(self) -> int:
        """Return what comes between an interruption and useful work, ps, with spares at hand.

        Detection is the mean of the components by their rates.
        """
        rates, late = 0.0, 0.0
        for component in self.component:
            mean = component.mean_hours()
            if component.interrupts and mean is not None:
                rate = self.items_of(component) / mean
                own = component.detection_ps
                rates += rate
                late += rate * (self.job.detection_ps if own is None else own)
                late += rate * (self.job.replacement_ps if component.effect == "replace" else 0)
        job, checkpoint = self.job, self.checkpoint
        restore = checkpoint.restore_ps
        if checkpoint.mode == "two_tier":
            restore = checkpoint.memory_restore_ps or 0
        before = round(late / rates) if rates else job.detection_ps + job.replacement_ps
        return before + job.restart_ps + restore


def _of_the_mode(layers: Layers) -> dict[str, Any]:
    """Return the values of all layers; times of saves that only another mode below had are dropped."""
    data = layers.merged()
    base, top = layers.layers[0].data.get("checkpoint"), data.get("checkpoint")
    if isinstance(base, Mapping) and isinstance(top, Mapping) and base.get("mode") != top.get("mode"):
        needed = Checkpoint.needs(top.get("mode"))
        tables = [layer.data.get("checkpoint") for layer in layers.layers[1:]]
        given = {key for table in tables if isinstance(table, Mapping) for key in table}
        others = {name for names in map(Checkpoint.needs, ("sync", "async", "two_tier")) for name in names}
        stale = {name for name in others - needed}
        stale |= {name.removesuffix("_ps") for name in stale}
        data["checkpoint"] = {k: v for k, v in top.items() if k in given or k not in stale}
    if isinstance(data.get("checkpoint"), Mapping):
        data["checkpoint"] = filled(data["checkpoint"])
    return data


_PRESETS = Path(__file__).parent
_FROM = ("saves_from", "restore_from", "memory_restore_from")


def preset_names() -> list[str]:
    """Return the names of the configurations that come along.

    >>> preset_names()
    ['llama3-405b']
    """
    return sorted(path.stem for path in _PRESETS.glob("*.toml"))


def _read(source: str | os.PathLike[str]) -> Layer:
    text = os.fspath(source)
    path = _PRESETS / f"{text}.toml" if text in preset_names() else Path(text)
    where = f"preset {text}" if path.parent == _PRESETS else text
    if not path.is_file():
        guess = nearest(text, preset_names())
        hint = f"; did you mean {guess!r}?" if guess else ""
        known = ", ".join(preset_names())
        raise ConfigError([Problem(text, f"no such file, and no preset{hint} (presets: {known})")])
    try:
        content = path.read_text(encoding="utf-8")
        data = tomllib.loads(content)
    except OSError as error:
        raise ConfigError([Problem(where, f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(where, f"byte {error.start} is no UTF-8, allowed: a TOML file")]) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError([Problem(where, f"not valid TOML: {error}")]) from None
    # Files and folders that it names count from where it lies.
    for table, keys in ((data, ("events",)), (data.get("checkpoint"), _FROM)):
        for key in keys:
            if isinstance(table, dict) and isinstance(table.get(key), str):
                table[key] = str((path.parent / table[key]).resolve())
    return Layer(where, {"name": path.stem} | data, key_lines(content))
