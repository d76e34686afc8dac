"""``fabricsim platforms``: the presets."""

from __future__ import annotations

import argparse

from fabricsim.cli.output import emit_json, line, pairs, table
from fabricsim.errors import ConfigError, unknown_name

NAME = "platforms"
SUMMARY = "list the presets, or show one with every parameter and its sources"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="a preset")
    parser.add_argument(
        "--toml", action="store_true", help="print the preset's file, to start one of your own"
    )


def run(arguments: argparse.Namespace) -> int:
    """List or show."""
    from fabricsim.platforms import list_platforms, preset_names, preset_path

    if arguments.name is None:
        if arguments.toml:
            raise ConfigError(["--toml needs the NAME of a preset"])
        presets = list_platforms()
        if arguments.json:
            emit_json([{"name": preset.name, "description": preset.description} for preset in presets])
        else:
            table(
                ["preset", "description"], [[preset.name, preset.description] for preset in presets], left=2
            )
        return 0
    if arguments.name not in preset_names():
        raise ConfigError([unknown_name("preset", arguments.name, preset_names())])
    if arguments.toml:
        line(preset_path(arguments.name).read_text(encoding="utf-8").rstrip("\n"))
        return 0
    from fabricsim.cluster import Cluster

    cluster = Cluster.from_toml(arguments.name)
    if arguments.json:
        emit_json(cluster.model_dump(mode="json"))
    else:
        pairs(cluster.describe())
    return 0
