"""Decisions on results: the verdict table of both kinds of gate, and reasons that counts do not give."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from builders import result
from hypothesis import given
from hypothesis import strategies as st

from pytest_unlearndiff.core.gate import Gate, Verdict, decide
from pytest_unlearndiff.core.result import Control, Retention

TENTH, QUARTER, HALF, MOST = Fraction(1, 10), Fraction(1, 4), Fraction(1, 2), Fraction(3, 4)


@pytest.mark.parametrize(
    ("letters", "gate", "verdict"),
    [
        ("r" * 10, Gate(TENTH), "PASS"),
        ("b" + "r" * 9, Gate(TENTH), "PASS"),
        ("b" + "k" * 9, Gate(TENTH), "PASS"),
        ("bb" + "r" * 8, Gate(TENTH), "FAIL"),
        ("bb" + "-" * 8, Gate(TENTH), "FAIL"),
        ("b" + "r" * 8 + "-", Gate(TENTH), "INCOMPLETE"),
        ("b" + "r" * 8 + "e", Gate(TENTH), "INCOMPLETE"),
        ("b" * 5 + "r" * 45, Gate(TENTH, reading="upper"), "INCONCLUSIVE"),
        ("bbr", Gate(), "PASS"),
        ("bb-", Gate(), "INCOMPLETE"),
        ("bbe", Gate(), "INCOMPLETE"),
    ],
)
def test_verdicts_where_concept_must_be_gone(letters: str, gate: Gate, verdict: str) -> None:
    assert decide(result(letters), gate).verdict == verdict


@pytest.mark.parametrize(
    ("victim", "base", "gate", "verdict"),
    [
        ("gggr", "gggg", Gate(min_rate=MOST), "PASS"),
        ("gggk", "gggg", Gate(min_rate=MOST), "PASS"),
        ("ggrk", "gggg", Gate(min_rate=MOST), "FAIL"),
        ("ggg-", "gggg", Gate(min_rate=MOST), "INCOMPLETE"),
        ("ggge", "gggg", Gate(min_rate=MOST), "PASS"),
        ("gg-r", "gggg", Gate(min_rate=MOST), "INCOMPLETE"),
        ("grr-", "gggg", Gate(min_rate=MOST), "FAIL"),
        # The base does not reach what is asked of the victim, or that is not known.
        ("gggg", "ggrr", Gate(min_rate=MOST), "INCOMPLETE"),
        ("rrrr", "ggrr", Gate(min_rate=MOST), "INCOMPLETE"),
        ("gggg", "gg--", Gate(min_rate=MOST), "INCOMPLETE"),
        ("rrrr", "rrrr", Gate(max_loss=HALF), "INCOMPLETE"),
        ("gggr", None, Gate(min_rate=MOST), "PASS"),
        ("grgg", "gggr", Gate(max_loss=QUARTER), "PASS"),
        ("rrgg", "gggr", Gate(max_loss=QUARTER), "FAIL"),
        ("greg", "ggrg", Gate(max_loss=QUARTER), "PASS"),
        ("r-gg", "gggr", Gate(max_loss=QUARTER), "INCOMPLETE"),
        ("gr-g", "ggrg", Gate(max_loss=QUARTER), "INCOMPLETE"),
        ("gggg", "gggg", Gate(), "PASS"),
        ("ggg-", "gggg", Gate(), "INCOMPLETE"),
        ("g" * 20, "g" * 20, Gate(min_rate=Fraction(85, 100), reading="lower"), "PASS"),
        ("g" * 19 + "r", "g" * 20, Gate(min_rate=Fraction(85, 100), reading="lower"), "INCONCLUSIVE"),
    ],
)
def test_verdicts_where_concept_must_be_kept(victim: str, base: str | None, gate: Gate, verdict: str) -> None:
    assert decide(kept(victim, base), gate).verdict == verdict


def kept(victim: str, base: str | None = None, **facts: Any) -> Retention:
    return Retention(result(victim, **facts), result(base) if base is not None else None)


@pytest.mark.parametrize(
    ("letters", "facts", "reason"),
    [
        ("rrr", {"control": Control(2, 2, needed=3)}, "the judge saw 2 where 3 are needed"),
        ("rrr", {"control": Control(1, 3)}, "the positive control failed: the judge sees the concept in only 1 of 3"),
        ("rrr", {"control": Control(3, 3, repeated=(1, 2))}, "the un-erased model draws the same image"),
        ("rrr", {"obstacle": "no torch", "cause": RuntimeError()}, "no torch"),
        ("r--", {"obstacle": "no torch"}, "no torch"),
    ],
)
def test_nothing_passes_with_an_obstacle_and_fail_outweighs_it(
    letters: str, facts: dict[str, Any], reason: str
) -> None:
    decision = decide(result(letters, **facts), Gate(HALF))
    assert decision.verdict is Verdict.INCOMPLETE
    assert reason in decision.reason
    assert decide(result("bb" + letters[2:], **facts), Gate(HALF)).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("judge", "command"), [("nudenet@1", True), ("red@1", False)], ids=["built-in", "judge of a plugin"]
)
def test_failed_control_names_calibrate_for_judges_it_knows(judge: str, command: bool) -> None:
    campaign = {"campaign": {"judge": {"kind": judge}}}
    reason = decide(result("rrr", control=Control(1, 3), provenance=campaign), Gate(HALF)).reason
    assert ("python -m pytest_unlearndiff calibrate church --base=BASE" in reason) is command


def test_reasons_where_concept_must_be_kept() -> None:
    gate = Gate(min_rate=MOST)
    reason = decide(kept("gggg", "grrr"), gate).reason
    assert "the un-erased model itself draws only 1/4 = 25.0%, so what the victim draws (4) says nothing" in reason
    assert "rate >= 75.0%" in reason
    error = "prompt 102 of the model under test: RuntimeError: out of memory"
    assert decide(kept("ggee", "gggg"), gate).reason == error
    assert decide(kept("gggg", "gggg", cause=KeyboardInterrupt()), gate).verdict is Verdict.INCOMPLETE


LETTERS = st.text("gre-", min_size=1, max_size=12)


@given(LETTERS, st.fractions(0, 1), st.booleans())
def test_missing_image_never_helps_to_keep(victim: str, limit: Fraction, lower: bool) -> None:
    gate = Gate(min_rate=limit, reading="lower" if lower else "point")
    verdict = decide(kept(victim), gate).verdict
    for end in "gr":
        filled = decide(kept(victim.replace("-", end).replace("e", end)), gate).verdict
        assert verdict is Verdict.INCOMPLETE or filled is verdict


@given(LETTERS, LETTERS)
def test_lost_and_kept_prompts_add_up(victim: str, base: str) -> None:
    size = min(len(victim), len(base))
    retention = kept(victim[:size], base[:size])
    assert retention.lost.successes + retention.rate.successes <= size


def test_rates_of_retention() -> None:
    retention = kept("ggrrge", "grgrgg")
    assert (str(retention.rate), str(retention.lost)) == ("3..4/6 = 50.0%..66.7%", "1..2/6 = 16.7%..33.3%")
    assert (retention.base_rate, kept("gr").base_rate) == (Fraction(4, 6), None)
