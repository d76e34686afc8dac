"""``fabricsim sweep``: many clusters, workloads, layouts and seeds; the best of them, and what matters."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fabricsim.cli.output import emit_json, heading, line, log, shortened, table
from fabricsim.errors import ConfigError, Problem

if TYPE_CHECKING:
    from fabricsim.sweep import Objective, Sensitivity, Study, Sweep, SweepProgress

NAME = "sweep"
SUMMARY = (
    "run many points over any parameter of cluster, workload, layout or seed: the best, and what matters"
)

_LINE_EVERY_S = 5.0
#: Errors that are shown, and the width of their lines.
_TROUBLES, _ERROR_WIDTH = 10, 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "source",
        metavar="FILE",
        nargs="*",
        help="a sweep file (TOML); or show FOLDER...: tell again what is there (several: of shards)",
    )
    parser.add_argument(
        "-o", "--out", metavar="DIR", help="the folder of the sweep; what is there is not rerun"
    )
    what = parser.add_argument_group("what is swept (over the file)")
    what.add_argument("-c", "--cluster", metavar="FILE|PRESET", help="the same as --set cluster=...")
    what.add_argument(
        "--workload",
        metavar="NAME",
        help="a generator (such as collective), a trace, or package.module:function",
    )
    what.add_argument("--seed", type=int, metavar="N", help="the same as --set seed=N (default 1)")
    what.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="fixed",
        help="a value of all points: cluster.KEY, workload.OPTION, layout.OPTION, replay.OPTION; repeatable",
    )
    what.add_argument(
        "--vary",
        metavar="KEY=VALUES",
        action="append",
        default=[],
        help="v1,v2,... or first:last:step, first:last:*factor, first:last:logN, low..high; repeatable",
    )
    what.add_argument(
        "--zip",
        metavar="KEY=VALUES;KEY=VALUES",
        action="append",
        default=[],
        help="keys that vary together, value by value; repeatable",
    )
    what.add_argument("--sampling", metavar="NAME", help="grid (default), random or latin (Latin hypercube)")
    what.add_argument("--points", type=int, metavar="N", help="how many, with random and latin")
    what.add_argument("--sample-seed", type=int, metavar="N", help="of the draws of points (default 1)")
    what.add_argument(
        "--objective",
        metavar="[min:|max:]PATH",
        action="append",
        default=[],
        help="a figure of the summary (default end_ps), such as training.mfu; two give a Pareto front",
    )
    how = parser.add_argument_group("how it runs")
    how.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default 1)")
    how.add_argument("--dask", metavar="ADDRESS", help="run on a Dask cluster, such as tcp://host:8786")
    how.add_argument("--shard", default="1/1", metavar="I/N", help="every N-th point from the I-th on")
    how.add_argument("--threads", type=int, default=1, metavar="N", help="threads of each point (default 1)")
    how.add_argument("--keep", action="store_true", help="keep the whole result of each point, in results/")
    how.add_argument("--dry-run", action="store_true", help="list the points, and run none")
    how.add_argument("--rows", type=int, default=20, metavar="N", help="points that are shown (default 20)")
    how.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show progress on stderr (default: on a terminal)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run what is left of the sweep, and tell what came out."""
    from fabricsim.sweep import Study

    if arguments.source[:1] == ["show"]:
        if not arguments.source[1:]:
            raise ConfigError(["sweep show: allowed: one folder of a sweep, or several of its shards"])
        return _tell(Study.load(*arguments.source[1:], objectives=arguments.objective), arguments)
    sweep = _sweep(arguments)
    shard = _shard(arguments.shard)
    if arguments.dry_run:
        return _list(sweep, shard, arguments)
    if arguments.out is None:
        raise ConfigError(["sweep needs -o DIR, the folder of its points (or --dry-run)"])
    return _tell(_run(sweep, shard, arguments), arguments)


