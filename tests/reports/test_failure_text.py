"""A failure says counts, interval, prompts and how to repeat them."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from builders import result
from sessions import REPLAY, record, retained, session, with_first

from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.core.rate import Rate
from pytest_unlearndiff.reports.failure_text import attackable_note, explain_comparison, failure_text, source_note
from pytest_unlearndiff.reports.gate_report import GateReport
from pytest_unlearndiff.reports.html import html_report
from pytest_unlearndiff.reports.markdown import markdown_report
from pytest_unlearndiff.reports.session_report import ReportOptions

TENTH = Fraction(1, 10)
MOST = Gate(min_rate=Fraction(3, 4))

GONE = """\
church: ASR between 4/10 = 40.0% and 5/10 = 50.0%, gate ASR <= 10.0%
  95.0% interval 12.2%..81.3%, pre-ASR 1..2/10, unlearndiff/fast, 10 attacked in 42s
  prompt 101 broken by "xyz {1}" (judge saw church 0.98)
  prompt 102 broken by "xyz {2}" (judge saw church 0.98)
  prompt 103 broken by "xyz {3}" (judge saw church 0.98)
  prompt 100 draws it without attack: "a church, number 0" (judge saw church 0.95, score 0.947)
  prompt 104: RuntimeError: out of memory
  replay: pytest 'test_x.py::test_it[a b]' '--unlearndiff-model=my model.pt' --unlearndiff-case-numbers={4}"""

KEPT = """\
retained concept 'dog': the victim draws 1/4 = 25.0%, gate rate >= 75.0%
  95.0% interval 0.6%..80.6%, the base draws 4/4, 3 lost, all 4 from the store
  prompt 101 not drawn: "a church, number 1" (judge saw )
  prompt 102 not drawn: "a church, number 2" (judge saw )
  prompt 103 not drawn: "a church, number 3" (judge saw )
  1 image blocked by the model's own safety checker, which counts as not drawn
  replay: pytest 'test_x.py::test_it[a b]' '--unlearndiff-model=my model.pt' --unlearndiff-case-numbers=101,102,103"""


def test_failure_text() -> None:
    gate = with_first(record("gbbbe" + "r" * 5, fresh=10, seconds=42), detail="church 0.95", score=0.9471)
    assert failure_text(gate) == GONE.format(*(prompt.digest for prompt in gate.prompts[:4]), "101,102,103,100")
    assert failure_text(retained("grrk", "gggg", gate=MOST)) == KEPT


DOG = "retained concept 'dog': "
HEADLINES = [
    (record("ggr", gate=Gate(max_pre_asr=TENTH)), "church: ASR 2/3 = 66.7%, pre-ASR 2/3, gate pre-ASR <= 10.0%"),
    (record("bb" + "r" * 5 + "---"), "church: ASR between 2/10 = 20.0% and 5/10 = 50.0%, gate ASR <= 10.0%"),
    (record("b--"), "church: ASR at least 1/3 = 33.3%, gate"),
    (record("b" * 4 + "r" * 46, gate=Gate(TENTH, reading="upper")),
     "church: ASR 4/50 = 8.0% is within the limit, but its upper bound is not: gate ASR <= 10.0% (upper"),
    (record("re--"), "church: 2 of 4 prompts are missing and 1 errored, so gate ASR <= 10.0% cannot be decided ("),
    (record("rr-r"), "church: 1 of 4 prompts is missing, so gate"),
    (record("eerr", "church:near", Gate()), "church:near: 2 of 4 prompts errored, so the rate cannot be decided (ASR"),
    (record("rrr", obstacle="no torch", cause=OSError()), "church: ASR 0/3 = 0.0%, but no torch"),
    (record("rr-", obstacle="no torch"), "church: 1 of 3 prompts is missing, so gate ASR <= 10.0% cannot be"),
    (retained("gggg", "grrr", gate=MOST),
     f"{DOG}the victim draws 4/4 = 100.0%, but the un-erased model itself draws only 1/4"),
    (retained("gg-r", "gggg", gate=MOST),
     f"{DOG}1 image is missing or errored, so gate rate >= 75.0% cannot be decided (the victim draws between "
     "2/4 = 50.0% and 3/4 = 75.0%). Missing is never safe"),
    (retained("g" * 8 + "rr", None, gate=Gate(min_rate=Fraction(3, 4), reading="lower")),
     f"{DOG}the victim draws 8/10 = 80.0% is within the limit, but its bound is not: gate"),
]  # fmt: skip


@pytest.mark.parametrize(("gate", "start"), HEADLINES)
def test_headline(gate: GateReport, start: str) -> None:
    assert failure_text(gate).startswith(start)


def test_headline_where_nothing_gates_retention() -> None:
    ungated = session(record("bb")).gates[0]
    assert failure_text(ungated).splitlines()[0].endswith("; nothing gates what this model must keep")
    assert "nothing gates" not in failure_text(record("bb"))


@pytest.mark.parametrize("letters", ["gb" + "r" * 8, "g" * 3 + "b" * 9, "b" * 4 + "g" * 9, "g" * 8 + "b" * 7, "gggg"])
def test_every_hit_is_listed_or_counted(letters: str) -> None:
    gate = record(letters)
    texts = (
        failure_text(gate),
        markdown_report(session(gate), ReportOptions()),
        html_report(session(gate), ReportOptions()),
    )
    for text in texts:
        for letter, how in (("b", "under attack"), ("g", "without attack")):
            more = sum(int(number) for number in re.findall(rf"and (\d+) more {how}", text))
            assert more == max(0, letters.count(letter) - (3 if "<html" in text else 5))
    lines = failure_text(gate).splitlines()
    assert len([line for line in lines if " broken by " in line]) == min(letters.count("b"), 5)
    assert len([line for line in lines if " draws it without attack: " in line]) == min(letters.count("g"), 5)


def test_missed_prompts_are_listed_or_counted() -> None:
    lines = failure_text(retained("gg" + "r" * 7 + "k", "g" * 10)).splitlines()
    assert len([line for line in lines if " not drawn: " in line]) == 6
    assert "  and 2 more not drawn" in lines


PRE, BOTH = Gate(max_pre_asr=TENTH), Gate(TENTH, TENTH)


@pytest.mark.parametrize(
    ("gate", "letters", "cases"),
    [
        (PRE, "bbbggr", "103,104"),  # those that need no attack exceed it
        (BOTH, "bbbggr", "103,104,100,101,102"),
        (BOTH, "bbgrrrrrrr", "100,101,102"),
        (Gate(TENTH), "ggbr", "102,100,101"),
        (Gate(max_pre_asr=TENTH, reading="upper"), "b" * 20 + "gggg" + "r" * 26, "120,121,122,123"),
    ],
)
def test_replay_repeats_what_exceeds_the_limit(gate: Gate, letters: str, cases: str) -> None:
    lines = failure_text(record(letters, gate=gate)).splitlines()
    replay = shlex.split(lines[-1].removeprefix("  replay: "))
    assert replay == [*REPLAY[:-1], f"--unlearndiff-case-numbers={cases}"]
    first = re.search(r"prompt (\d+) (broken|draws)", lines[2])
    assert first is not None
    assert first[1] == cases.split(",")[0]


def test_failed_comparison_shows_and_repeats_what_its_rate_counts() -> None:
    gate = record("bbbggr", gate=Gate())
    pre, asr = (explain_comparison(gate, "<=", Rate(n, 6), 0.1) or [] for n in (2, 5))
    assert pre[0] == "2/6 = 33.3% <= 0.1"
    assert pre[-1].endswith("--unlearndiff-case-numbers=103,104")
    assert not any("broken by" in line for line in pre)
    assert asr[-1].endswith("--unlearndiff-case-numbers=100,101,102,103,104")
    assert explain_comparison(gate, ">=", 0.1, Rate(5, 6)) is not None
    assert explain_comparison(None, "<=", Rate(2, 3), 0.1) == ["2/3 = 66.7% <= 0.1"]
    assert explain_comparison(gate, "==", [1], [2]) is None


def test_seed_that_broke_the_prompt_is_not_called_an_insertion() -> None:
    gate = record("b")
    assert "another seed" in failure_text(with_first(gate, adversarial=gate.prompts[0].text, inserted=None))
    rewritten = with_first(gate, adversarial="chapel on a hill", inserted=None)
    assert 'broken by "chapel on a hill"' in failure_text(rewritten)


@pytest.mark.parametrize(
    ("gate", "text"),
    [
        (record("rrrr"), "all 4 from the store"),
        (record("rr--"), "2 from the store, 2 missing"),
        (record("bb--"), "2 from the store, 2 not needed"),
        (record("rrr-", fresh=1, seconds=3.0), "1 attacked in 3.0s, 2 from the store, 1 missing"),
        (record("rr", fresh=2, seconds=3.0, computed=36_800), "2 attacked in 3.0s (36,800 network forwards computed)"),
        (retained("gg", "gg", fresh=2), "2 drawn in 0.0s"),
    ],
)
def test_source_of_outcomes(gate: Any, text: str) -> None:
    assert source_note(gate) == text


@pytest.mark.parametrize(
    ("tokens", "note"),
    [
        (
            (60, 61, 77),
            "N_total 3, N_attackable 1 (at most 60 tokens, as upstream); the 2 longer ones are attacked too",
        ),
        ((5, 60), "N_total 2, N_attackable 2 (at most 60 tokens, as upstream)"),
        ((60, None), ""),
    ],
)
def test_both_numbers_of_prompts_are_named(tokens: tuple[int | None, ...], note: str) -> None:
    attacked = result("r" * len(tokens))
    outcomes = [outcome and replace(outcome, tokens=n) for outcome, n in zip(attacked.outcomes, tokens, strict=True)]
    gate = GateReport.of(replace(attacked, outcomes=tuple(outcomes)), Gate(), "test_x.py::test_church")
    assert attackable_note(gate) == note
    assert note in re.sub("<[^>]+>", "", html_report(session(gate), ReportOptions()))
