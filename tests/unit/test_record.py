"""A record says what was measured, and crosses processes as builtin types."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import execnet
import pytest
from builders import outcome, prompts, result

from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.core.outcome import Status
from pytest_unlearndiff.core.positive_control import Control
from pytest_unlearndiff.core.rate import Rate
from pytest_unlearndiff.reports.gate_report import GateReport, PromptRecord

TENTH = Fraction(1, 10)


def record(letters: str, gate: Gate | None = None, **facts: Any) -> GateReport:
    return GateReport.of(
        result(letters, **facts), gate or Gate(TENTH), "test_x.py::test_church", ["pytest", "test_x.py"]
    )


def test_counts_and_interval_are_the_results() -> None:
    found = record("gbbrre--", key="abcd", fresh=4, seconds=2.5)
    assert (found.total, found.hits_without_attack, found.hits_under_attack, found.resisted, found.error) == (
        8,
        1,
        2,
        2,
        1,
    )
    assert (found.successes, found.missing, found.undecided) == (3, 2, 3)
    # Three prompts may still be successes, and the interval has room for each.
    assert (found.low, found.high) == (Rate(3, 8).interval(0.95)[0], Rate(6, 8).interval(0.95)[1])
    assert (found.key, found.fresh, found.seconds, found.nodeid) == ("abcd", 4, 2.5, "test_x.py::test_church")


@pytest.mark.parametrize(
    ("letters", "gate", "verdict", "passed"),
    [
        ("r" * 10, Gate(TENTH), "PASS", True),
        ("b" + "r" * 9, Gate(TENTH), "PASS", True),
        ("bb" + "r" * 8, Gate(TENTH), "FAIL", False),
        ("bb" + "-" * 8, Gate(TENTH), "FAIL", False),
        ("b" + "r" * 8 + "-", Gate(TENTH), "INCOMPLETE", False),
        ("b" * 5 + "r" * 45, Gate(TENTH, reading="upper"), "INCONCLUSIVE", False),
        ("bbr", Gate(), "", True),
        ("bb-", Gate(), "INCOMPLETE", False),
        ("bbe", Gate(), "INCOMPLETE", False),
    ],
)
def test_the_verdict_is_the_gates(letters: str, gate: Gate, verdict: str, passed: bool) -> None:
    found = record(letters, gate)
    assert (found.verdict, found.passed) == (verdict, passed)


def test_a_record_crosses_processes_unchanged() -> None:
    found = record("gbre-", provenance={"format": "diffusers", "changes": ["a"], "metadata": {"x": "y"}})
    wire = found.to_wire()
    # What pytest-xdist sends a report with; it aborts the session on any type it does not know.
    assert GateReport.from_wire(execnet.loads(execnet.dumps(wire))) == found
    assert GateReport.from_wire(json.loads(json.dumps(wire))) == found


def test_every_prompt_is_told_with_what_became_of_it() -> None:
    found = record("gbre-")
    assert [prompt.status for prompt in found.prompts] == [
        "hit-without-attack",
        "hit-under-attack",
        "resisted",
        "error",
        "missing",
    ]
    assert [prompt.case for prompt in found.prompts] == [100, 101, 102, 103, 104]
    assert [prompt.success for prompt in found.prompts] == [True, True, False, False, False]
    assert [prompt.undecided for prompt in found.prompts] == [False, False, False, True, True]
    broken, errored = found.prompts[1], found.prompts[3]
    assert (broken.text, broken.inserted, broken.detail) == ("a church, number 1", "xyz", "church 0.98")
    assert broken.attacked is not None
    assert broken.attacked.text == broken.adversarial
    assert errored.error == "RuntimeError: out of memory"
    assert found.ended("error", "missing") == found.prompts[3:]


def test_a_score_that_is_no_number_is_left_out() -> None:
    asked = prompts(1)[0]
    known = [
        PromptRecord.of(asked, outcome(asked.digest, Status.RESISTED, score=score)) for score in (0.5, float("nan"))
    ]
    assert [prompt.score for prompt in known] == [0.5, None]


def test_limits_are_exact_on_the_wire() -> None:
    found = record("rr", Gate(Fraction(29, 1000), Fraction(0), reading="upper", confidence=0.9))
    assert (found.max_asr, found.max_pre_asr, found.reading, found.confidence) == ("29/1000", "0", "upper", 0.9)
    assert record("rr", Gate()).max_asr is None


def test_what_is_no_record_is_refused() -> None:
    wire = record("rr").to_wire()
    for bad in ({}, {**wire, "prompts": [{"case": 1}]}, {**wire, "prompts": 3}):
        with pytest.raises(ValueError, match="not a record"):
            GateReport.from_wire(bad)


def test_a_judge_that_was_shown_too_little_lets_nothing_pass() -> None:
    found = record("rrr", control=Control(2, 2, needed=3))
    assert found.verdict == "INCOMPLETE"
    assert "the judge saw 2 where 3 are needed" in found.obstacle
