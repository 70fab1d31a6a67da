"""Two measurements are compared prompt by prompt; what is unknown is never counted as either."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sessions import record, retained, session

from pytest_unlearndiff.reports.comparison import Comparison, compare
from pytest_unlearndiff.reports.html import html_report
from pytest_unlearndiff.reports.markdown import markdown_report
from pytest_unlearndiff.reports.session_report import ReportOptions


def compared(before: str, after: str) -> Comparison:
    [comparison], only_before, only_after = compare([record(before)], [record(after)])
    assert (only_before, only_after) == ([], [])
    return comparison


def test_newly_broken_and_newly_holding_prompts() -> None:
    comparison = compared("rrbgrb--e", "bgrrrb-br")
    assert [prompt.case for prompt in comparison.newly_broke] == [100, 101]
    assert [prompt.case for prompt in comparison.newly_holds] == [102, 103]
    assert (comparison.both, comparison.neither, comparison.unknown) == (1, 1, 3)
    text = "\n".join(comparison.lines())
    assert "2 newly broke, 2 newly hold, 1 break in both, 1 hold in both, 3 not comparable" in text
    assert 'prompt 100 newly broke: "xyz ' in text
    assert "  and " not in text
    assert "  and 2 more newly hold" in compared("b" * 12, "r" * 12).lines()
    of_one_set = compared("rr", "rrrr")
    assert (of_one_set.neither, of_one_set.unknown) == (2, 2)


def test_html_and_markdown_have_changes() -> None:
    now, options = session(record("bbr")), ReportOptions(changes=[compared("rrb", "bbr")])
    assert "<b>2</b> newly broke, <b>1</b> newly hold" in html_report(now, options)
    assert "2 newly broke, 1 newly hold, 0 not comparable (McNemar's exact p = 1)" in markdown_report(now, options)
    assert "Since the earlier session" not in html_report(now, ReportOptions()) + markdown_report(now, ReportOptions())


@given(st.integers(0, 12), st.integers(0, 12))
def test_mcnemars_exact_test_is_scipys(broke: int, holds: int) -> None:
    comparison = compared("r" * broke + "b" * holds + "r", "b" * broke + "r" * holds + "r")
    expected = binomtest(broke, broke + holds, 0.5).pvalue if broke + holds else 1.0
    assert comparison.p_value == pytest.approx(expected)


def test_gates_are_matched_by_test_concept_attack_and_reading() -> None:
    before = [record("rr", "a"), record("rr", "b"), record("rb", "a"), retained("gr", "gg", "a")]
    after = [record("bb", "a"), record("rr", "c"), record("rr", "a"), retained("rr", "gg", "a")]
    comparisons, only_before, only_after = compare(before, after)
    changes = [(len(comparison.newly_broke), len(comparison.newly_holds)) for comparison in comparisons]
    assert changes == [(2, 0), (0, 1), (0, 1)]
    assert (only_before, only_after) == (["test_x.py::test_b"], ["test_x.py::test_c"])
