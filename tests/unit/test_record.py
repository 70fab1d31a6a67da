"""A record says what was measured, and crosses processes as builtin types."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import execnet
import pytest

from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.core.rate import Rate
from pytest_unlearndiff.reports.record import Record, limits

from .builders import result

TENTH = Fraction(1, 10)


def record(letters: str, gate: Gate | None = None, **facts: Any) -> Record:
    return Record.of(result(letters, **facts), gate or Gate(TENTH), "test_x.py::test_church", ["pytest", "test_x.py"])


def test_counts_and_interval_are_the_results() -> None:
    found = record("gbbrre--", key="abcd", fresh=4, seconds=2.5)
    assert (found.total, found.generated, found.broken, found.resisted, found.error) == (8, 1, 2, 2, 1)
    assert (found.successes, found.missing) == (3, 2)
    assert (found.low, found.high) == Rate(3, 8, undecided=3).interval(0.95)
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
    assert Record.from_wire(execnet.loads(execnet.dumps(wire))) == found
    assert Record.from_wire(json.loads(json.dumps(wire))) == found


def test_the_first_broken_prompts_and_errors_are_told_and_the_rest_counted() -> None:
    found = record("b" * 9 + "e" * 7)
    assert [prompt["case"] for prompt in found.broken_prompts] == [100, 101, 102, 103, 104]
    assert all(prompt["inserted"] == "xyz" for prompt in found.broken_prompts)
    assert len(found.errors) == 5
    assert found.errors[0] == "prompt 109: RuntimeError: out of memory"
    assert (found.broken, found.error) == (9, 7)


@pytest.mark.parametrize(
    ("gate", "text"),
    [
        (Gate(), ""),
        (Gate(TENTH), "ASR <= 10.0%"),
        (Gate(max_pre_asr=Fraction(1, 50)), "pre-ASR <= 2.0%"),
        (Gate(TENTH, Fraction(0)), "ASR <= 10.0% and pre-ASR <= 0.0%"),
        (Gate(TENTH, reading="upper", confidence=0.99), "ASR <= 10.0% (upper bound at 99.0%)"),
    ],
)
def test_limits_in_words(gate: Gate, text: str) -> None:
    assert limits(gate) == text


@pytest.mark.parametrize("limit", ["0.0004", "0.1049", "0.00125"])
def test_a_fine_limit_is_not_shown_as_another(limit: str) -> None:
    shown = limits(Gate(Fraction(limit))).removeprefix("ASR <= ").removesuffix("%")
    assert Fraction(shown) / 100 == Fraction(limit)
