"""The runner of the published checks."""

import json
import math

import pytest

from fabricsim.cli import main
from fabricsim.errors import ConfigError, InputError
from fabricsim.validate import Check, Unavailable, all_checks, run_checks, select


def a_check(value, name="goodput", **changes):
    def function():
        if isinstance(value, Exception):
            raise value
        return value

    given = {"published": 100.0, "unit": "Gb/s", "tolerance": 0.02, "source": "a paper", "kind": "analytic"}
    return Check(name=name, configuration="one flow", function=function, **(given | changes))


@pytest.mark.parametrize(
    ("value", "changes", "passed"),
    [
        (101.9, {}, True),
        (97.9, {}, False),
        (100.0, {"tolerance": 0}, True),
        (100.0001, {"tolerance": 0}, False),
        (150, {"sense": "at least"}, True),
        (97, {"sense": "at least"}, False),
        (50, {"sense": "at most"}, True),
        (0, {"published": 0, "tolerance": 0}, True),
        (1, {"published": 0, "tolerance": 0}, False),
        (math.nan, {}, False),
        (InputError(["bad row"]), {}, False),
        (Unavailable("no data"), {}, None),
    ],
)
def test_a_value_is_judged(value, changes, passed):
    outcome = a_check(value, **changes).run()
    assert outcome.passed is passed
    assert outcome.to_dict()["passed"] is passed


def test_checks_are_selected_by_name():
    checks = [a_check(1, "DCQCN fairness"), a_check(1, "RoCEv2 goodput")]
    assert select(checks, None) == checks
    assert [c.name for c in select(checks, "goodput")] == ["RoCEv2 goodput"]
    assert [c.name for c in select(checks, "dcqcn*")] == ["DCQCN fairness"]
    with pytest.raises(ConfigError, match="no check matches"):
        select(checks, "torus")
    assert [o.passed for o in run_checks(checks)] == [False, False]


def test_every_published_figure_is_met():
    outcomes = list(run_checks(all_checks()))
    assert len(outcomes) >= 17
    assert [f"{o.check.name}: {o.value} {o.note}" for o in outcomes if not o.passed] == []
    assert all(o.check.source and o.check.status for o in outcomes)


def test_the_command_prints_json(capsys):
    assert main(["validate", "--only", "t_PFC", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] and found["checks"][0]["emulated"] == pytest.approx(24.475)


def test_cases_of_nccl_are_checks_with_a_source():
    from fabricsim.validate.nccl import CASES, emulate

    names = {one.name for one in all_checks()}
    assert {case.name for case in CASES} <= names
    for name in (
        "A100 HDR ring",
        "Forced ring, 4 NICs",
        "B300 all-to-all over RoCE",
        "H200 ring all-reduce",
        "H200 NVLS all-reduce",
        "DeepEP all-to-all over NDR",
    ):
        assert name in names
    small = [case for case in CASES if case.size_bytes <= 1 << 20]
    assert small and all(abs(emulate(case) / case.published - 1) <= case.tolerance for case in small)
