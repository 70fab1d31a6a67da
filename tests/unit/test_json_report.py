"""The JSON report follows its published schema, in an order that does not depend on how it was computed."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import jsonschema
import pytest
from sessions import TENTH, hostile, record, retained, session

from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.reports.json_report import VERSION, document, json_report, schema
from pytest_unlearndiff.reports.session import SessionReport, UnmeasuredTest

VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema()))

SESSIONS = {
    "empty": session(),
    "skipped": session(unmeasured=[UnmeasuredTest("test_x.py::test_a", "skipped", "no model")]),
    "no limit": session(record("br", gate=Gate())),
    "every verdict": session(
        record("r" * 10, "a"), record("bbr", "b"), record("r-", "c"),
        record("bbb" + "r" * 35, "d", Gate(TENTH, Fraction(0), reading="upper")), created="2026-01-01T00:00:00+00:00",
    ),
    "retention": SessionReport([record("br")], retained=[retained("b"), retained("a", verdict="", base_drawn=None)]),
    "hostile": hostile(),
}  # fmt: skip


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)
    assert VALIDATOR.schema["properties"]["version"]["const"] == VERSION


@pytest.mark.parametrize("name", SESSIONS)
def test_a_report_follows_the_schema(name: str) -> None:
    VALIDATOR.validate(json.loads(json_report(SESSIONS[name])))


def changed(path: str, value: Any) -> dict[str, Any]:
    found = json.loads(json_report(SESSIONS["every verdict"]))
    *folders, last = path.split("/")
    place: Any = found
    for part in folders:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 2),
        ("surprise", 1),
        ("gates/0/surprise", 1),
        ("gates/0/verdict", "MAYBE"),
        ("gates/0/limits/max_asr", 0.1),
        ("gates/0/counts/missing", -1),
        ("gates/0/asr/at_least", 1.5),
        ("gates/0/prompts/0/status", "fine"),
        ("gates/0/prompts/0/seed", "1"),
        ("unmeasured", [{"nodeid": "x"}]),
    ],
)
def test_the_schema_refuses_what_is_no_report(path: str, value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(changed(path, value))


def test_rates_are_ranges_while_prompts_are_undecided() -> None:
    [gate] = document(session(record("gbre-")))["gates"]
    known = {
        "total": 5,
        "attackable": None,
        "hits_without_attack": 1,
        "hits_under_attack": 1,
        "resisted": 1,
        "error": 1,
        "missing": 1,
    }
    known["blocked"] = 0
    assert gate["counts"] == known
    assert (gate["asr"]["at_least"], gate["asr"]["at_most"]) == (0.4, 0.8)
    assert (gate["pre_asr"]["at_least"], gate["pre_asr"]["at_most"]) == (0.2, 0.6)
    assert gate["limits"]["max_asr"] == "1/10"
    assert gate["control"] == {"hits": 0, "seen": 0, "whose": "the un-erased model's own images"}


def test_what_is_volatile_stands_under_run() -> None:
    """The same outcomes, attacked now or found in the store, differ nowhere else."""
    first = session(
        record("gbr", "b", fresh=3, seconds=9.0, computed=70, victim="/a/x.pt"), record("rr", "a"), created="2026"
    )
    later = session(record("rr", "a", provenance={"format": "LoRA"}), record("gbr", "b"), created="2027")
    found = [json.loads(json_report(found)) for found in (first, later)]
    assert found[0].pop("run") != found[1].pop("run")
    assert found[0] == found[1]


def test_it_is_ascii_so_that_nothing_in_it_steers_a_terminal() -> None:
    text = json_report(hostile())
    assert text.isascii()
    assert all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_crosses_the_store_unchanged(name: str) -> None:
    found = SESSIONS[name]
    assert SessionReport.from_wire(json.loads(json.dumps(found.to_wire()))) == found


def test_what_is_no_session_is_refused() -> None:
    for bad in ({}, {"gates": [{}], "unmeasured": [], "run": {}}, {"gates": [], "unmeasured": [{"a": 1}], "run": {}}):
        with pytest.raises(ValueError, match="not a"):
            SessionReport.from_wire(bad)