def _sweep(arguments: argparse.Namespace) -> Sweep:
    from fabricsim.sweep import Sweep
    from fabricsim.sweep.values import read_value, split_list

    if len(arguments.source) > 1:
        raise ConfigError(
            [f"found {len(arguments.source)} files, allowed: one sweep file, or show FOLDER..."]
        )
    problems: list[Problem] = []
    fixed = {key: read_value(text) for key, text in _pairs(arguments.fixed, "--set", problems)}
    for name in ("cluster", "workload", "seed"):
        if getattr(arguments, name) is not None:
            fixed[name] = getattr(arguments, name)
    vary = dict(_pairs(arguments.vary, "--vary", problems))
    paired = [dict(_pairs(split_list(group, ";"), "--zip", problems)) for group in arguments.zip]
    if problems:
        raise ConfigError(problems)
    return Sweep.load(
        arguments.source[0] if arguments.source else None,
        fixed=fixed,
        vary=vary,
        paired=paired,
        sampling=arguments.sampling,
        points=arguments.points,
        sample_seed=arguments.sample_seed,
        objectives=arguments.objective or None,
    )


def _pairs(texts: list[str], option: str, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """Give the key and the value of each text KEY=VALUE; a key that comes again is a problem."""
    seen = set()
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key or key in seen:
            allowed = f"{key} once" if key in seen else "KEY=VALUE"
            problems.append(Problem(option, f"found {text!r}, allowed: {allowed}"))
            continue
        seen.add(key)
        yield key, value.strip()


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not slash or not index.isdecimal() or not count.isdecimal() or not 1 <= int(index) <= int(count):
        raise ConfigError([Problem("--shard", f"found {text!r}, allowed: I/N with 1 <= I <= N, such as 1/4")])
    return int(index), int(count)


def _run(sweep: Sweep, shard: tuple[int, int], arguments: argparse.Namespace) -> Study:
    from fabricsim.sweep import dask_executor, run_sweep

    dask = dask_executor(arguments.dask) if arguments.dask is not None else contextlib.nullcontext()
    began = time.perf_counter()
    try:
        with dask as executor, _showing(arguments.progress) as progress:
            study = run_sweep(
                sweep,
                arguments.out,
                executor=executor,
                jobs=arguments.jobs,
                shard=shard,
                threads=arguments.threads,
                keep=arguments.keep,
                progress=progress,
            )
    except KeyboardInterrupt:
        log(f"what was found until then is in {arguments.out}; the same command goes on from there")
        raise
    log(f"{arguments.out}: sweep.arrow, sweep.csv, in {time.perf_counter() - began:.1f} s")
    study.check_goals()
    return study


# ---- progress


@contextlib.contextmanager
def _showing(wanted: bool | None) -> Iterator[Callable[[SweepProgress], None] | None]:
    terminal = sys.stderr.isatty()
    if wanted is False or (wanted is None and not terminal):
        yield None
    elif terminal:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = ("points", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[detail]}"))
        with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None, detail="")
            yield lambda p: bar.update(task, total=p.total, completed=p.done, detail=_describe(p))
    else:
        last = 0.0

        def show(progress: SweepProgress) -> None:
            nonlocal last
            if progress.done == progress.total or progress.wall_s - last >= _LINE_EVERY_S:
                last = progress.wall_s
                log(f"{progress.done} of {progress.total} points, {_describe(progress)}")

        yield show


def _describe(progress: SweepProgress) -> str:
    told = [f"{progress.before} were there"] if progress.before else []
    told += [f"{n} {what}" for n, what in ((progress.invalid, "invalid"), (progress.failed, "failed")) if n]
    if progress.left_s is not None and progress.done < progress.total:
        minutes, seconds = divmod(round(progress.left_s), 60)
        told.append(f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} left")
    return ", ".join(told) or f"{progress.wall_s:.0f} s"


# ---- telling


def _list(sweep: Sweep, shard: tuple[int, int], arguments: argparse.Namespace) -> int:
    """List the points of a sweep, and which are there."""
    from fabricsim.sweep.files import Folder
    from fabricsim.sweep.run import shard_of

    points = shard_of(sweep.all_points, shard)
    folder = Folder(arguments.out) if arguments.out is not None else None
    rows = []
    for point in points:
        there = folder.load(point.name) if folder is not None else None
        rows.append((point.name, {key: point.given[key] for key in sweep.varied}, there))
    if arguments.json:
        made = [{"point": name, "status": o.status if o else "missing", "values": v} for name, v, o in rows]
        emit_json({"points": made})
        return 0
    table(
        ["point", *sweep.varied, ""],
        [[name, *values.values(), o.status if o else ""] for name, values, o in rows],
    )
    count = sum(outcome is not None for _, _, outcome in rows)
    line(f"{len(points)} points" + (f", {count} are there" if count else ""))
    return 0


