"""The Markdown report: tables that stay tables, and text that stays text."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sessions import hostile, record, retained, session

from pytest_unlearndiff.core.concept import PromptSetFacts
from pytest_unlearndiff.core.result import STORE_NOTES
from pytest_unlearndiff.reports.markdown import code, markdown_report
from pytest_unlearndiff.reports.session_report import ReportOptions, SessionReport, UnmeasuredTest


def markdown(report: SessionReport) -> str:
    return markdown_report(report, ReportOptions())


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_row_per_gate_the_worst_first() -> None:
    gates = record("r" * 10, "a"), replace(record("gbb" + "r" * 7, "b"), expected_failure="known"), record("r-", "c")
    kept = retained("g" * 8 + "r-", gate=None), retained("gg", "gg", "cat")
    table = rows(markdown(session(*(replace(gate, fingerprint="ab") for gate in (*gates, *kept)))))
    assert [row[:4] for row in table[2:5]] == [
        ["❌ FAIL (expected)", "b", "1/10", "3/10 = 30.0%"],
        ["⚠️ INCOMPLETE", "c", "0..1/2", "0..1/2 = 0.0%..50.0%"],
        ["✅ PASS", "a", "0/10", "0/10 = 0.0%"],
    ]
    assert table[5] == ["verdict", "retained", "victim draws", "base draws", "lost", "interval", "gate"]
    incomplete = ["⚠️ INCOMPLETE", "dog", "8..9/10 = 80.0%..90.0%", "10/10", "1..2", "44.4%..99.7% at 95.0%"]
    assert table[7] == [*incomplete, "rate &#62;= 90.0%"]
    assert table[8][:2] == ["✅ PASS", "cat"]


def test_note_of_several_gates_stands_once() -> None:
    gates = [record(letters, provenance={STORE_NOTES: ["the store is odd"]}) for letters in ("rr", "br")]
    assert markdown(session(*gates)).count("the store is odd") == 1


def test_evidence_of_gates_that_did_not_pass() -> None:
    text = markdown(session(record("gbe" + "r" * 7, "b"), record("r" * 10, "a"), retained("rr", "gg")))
    for line in (
        "### b: FAIL",
        "- prompt 100 draws it without attack: `a church, number 0` (judge saw )",
        "- prompt 102 errored: RuntimeError&#58; out of memory",
        "### dog: FAIL",
        "- prompt 100 not drawn: `a church, number 0` (judge saw )",
    ):
        assert line in text.splitlines()
    assert "- prompt 101 broken by `xyz " in text
    assert "```sh\npytest 'test_x.py::test_it[a b]' '--unlearndiff-model=my model.pt' --unlearn" in text
    assert "### a" not in text
    assert "- and 4 more under attack" in markdown(session(record("b" * 9))).splitlines()


def test_what_was_not_tested_is_listed() -> None:
    text = markdown(session(record("r" * 5, "tench", attack="none"), record("r" * 5)))
    assert "### Not tested\n\n- Nothing gates what" in text
    assert "- Not attacked&#58; tench. Prompts were drawn as they stand" in text
    assert "- A pass says little for church, tench&#58; without a base" in text
    assert "### Not tested" not in markdown(session())


def test_prompts_that_a_gate_left_are_told() -> None:
    facts = PromptSetFacts(rows=50, left_out=("fish.csv:3: no prompt",))
    note = "- 5 of the 49 prompts of tench are gated; nobody tested the others."
    assert note in markdown(session(replace(record("r" * 5, "tench"), prompt_set=facts)))
    assert "nobody tested the others" not in markdown(session(replace(record("r" * 49), prompt_set=facts)))


def test_tests_that_were_not_measured_are_listed() -> None:
    tests = [UnmeasuredTest("test_x.py::test_a", "skipped", "no model")]
    report = SessionReport(gates=[], unmeasured=tests, failed_otherwise=tests, run={"cut_short": "a reason"})
    text = markdown(report)
    assert "- `test_x.py::test_a` skipped: no model" in text
    assert "### Tests that failed otherwise\n\n- `test_x.py::test_a`: no model" in text
    assert "**The session was cut short: a reason**" in text


def test_hostile_text_breaks_no_table_and_makes_no_markup() -> None:
    text = markdown(hostile())
    assert {len(row) for row in rows(text)} == {7}
    bare = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text, flags=re.S)
    assert not re.search(r"<\w|\]\(|@\w", bare)


@given(st.text(st.sampled_from("`a "), max_size=12))
def test_inline_code_is_closed_by_its_own_fence_only(text: str) -> None:
    inline = code(text)
    fence = re.match("`+", inline)
    assert fence is not None
    if text.strip("` "):
        runs = re.findall("`+", inline.removeprefix(fence[0]).removesuffix(fence[0]))
        assert fence[0] not in runs
        assert inline.endswith(fence[0])
