"""What was kept: paired counts, and verdicts that no missing image can make look safer."""

from __future__ import annotations

from fractions import Fraction

import pytest
from builders import result
from hypothesis import strategies as st

from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.core.result import Retention
from pytest_unlearndiff.reports.retention import RetentionReport, retention_lines, retention_text

# g: drawn, r: not drawn, e: errored, -: missing.
letters = st.text("gre-", min_size=1, max_size=12)
HALF = Fraction(1, 2)


def kept(victim: str, base: str | None = None) -> Retention:
    return Retention(result(victim), result(base) if base is not None else None)


def record(victim: str, base: str | None, gate: Gate) -> RetentionReport:
    found = RetentionReport.of(kept(victim, base), gate, "test_x.py::test_kept")
    assert RetentionReport.from_wire(found.to_wire()) == found
    return found


@pytest.mark.parametrize(
    ("victim", "base", "says"),
    [
        ("grrr", "gggg", "the victim draws 1/4 = 25.0%, but the gate wants rate >= 75.0%"),
        (
            "gggg",
            "grrr",
            "the un-erased model itself draws only 1/4 = 25.0%, so what the victim draws (4) says nothing",
        ),
        ("gg-r", "gggg", "1 image is missing or errored, so the gate cannot be decided (the victim draws between 2"),
    ],
)
def test_failures_say_why(victim: str, base: str, says: str) -> None:
    text = retention_text(record(victim, base, Gate(min_rate=Fraction(3, 4))))
    assert says in text
    assert "prompt 103 not drawn" in text or victim[-1] == "g"


@pytest.mark.parametrize(("victim", "more"), [("g" + "r" * 9, 4), ("g" * 5 + "r" * 5, 0), ("gg" + "r" * 6 + "-e", 1)])
def test_a_list_of_missed_prompts_that_is_cut_says_so(victim: str, more: int) -> None:
    lines = retention_text(record(victim, "g" * 10, Gate(min_rate=Fraction(9, 10)))).splitlines()
    assert len([line for line in lines if " not drawn: " in line]) == 5
    assert [line for line in lines if line.startswith("  and ")] == [f"  and {more} more not drawn"] * bool(more)


def test_the_table() -> None:
    gate = Gate(min_rate=Fraction(3, 4))
    records = [record("gggr", "gggg", gate), record("grrr", None, gate), record("gggg", "gggg", Gate())]
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