def _tell(study: Study, arguments: argparse.Namespace) -> int:
    if arguments.json:
        emit_json(study.to_json())
    else:
        print_study(study, arguments.rows)
    return 1 if study.failed else 0


def print_study(study: Study, limit: int = 20) -> None:
    """Print the best points, the Pareto front, what matters, and what went wrong."""
    counts = ", ".join(f"{n} {status}" for status, n in study.counts().items())
    line(f"{len(study.outcomes)} points: {counts}")
    goals = study.goals
    settings = study.settings()
    sign = goals[0].sign
    ordered = sorted(settings, key=lambda one: sign * one.figures[0])
    names = {one.points for one in study.pareto()} if len(goals) > 1 else set()
    if ordered:
        repeats = len(ordered[0].points)
        means = f", means of {repeats} seeds" if repeats > 1 else ""
        heading(f"points, best first by {goals[0]}{means}")
        mark = ["Pareto"] if names else []
        table(
            [*ordered[0].values, *(goal.path for goal in goals), *mark],
            [
                [
                    *(shortened(str(value)) for value in one.values.values()),
                    *(_figure(goal.path, value) for goal, value in zip(goals, one.figures, strict=True)),
                    *(["*" if one.points in names else ""] if mark else []),
                ]
                for one in ordered[:limit]
            ],
        )
        if len(ordered) > limit:
            line(f"and {len(ordered) - limit} more (--rows, --json, sweep.csv)")
    if names:
        line(f"Pareto front: {len(names)} of {len(ordered)} settings, marked *")
    for goal in goals:
        found = study.sensitivity(goal)
        if found is not None:
            _print_sensitivity(found, goal)
    _print_troubles(study)


def _print_sensitivity(found: Sensitivity, goal: Objective) -> None:
    heading(
        f"what matters for {found.path} (mean {_figure(found.path, found.mean)} of {found.points} points)"
    )
    from fabricsim.sweep.effects import REPEATS

    rows = []
    for effect in found.effects:
        repeats = effect.keys[0] in REPEATS
        best = min(effect.levels, key=lambda level: goal.sign * level.mean)
        rows.append(
            [
                ", ".join(effect.keys),
                "-" if effect.share is None else f"{100 * effect.share:.1f} %",
                _figure(found.path, effect.spread),
                None if effect.elasticity is None else f"{round(effect.elasticity, 3) + 0.0:+.3f}",
                *([None, None] if repeats else [shortened(str(best.value)), _figure(found.path, best.mean)]),
            ]
        )
    table(["key", "of the variance", "range of means", "elasticity", "best value", "its mean"], rows)
    if found.remainder is not None:
        line(f"interactions (what no sum of single effects explains): {100 * found.remainder:.1f} %")
    if not found.balanced:
        line("not every combination is there: shares of different keys overlap, and do not add up")


def _print_troubles(study: Study) -> None:
    """Print what is wrong with points, those of one error together, failures first."""
    groups: dict[tuple[bool, str, str], list[tuple[str, dict[str, Any]]]] = {}
    for name, status, values, error in study.troubles():
        groups.setdefault((status == "invalid", status, error), []).append((name, values))
    if not groups:
        return
    heading("points that are not complete")
    for (_, status, error), points in sorted(groups.items())[:_TROUBLES]:
        name, values = points[0]
        told = ", ".join(f"{key} = {value}" for key, value in values.items())
        line(f"  {len(points)} {status}, the first {name}: {told}")
        for text in error.splitlines()[:3]:
            line(f"    {shortened(text, _ERROR_WIDTH)}")
    if len(groups) > _TROUBLES:
        line(f"  and {len(groups) - _TROUBLES} more errors (--json has all)")


def _figure(path: str, value: float) -> str:
    """Write a figure in the unit that its name tells."""
    from fabricsim.units import format_bytes, format_time

    if path.endswith("_ps"):
        return format_time(round(value))
    if path.endswith("_bytes"):
        return format_bytes(round(value))
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:.6g}"
