"""Retention gates in every report, and no report that calls a session passed in which one did not."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import jsonschema
import pytest
from builders import result
from sessions import HOSTILE, record

from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.core.result import Retention
from pytest_unlearndiff.reports.github import workflow_commands
from pytest_unlearndiff.reports.html_report import html_report
from pytest_unlearndiff.reports.json_report import json_report, schema
from pytest_unlearndiff.reports.markdown import markdown_report
from pytest_unlearndiff.reports.retention import RetentionReport, retention_lines, retention_text
from pytest_unlearndiff.reports.session import SessionReport

GATE = Gate(min_rate=Fraction(3, 4))


def kept(victim: str, base: str | None, gate: Gate = GATE) -> RetentionReport:
    found = Retention(result(victim), result(base) if base is not None else None)
    return RetentionReport.of(found, gate, f"test_x.py::test_{victim}")


def session(*retained: RetentionReport) -> SessionReport:
    return SessionReport([record("rrrrrrrrrr")], retained=list(retained))


def test_a_lost_concept_is_in_the_headline() -> None:
    assert session(kept("gggr", "gggg")).headline == "2 of 2 gates passed"
    assert session(kept("grrr", "gggg")).headline == "1 of 2 gates did not pass"
    assert SessionReport([], retained=[kept("gggg", None)]).headline == "1 of 1 gate passed"


def test_what_is_expected_to_fail_is_told_as_such() -> None:
    told = session(replace(kept("grrr", "gggg"), expected="destroyed on purpose"))
    assert told.headline == "1 of 2 gates did not pass (1 expected)"
    page = html_report(told, None)
    assert '<span class="tag">expected</span>' in page
    assert "expected to fail: destroyed on purpose" in page
    assert "FAIL (expected)" in markdown_report(told)
    written = json.loads(json_report(told))
    jsonschema.Draft202012Validator(json.loads(schema())).validate(written)
    assert written["retained"][0]["expected_failure"] == "destroyed on purpose"
    (line,) = workflow_commands(told, Path("/repo"))
    assert line.startswith("::notice ")


@pytest.mark.parametrize("retained", [[("gggr", "gggg")], [("g-er", None), ("rrrr", "rrrr")]])
def test_json_follows_its_schema_and_comes_back(retained: list[tuple[str, str | None]]) -> None:
    told = session(*(kept(*pair) for pair in retained))
    written = json.loads(json_report(told))
    jsonschema.Draft202012Validator(json.loads(schema())).validate(written)
    assert [gate["drawn"] for gate in written["retained"]] == [gate.drawn for gate in told.retained]
    assert SessionReport.from_wire(told.to_wire()) == told


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_steer_nothing(text: str) -> None:
    told = session(replace(kept("grrr", "gggg"), concept=text, nodeid=text, obstacle=text))
    page = html_report(told, None)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    for report in (page, markdown_report(told)):
        assert not {"\x1b", "\u202e", "\x9b", "\u2028"} & set(report)
    assert "<script>" not in markdown_report(told)
    jsonschema.Draft202012Validator(json.loads(schema())).validate(json.loads(json_report(told)))


def test_a_bound_that_is_not_kept_and_no_base_are_told() -> None:
    gate = Gate(min_rate=Fraction(3, 4), reading="lower")
    text = retention_text(kept("g" * 8 + "rr", None, gate))
    assert "8/10 = 80.0% is within the limit, but its bound is not: the gate wants" in text
    assert "no base to compare with" in text


def test_nothing_is_told_where_nothing_is_to_be_shown() -> None:
    sure = kept("g" * 30, "g" * 30, Gate(min_rate=Fraction(3, 4), reading="lower"))
    assert retention_lines([sure], verbosity=-1) == []
    assert retention_lines([sure]) != []


def test_quiet_sessions_hear_how_little_a_pass_says() -> None:
    lines = [line for line, _ in retention_lines([kept("ggggg", "ggggg")], verbosity=-1)]
    assert "  a limit of at least 4 of 5 also passes a model that draws 51.0% one time in five" in lines


def test_a_model_that_nobody_recorded_is_told_as_such() -> None:
    """One line where there is one, and each gate's own where there are several."""
    found = kept("gggg", "gggg")
    assert "  model: esd.pt" in [line for line, _ in retention_lines([found])]
    assert "  all 2 gates: model: esd.pt" in [line for line, _ in retention_lines([found, found])]
    unknown = replace(found, victim="")
    assert "  model not recorded" in [line for line, _ in retention_lines([found, unknown])]
    page = html_report(session(unknown), None)
    assert "model not recorded" in page
    assert "model not recorded" in markdown_report(SessionReport([], retained=[unknown]))
