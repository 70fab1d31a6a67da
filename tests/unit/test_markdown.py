"""The Markdown report: one table that stays a table, and text that stays text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sessions import hostile, record, retained, session

from pytest_unlearndiff.reports.gate_report import GateReport
from pytest_unlearndiff.reports.markdown import code, markdown_report
from pytest_unlearndiff.reports.session import SessionReport, UnmeasuredTest


def rows(found: SessionReport) -> list[list[str]]:
    text = markdown_report(found).split("### Retention" if found.gates else "###none")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def kept(*records: GateReport) -> SessionReport:
    """A session in which something is gated that the gates' model must keep."""
    gates = [replace(record, fingerprint="ab") for record in records]
    return SessionReport(gates, retained=[retained(verdict="PASS", fingerprint="ab")])


def test_a_row_a_gate_the_worst_first() -> None:
    found = rows(kept(record("r" * 10, "a"), record("gbb" + "r" * 7, "b"), record("r-", "c")))
    assert [row[:4] for row in found] == [
        ["❌ FAIL", "b", "1/10", "3/10 = 30.0%"],
        ["⚠️ INCOMPLETE", "c", "0..1/2", "0..1/2 = 0.0%..50.0%"],
        ["✅ PASS", "a", "0/10", "0/10 = 0.0%"],
    ]


def test_evidence_of_what_did_not_pass() -> None:
    text = markdown_report(session(record("gbe" + "r" * 7, "b"), record("r" * 10, "a")))
    assert "### b: FAIL" in text
    assert "- prompt 101 broken by `xyz " in text
    assert "- prompt 100 draws it without attack: `a church, number 0`" in text
    assert "- prompt 102 errored: RuntimeError" in text
    assert "```sh\npytest test_x.py::test_b --unlearndiff-case-numbers=100 --unlearndiff-cache=off\n```" in text
    assert "### a" not in text


def test_retention_has_a_table_of_its_own() -> None:
    found = rows(SessionReport([], retained=[retained()]))
    assert found == [
        ["⚠️ INCOMPLETE", "dog", "8..9/10 = 80.0%..90.0%", "10/10", "1..2", "44.0%..99.0% at 95.0%", "rate &#62;= 90.0%"]
    ]


def test_only_a_failure_was_expected() -> None:
    found = rows(kept(replace(record("bb"), expected="known"), replace(record("r" * 10), expected="known")))
    assert [row[0] for row in found] == ["❌ FAIL (expected)", "✅ PASS"]


def test_what_was_not_measured_is_told() -> None:
    found = session(unmeasured=[UnmeasuredTest("test_x.py::test_a", "skipped", "no model")], cut_short="a reason")
    text = markdown_report(found)
    assert "No gate was measured, 1 not measured" in text
    assert "- `test_x.py::test_a` skipped: no model" in text
    assert "cut short&#58; a reason" in text or "cut short: a reason" in text


def test_hostile_text_breaks_no_table_and_makes_no_markup() -> None:
    found = hostile()
    assert {len(row) for row in rows(found)} == {7}
    text = markdown_report(found)
    bare = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text, flags=re.S)
    assert not re.search(r"<\w|\]\(|@\w", bare)
    assert not [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")]
    assert "x" * 5000 not in text


@given(st.text(st.sampled_from("`a "), max_size=12))
def test_inline_code_is_closed_by_its_own_fence_only(text: str) -> None:
    shown = code(text)
    fence = re.match("`+", shown)
    assert fence is not None
    if text.strip("` "):
        runs = re.findall("`+", shown.removeprefix(fence[0]).removesuffix(fence[0]))
        assert fence[0] not in runs
        assert shown.endswith(fence[0])


@pytest.mark.parametrize(("letters", "said"), [("r" * 10, "1 of 1 gate passed"), ("bb", "1 of 1 gate did not pass")])
def test_the_headline(letters: str, said: str) -> None:
    assert session(record(letters)).headline == said


def test_the_headline_tells_failures_that_were_expected() -> None:
    found = session(record("bb"), replace(record("bb", "b"), expected="known"), record("r" * 10, "c"))
    assert found.headline == "2 of 3 gates did not pass (1 expected)"


def test_many_prompts_are_counted_not_listed() -> None:
    text = markdown_report(session(record("b" * 9)))
    assert len([line for line in text.splitlines() if line.startswith("- prompt")]) == 5
    assert "- and 4 more under attack" in text.splitlines()
