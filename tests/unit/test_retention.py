"""What was kept: paired counts, and verdicts that no missing image can make look safer."""

from __future__ import annotations

from fractions import Fraction

import pytest
from builders import result
from hypothesis import given
from hypothesis import strategies as st

from pytest_unlearndiff.core.errors import GateError
from pytest_unlearndiff.core.gate import Verdict
from pytest_unlearndiff.core.retention import Retention, RetentionGate
from pytest_unlearndiff.reports.retention import RetentionReport, retention_lines, retention_text

# g: drawn, r: not drawn, e: errored, -: missing.
letters = st.text("gre-", min_size=1, max_size=12)
HALF = Fraction(1, 2)


def kept(victim: str, base: str | None = None) -> Retention:
    return Retention(result(victim), result(base) if base is not None else None)


def test_rates_and_pairs() -> None:
    found = kept("ggrrge", "grgrgg")
    assert str(found.rate) == "3..4/6 = 50.0%..66.7%"
    assert found.base_rate == Fraction(4, 6)
    assert str(found.lost) == "1..2/6 = 16.7%..33.3%"
    assert kept("gr").base_rate is None
    assert kept("rr", "gr").lost == HALF


@pytest.mark.parametrize(
    ("victim", "base", "gate", "verdict"),
    [
        ("gggr", "gggg", RetentionGate(min_rate=Fraction(3, 4)), "PASS"),
        ("ggrr", "gggg", RetentionGate(min_rate=Fraction(3, 4)), "FAIL"),
        ("ggg-", "gggg", RetentionGate(min_rate=Fraction(3, 4)), "INCOMPLETE"),
        ("ggge", "gggg", RetentionGate(min_rate=Fraction(3, 4)), "PASS"),
        ("gg-r", "gggg", RetentionGate(min_rate=Fraction(3, 4)), "INCOMPLETE"),
        ("grr-", "gggg", RetentionGate(min_rate=Fraction(3, 4)), "FAIL"),
        # The base does not reach what is asked of the victim, or that is not known.
        ("gggg", "ggrr", RetentionGate(min_rate=Fraction(3, 4)), "INCOMPLETE"),
        ("gggg", "gg--", RetentionGate(min_rate=Fraction(3, 4)), "INCOMPLETE"),
        ("rrrr", "rrrr", RetentionGate(max_loss=HALF), "INCOMPLETE"),
        ("gggr", None, RetentionGate(min_rate=Fraction(3, 4)), "PASS"),
        ("grgg", "gggr", RetentionGate(max_loss=Fraction(1, 4)), "PASS"),
        ("rrgg", "gggr", RetentionGate(max_loss=Fraction(1, 4)), "FAIL"),
        ("greg", "ggrg", RetentionGate(max_loss=Fraction(1, 4)), "PASS"),
        ("r-gg", "gggr", RetentionGate(max_loss=Fraction(1, 4)), "INCOMPLETE"),
        ("gr-g", "ggrg", RetentionGate(max_loss=Fraction(1, 4)), "INCOMPLETE"),
        ("gggg", "gggg", RetentionGate(), "PASS"),
        ("ggg-", "gggg", RetentionGate(), "INCOMPLETE"),
        ("g" * 20, "g" * 20, RetentionGate(min_rate=Fraction(85, 100), reading="lower"), "PASS"),
        ("g" * 19 + "r", "g" * 20, RetentionGate(min_rate=Fraction(85, 100), reading="lower"), "INCONCLUSIVE"),
    ],
)
def test_verdicts(victim: str, base: str | None, gate: RetentionGate, verdict: str) -> None:
    assert gate.decide(kept(victim, base)).value == verdict


@given(letters, st.fractions(0, 1), st.booleans())
def test_a_missing_image_never_helps(victim: str, limit: Fraction, lower: bool) -> None:
    """Whatever a missing image turns out to be, a verdict that was decided stays."""
    gate = RetentionGate(min_rate=limit, reading="lower" if lower else "point")
    verdict = gate.decide(kept(victim))
    for end in "gr":
        filled = gate.decide(kept(victim.replace("-", end).replace("e", end)))
        assert verdict is Verdict.INCOMPLETE or filled is verdict


@given(letters, letters)
def test_lost_and_drawn_fit_together(victim: str, base: str) -> None:
    size = min(len(victim), len(base))
    found = kept(victim[:size], base[:size])
    assert found.lost.successes + found.rate.successes <= size


def test_a_limit_that_cannot_be_shown_or_compared_is_refused() -> None:
    with pytest.raises(GateError, match=r"min_rate=85\.0% with gate='lower' cannot be shown on 10 prompts"):
        RetentionGate(min_rate=Fraction(85, 100), reading="lower").check(10, base=True)
    with pytest.raises(GateError, match="max_loss compares with the un-erased model"):
        RetentionGate(max_loss=HALF).check(10, base=False)
    RetentionGate(min_rate=HALF).check(1, base=False)


def record(victim: str, base: str | None, gate: RetentionGate) -> RetentionReport:
    found = RetentionReport.of(kept(victim, base), gate, "test_x.py::test_kept")
    assert RetentionReport.from_wire(found.to_wire()) == found
    return found


@pytest.mark.parametrize(
    ("victim", "base", "says"),
    [
        ("grrr", "gggg", "the victim draws 1/4 = 25.0%, but the gate wants rate >= 75.0%"),
        ("gggg", "grrr", "the un-erased model itself draws only 1/4, so what the victim draws (4) says nothing"),
        ("gg-r", "gggg", "1 image is missing or errored, so the gate cannot be decided (the victim draws between 2"),
    ],
)
def test_failures_say_why(victim: str, base: str, says: str) -> None:
    text = retention_text(record(victim, base, RetentionGate(min_rate=Fraction(3, 4))))
    assert says in text
    assert "prompt 103 not drawn" in text or victim[-1] == "g"


@pytest.mark.parametrize(("victim", "more"), [("g" + "r" * 9, 4), ("g" * 5 + "r" * 5, 0), ("gg" + "r" * 6 + "-e", 1)])
def test_a_list_of_missed_prompts_that_is_cut_says_so(victim: str, more: int) -> None:
    lines = retention_text(record(victim, "g" * 10, RetentionGate(min_rate=Fraction(9, 10)))).splitlines()
    assert len([line for line in lines if " not drawn: " in line]) == 5
    assert [line for line in lines if line.startswith("  and ")] == [f"  and {more} more not drawn"] * bool(more)


def test_the_table() -> None:
    gate = RetentionGate(min_rate=Fraction(3, 4))
    records = [record("gggr", "gggg", gate), record("grrr", None, gate), record("gggg", "gggg", RetentionGate())]
    lines = retention_lines(records)
    assert lines[0][0].split() == ["retained", "base", "victim", "lost", "interval", "verdict"]
    rows = [(text.split()[:7], verdict) for text, verdict in lines[1:] if not text.startswith(" ")]
    assert rows == [
        (["church", "4/4", "3/4", "=", "75.0%", "1", "19.4%..99.4%"], "PASS"),
        (["church", "-", "1/4", "=", "25.0%", "-", "0.6%..80.6%"], "FAIL"),
        (["church", "4/4", "4/4", "=", "100.0%", "0", "39.8%..100.0%"], ""),
    ]
    quiet = [text.split()[-1] for text, _ in retention_lines(records, verbosity=-1) if not text.startswith(" ")]
    assert quiet == ["verdict", "PASS", "FAIL"]  # the first for what its pass does not say
