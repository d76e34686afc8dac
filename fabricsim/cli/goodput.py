"""``fabricsim goodput``: weeks of training with failures and checkpoints, replayed in seconds."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fabricsim.cli.options import time_option
from fabricsim.cli.output import emit_json, heading, line, log, pairs, table
from fabricsim.errors import ConfigError
from fabricsim.units import format_time

if TYPE_CHECKING:
    from fabricsim.goodput import GoodputConfig, Study

NAME = "goodput"
SUMMARY = "replay weeks of training with failures, checkpoints and recoveries: goodput and its breakdown"

# Option -> key of the configuration.
_OPTIONS = {
    "nodes": "job.nodes",
    "wall": "job.wall",
    "spares": "job.spares",
    "interval": "checkpoint.interval",
    "save": "checkpoint.save",
    "restore": "checkpoint.restore",
    "restart": "job.restart",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "config", metavar="CONFIG", nargs="?", help="a TOML file or a preset (llama3-405b); or give --mtti"
    )
    parser.add_argument(
        "--mtti",
        metavar="TIME",
        help="without CONFIG: mean time to an interruption of the job, such as 3.1h; needs --save",
    )
    parser.add_argument("--nodes", metavar="N", help="nodes of the job")
    parser.add_argument("--wall", metavar="TIME", help="how long to watch, such as 54d (with --mtti: 30d)")
    parser.add_argument("--spares", metavar="N", help="spare nodes")
    parser.add_argument("--interval", metavar="TIME", help="between saves: a time, young or daly")
    parser.add_argument("--save", metavar="TIME", help="stall of a synchronous save")
    parser.add_argument("--restore", metavar="TIME", help="time to read a checkpoint")
    parser.add_argument("--restart", metavar="TIME", help="time to start the job again")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="override a key of CONFIG, such as job.no_spare=shrink; repeatable",
    )
    parser.add_argument(
        "--seeds", type=int, default=20, metavar="N", help="runs, of seeds from 1 (default 20)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="one run of this seed instead")
    parser.add_argument(
        "--sweep",
        metavar="TIMES",
        help="compare intervals, such as 5min,10min,20min; or auto: a quarter to four times Young's",
    )
    parser.add_argument("--log", metavar="FILE", help="write what happens in the first seed's run, as Arrow")


def run(arguments: argparse.Namespace) -> int:
    """Replay, and print goodput, its breakdown and what formulas say."""
    from fabricsim.goodput import event_log, simulate, sweep, without_corruption

    if arguments.seeds < 1:
        raise ConfigError([f"--seeds: found {arguments.seeds}, allowed: at least 1"])
    config = _config(arguments)
    seeds: Any = arguments.seeds if arguments.seed is None else (arguments.seed,)
    if arguments.log is not None:
        from fabricsim.records import write_table

        write_table(arguments.log, event_log(config, 1 if arguments.seed is None else arguments.seed))
        log(f"events of one run in {arguments.log}")
    if arguments.sweep is not None:
        studies = sweep(config, _intervals(arguments.sweep), seeds=seeds)
        best = max(studies, key=lambda study: study.goodput.mean)
        if arguments.json:
            found = [study.to_json() for study in studies]
            emit_json({"best_interval_ps": best.interval_ps, "studies": found})
        else:
            _print_sweep(studies, best)
        return 0
    study = simulate(config, seeds=seeds)
    clean = without_corruption(study) if config.corruption is not None else None
    if arguments.json:
        other = {} if clean is None else {"goodput_without_corruption": clean.goodput.to_json()}
        emit_json(study.to_json() | other)
    else:
        print_study(study, clean)
    return 0


def _config(arguments: argparse.Namespace) -> GoodputConfig:
    from fabricsim.goodput import GoodputConfig

    options = {key: value for key, value in vars(arguments).items() if key in _OPTIONS and value is not None}
    given = [f"{_OPTIONS[key]}={value}" for key, value in options.items()]
    if arguments.save is not None:
        given.insert(0, "checkpoint.mode=sync")
    overrides = [*given, *arguments.overrides]
    if arguments.config is not None:
        if arguments.mtti is not None:
            raise ConfigError(["--mtti: allowed without CONFIG, whose components have their rates"])
        return GoodputConfig.load(arguments.config, overrides)
    mtti_ps = time_option(arguments.mtti, "--mtti")
    if not mtti_ps or arguments.save is None:
        raise ConfigError(["allowed: CONFIG (a file, or the preset llama3-405b), or --mtti with --save"])
    job = {"name": "job", "effect": "restart", "mtbf_hours": mtti_ps / 3600e12}
    data = {"name": "job", "job": {"wall": "30d"}, "checkpoint": {}, "component": [job]}
    return GoodputConfig.from_dict(data, overrides)


def _intervals(text: str) -> list[int] | None:
    if text == "auto":
        return None
    return [time_option(part.strip(), "--sweep") or 0 for part in text.split(",")]


def _share(mean: float, half: float | None) -> list[str | None]:
    return [f"{100 * mean:.3f} %", None if half is None else f"± {100 * half:.3f}"]


def print_study(study: Study, clean: Study | None = None) -> None:
    """Print what a study found; ``clean`` is the same one without corruption."""
    config, goodput, mtti = study.config, study.goodput, study.mtti_hours
    runs = len(study.seeds)
    line(
        f"{config.name}: {config.job.nodes} nodes, {config.job.gpus} GPUs,"
        f" {runs} run{'s' if runs > 1 else ''} of {_days(study.runs[0].wall_ps)}"
    )
    spread = "" if goodput.half_width is None else f" ± {100 * goodput.half_width:.3f} (95 %)"
    line(f"goodput {100 * goodput.mean:.3f} %{spread}, a save every {format_time(study.interval_ps)}")
    unfinished = sum(not run.finished for run in study.runs)
    if unfinished:
        line(f"not finished within {_days(study.runs[0].wall_ps)}: {unfinished} of {runs} runs")
    heading("where the time went")
    rows = [
        [f"  {part.replace('_', ' ')}", *_share(value.mean, value.half_width)]
        for part, value in study.breakdown().items()
        if value.mean
    ]
    table(["  part", "of the time", ""], rows)
    heading("a run, on average")
    told = [(name.replace("_", " "), f"{value:,.1f}") for name, value in study.counts().items()]
    if mtti is not None:
        told.append(("hours to an interruption", f"{mtti.mean:.3f}"))
    pairs(told)
    found = study.corruption()
    if found is not None:
        heading("silent corruption")
        share, late = found["detected_share"], found["latency_s"]
        pairs(
            [
                ("detected, of what did harm", "-" if share is None else f"{100 * share:.1f} %"),
                ("detected after, on average", "-" if late is None else f"{late:.1f} s"),
                ("time that checks add", f"{100 * (found['overhead'] or 0):.3f} %"),
            ]
        )
    if clean is not None:
        cost = 100 * (clean.goodput.mean - goodput.mean)
        pairs([("goodput that it costs, checks included", f"{cost:.3f} points")])
    predicted = study.predicted()
    if predicted is not None:
        heading("by formulas, for the same interval")
        pairs(
            [
                ("hours to an interruption, by the rates", f"{predicted['mtti_hours']:.3f}"),
                ("best interval, Young", f"{predicted['young_interval_s']:.0f} s"),
                ("best interval, Daly", f"{predicted['daly_interval_s']:.0f} s"),
                ("waste C/T + T/2M", f"{100 * predicted['waste']:.2f} %"),
                ("efficiency, first order", f"{100 * predicted['first_order_efficiency']:.3f} %"),
                ("efficiency, Daly's mean", f"{100 * predicted['daly_efficiency']:.3f} %"),
            ]
        )


def _print_sweep(studies: list[Study], best: Study) -> None:
    line(f"{best.config.name}: {len(best.seeds)} runs an interval, the same failures for each")
    rows = []
    for study in studies:
        predicted = study.predicted()
        rows.append(
            [
                format_time(study.interval_ps),
                *_share(study.goodput.mean, study.goodput.half_width),
                None if predicted is None else f"{100 * predicted['daly_efficiency']:.3f} %",
                "best" if study is best else "",
            ]
        )
    table(["interval", "goodput", "95 %", "Daly's mean", ""], rows)


def _days(time_ps: int) -> str:
    return f"{time_ps / 86400e12:.4g} days"
