"""A failure says counts, interval, prompts and how to repeat them, whatever the prompts try."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from builders import result
from sessions import session

from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.core.rate import Rate
from pytest_unlearndiff.reports.failure import explain_comparison, failure_text, source
from pytest_unlearndiff.reports.gate_report import GateReport
from pytest_unlearndiff.reports.html_report import html_report
from pytest_unlearndiff.reports.markdown import markdown_report

REPLAY = ["pytest", "test_x.py::test_it[a b]", "--unlearndiff-model=my model.pt", "--unlearndiff-case-numbers=100,101"]


def record(letters: str, gate: Gate | None = None, fresh: int = 0, seconds: float = 0.0) -> GateReport:
    found = result(letters, fresh=fresh, seconds=seconds)
    return GateReport.of(found, gate or Gate(Fraction(1, 10)), "test_x.py::test_it", REPLAY)


def with_first(found: GateReport, **facts: Any) -> GateReport:
    """The record with other facts about its first prompt."""
    return replace(found, prompts=[replace(found.prompts[0], **facts), *found.prompts[1:]])


def test_a_failure_says_it_all() -> None:
    text = failure_text(record("gbbb" + "r" * 6, fresh=10, seconds=42))
    assert "ASR 4/10 = 40.0%" in text
    assert "ASR <= 10.0%" in text
    assert "pre-ASR 1/10" in text
    assert "95.0% interval 12.2%..73.8%" in text  # Clopper and Pearson's for 4 of 10
    assert "unlearndiff/fast" in text
    assert "prompt 101 broken by" in text
    assert "church 0.98" in text
    assert "42s" in text


def test_the_replay_command_can_be_pasted() -> None:
    line = failure_text(record("bb")).splitlines()[-1]
    assert shlex.split(line.removeprefix("  replay: ")) == REPLAY


def test_a_failed_pre_limit_is_told_with_its_count() -> None:
    text = failure_text(record("ggr", Gate(max_pre_asr=Fraction(1, 10))))
    assert "pre-ASR 2/3" in text
    assert "pre-ASR <= 10.0%" in text


def test_many_broken_prompts_are_counted_not_listed() -> None:
    text = failure_text(record("b" * 12))
    assert text.count("broken by") == 5
    assert "  and 7 more under attack" in text.splitlines()
    assert "more" not in failure_text(record("b" * 5))


def test_incomplete_says_what_is_missing_and_why() -> None:
    text = failure_text(record("re--" + "r" * 6))
    assert "2 of 10 prompts are missing and 1 errored" in text
    assert "Missing is never safe" in text
    assert "prompt 101: RuntimeError: out of memory" in text


@pytest.mark.parametrize(
    ("letters", "said"),
    [
        ("re--", "2 of 4 prompts are missing and 1 errored"),
        ("rr-r", "1 of 4 prompts is missing"),
        ("eerr", "2 of 4 prompts errored"),
        ("e", "1 of 1 prompt errored"),
        ("-", "1 of 1 prompt is missing"),
    ],
)
def test_what_is_lacking_is_told_as_a_person_would(letters: str, said: str) -> None:
    assert failure_text(record(letters)).startswith(f"church: {said}, so gate ASR <= 10.0% cannot be decided (ASR ")
    assert failure_text(record(letters, Gate())).startswith(f"church: {said}, so the rate cannot be decided (ASR ")


def test_a_decided_gate_with_prompts_missing_gives_a_range() -> None:
    text = failure_text(record("bb" + "r" * 5 + "-" * 3))
    assert "ASR between 2/10 = 20.0% and 5/10 = 50.0%, gate ASR <= 10.0%" in text
    assert "3 not needed" in text
    assert "pre-ASR 0..3/10" in text
    assert "ASR at least 1/3 = 33.3%" in failure_text(record("b--"))


def test_prompts_that_need_no_attack_are_named_too_and_marked() -> None:
    found = record("gg" + "r" * 8)
    text = failure_text(with_first(found, detail="church 0.95", score=0.9471))
    assert 'prompt 100 draws it without attack: "a church, number 0" (judge saw church 0.95, score 0.947)' in text
    assert "prompt 101 draws it" in text


@pytest.mark.parametrize("letters", ["gb" + "r" * 8, "g" * 3 + "b" * 9, "b" * 4 + "g" * 9, "g" * 8 + "b" * 7, "gggg"])
def test_evidence_accounts_for_every_hit_that_the_headline_counts(letters: str) -> None:
    """In the failure, in Markdown and in HTML: listed, or told as more of its kind."""
    found = record(letters)
    for text in (failure_text(found), markdown_report(session(found)), html_report(session(found), None)):
        for kind, listed in (("b", "under attack"), ("g", "without attack")):
            more = sum(int(number) for number in re.findall(rf"and (\d+) more {listed}", text))
            assert more == max(0, letters.count(kind) - (3 if "<html" in text else 5))
    lines = failure_text(found).splitlines()
    assert len([line for line in lines if " broken by " in line]) == min(letters.count("b"), 5)
    assert len([line for line in lines if " draws it without attack: " in line]) == min(letters.count("g"), 5)


PRE = Gate(max_pre_asr=Fraction(1, 10))
BOTH = Gate(Fraction(1, 10), Fraction(1, 10))


@pytest.mark.parametrize(
    ("gate", "letters", "cases"),
    [
        (PRE, "bbbggr", "103,104"),  # those that need no attack exceed it
        (BOTH, "bbbggr", "103,104,100,101,102"),
        (BOTH, "bbgrrrrrrr", "100,101,102"),
        (Gate(Fraction(9, 10), Fraction(1, 10)), "bbbggr", "103,104"),
        (Gate(Fraction(1, 10)), "ggbr", "102,100,101"),
        (Gate(max_pre_asr=Fraction(1, 10), reading="upper"), "b" * 20 + "gggg" + "r" * 26, "120,121,122,123"),
    ],
)
def test_a_replay_repeats_what_exceeds_the_limit(gate: Gate, letters: str, cases: str) -> None:
    text = failure_text(record(letters, gate))
    assert text.splitlines()[-1].endswith(f"--unlearndiff-case-numbers={cases}")
    first = re.search(r"prompt (\d+) (broken|draws)", text)
    assert first is not None
    assert first[1] == cases.split(",")[0]


def test_a_failed_comparison_shows_and_repeats_what_its_rate_counts() -> None:
    found = record("bbbggr", Gate())
    pre, asr = ("\n".join(explain_comparison(found, "<=", Rate(n, 6), 0.1) or []) for n in (2, 5))
    assert pre.splitlines()[-1].endswith("--unlearndiff-case-numbers=103,104")
    assert "broken by" not in pre
    assert asr.splitlines()[-1].endswith("--unlearndiff-case-numbers=100,101,102,103,104")
    assert asr.count("broken by") + asr.count("draws it") == 5


def test_inconclusive_says_that_the_bound_is_above() -> None:
    text = failure_text(record("b" * 4 + "r" * 46, Gate(Fraction(1, 10), reading="upper")))
    assert "ASR 4/50 = 8.0% is within the limit, but its upper bound is not" in text


@pytest.mark.parametrize(
    "hostile",
    ["\x1b[2J\x1b[32m1 passed\x1b[0m", "a\nPASSED\rb", "a\u202eb\u2066c", "\x9b31m", "x\x00y", "a\u2028PASSED\u2029b"],
)
def test_attacker_made_text_cannot_draw_on_the_terminal(hostile: str) -> None:
    plain = record("be" + "r" * 8, Gate(Fraction(0)))
    found = with_first(plain, adversarial=hostile, inserted=hostile, detail=hostile, error=hostile)
    text = failure_text(found)
    assert all(char.isprintable() for char in text.replace("\n", ""))
    assert len(text.splitlines()) == len(failure_text(plain).splitlines())


def test_endless_text_is_cut() -> None:
    plain = record("b")
    assert len(failure_text(with_first(plain, adversarial="x" * 10_000, detail="y" * 10_000))) < 2_000
    assert len(failure_text(with_first(record("e"), error="z" * 10_000))) < 2_000


def test_a_seed_that_broke_the_prompt_is_not_called_an_insertion() -> None:
    plain = record("b")
    assert "another seed" in failure_text(with_first(plain, adversarial=plain.prompts[0].text, inserted=None))


@pytest.mark.parametrize(
    ("letters", "fresh", "text"),
    [
        ("rrrr", 0, "all 4 from the store"),
        ("rr--", 0, "2 from the store, 2 missing"),
        ("rrrr", 4, "4 attacked in 3.0s"),
        ("rrrr", 1, "1 attacked in 3.0s, 3 from the store"),
        ("rrr-", 1, "1 attacked in 3.0s, 2 from the store, 1 missing"),
    ],
)
def test_where_outcomes_came_from(letters: str, fresh: int, text: str) -> None:
    assert source(record(letters, fresh=fresh, seconds=3.0)) == text


def test_what_a_session_computed_stands_beside_its_time() -> None:
    found = replace(record("rrrr", fresh=4, seconds=3.0), computed=36_800)
    assert source(found) == "4 attacked in 3.0s (36,800 UNet forwards computed)"


def test_a_failed_comparison_of_a_rate_shows_counts_and_evidence() -> None:
    lines = explain_comparison(record("bbr"), "<=", Rate(2, 3), 0.1)
    assert lines is not None
    assert lines[0] == "2/3 = 66.7% <= 0.1"
    assert any("broken by" in line for line in lines)
    assert explain_comparison(record("bbr"), ">=", 0.1, Rate(2, 3)) is not None
    assert explain_comparison(None, "<=", Rate(2, 3), 0.1) == ["2/3 = 66.7% <= 0.1"]


def test_other_comparisons_are_left_alone() -> None:
    assert explain_comparison(record("bbr"), "==", [1], [2]) is None


def test_a_rewritten_prompt_without_marked_tokens_is_shown_as_what_broke_it() -> None:
    text = failure_text(with_first(record("b"), adversarial="chapel on a hill", inserted=None))
    assert 'broken by "chapel on a hill"' in text
