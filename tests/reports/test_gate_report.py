"""A gate's report holds what was measured, and travels and is stored unchanged."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import execnet
import msgspec
import pytest
from builders import outcome, prompts
from sessions import TENTH, hostile, record, retained

from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.core.outcome import Status
from pytest_unlearndiff.core.rate import Rate
from pytest_unlearndiff.core.result import Control
from pytest_unlearndiff.reports.gate_report import from_builtins
from pytest_unlearndiff.reports.gate_report_parts import PromptReport


def test_counts_rates_and_run_are_the_results() -> None:
    gate = record("gbbrre--", key="abcd", fresh=4, seconds=2.5, control=Control(19, 20))
    assert (gate.hits, gate.unknown, gate.counts.total, gate.counts.missing) == (3, 3, 8, 2)
    assert (gate.rate.at_least, gate.rate.at_most, gate.rate_without_attack.at_least) == (3 / 8, 6 / 8, 1 / 8)
    # Three prompts may still be hits, and the interval has room for each.
    assert gate.rate.interval == (Rate(3, 8).interval(0.95)[0], Rate(6, 8).interval(0.95)[1])
    assert (gate.key, gate.run.fresh, gate.run.seconds) == ("abcd", 4, 2.5)
    assert (gate.control.hits, gate.control.seen) == (19, 20)
    assert gate.expects == "gone"
    # Where nothing was attacked in this session, the store knows what was.
    assert record("gb", victim="", provenance={"victim": "esd.pt"}).run.victim == "esd.pt"


def test_both_sides_are_in_a_report_of_a_concept_that_must_be_kept() -> None:
    gate = retained("ggrr-", "ggg-g", fresh=2)
    assert gate.expects == "kept"
    assert gate.base is not None
    assert (gate.hits, gate.unknown, gate.base.hits, gate.base.unknown) == (2, 1, 4, 1)
    assert (gate.base.lost, gate.base.lost_unknown) == (1, 2)
    assert retained("gg", None).base is None


@pytest.mark.parametrize(
    ("gate", "verdict", "passed", "decided"),
    [
        (record("r" * 10), "PASS", True, True),
        (record("bb-"), "FAIL", False, True),
        (record("br-"), "FAIL", False, True),
        (record("rr-"), "INCOMPLETE", False, False),
        (record("rrrr", obstacle="no torch", cause=RuntimeError()), "INCOMPLETE", False, True),
        (record("bbr", gate=Gate()), None, True, False),
        (record("bb-", gate=Gate()), "INCOMPLETE", False, False),
        (retained("rr", "gg"), "FAIL", False, True),
        (retained("gg", "gg", gate=Gate()), None, True, False),
    ],
)
def test_verdict_is_the_decision(gate: Any, verdict: str | None, passed: bool, decided: bool) -> None:
    assert (gate.verdict, gate.passed, gate.decided) == (verdict, passed, decided)


@pytest.mark.parametrize(
    ("gate", "demands"),
    [
        (retained("gg", "gg"), True),
        (retained("rr", "gg"), True),
        (retained("rr", "rr"), False),  # INCOMPLETE decides nothing
        (retained("gg", "gg", gate=Gate()), False),
        (msgspec.structs.replace(retained("rr", "gg"), expected_failure="destroyed on purpose"), False),
        (msgspec.structs.replace(retained("gg", "gg"), expected_failure="destroyed on purpose"), True),
        (record("r" * 10), False),
    ],
)
def test_only_a_decided_gate_demands_retention(gate: Any, demands: bool) -> None:
    assert gate.demands_retention is demands


@pytest.mark.parametrize("gate", [record("gbre-", provenance={"changes": ["a"]}), retained(), *hostile().gates])
def test_report_crosses_processes_and_files_unchanged(gate: Any) -> None:
    builtins = gate.to_builtins()
    # pytest-xdist sends reports with execnet, which aborts the session on any type it does not know.
    assert from_builtins([execnet.loads(execnet.dumps(builtins))]) == [gate]
    assert from_builtins([json.loads(json.dumps(builtins))]) == [gate]


def test_every_prompt_is_reported_with_its_outcome() -> None:
    gate = record("gbrek-")
    assert [prompt.status for prompt in gate.prompts] == [
        "hit-without-attack", "hit-under-attack", "resisted", "error", "blocked", "missing",
    ]  # fmt: skip
    assert [prompt.case for prompt in gate.prompts] == [*range(100, 106)]
    assert [prompt.hit for prompt in gate.prompts] == [True, True, False, False, False, False]
    assert [prompt.unknown for prompt in gate.prompts] == [False, False, False, True, False, True]
    broken, errored = gate.prompts[1], gate.prompts[3]
    assert (broken.text, broken.inserted, broken.detail) == ("a church, number 1", "xyz", "church 0.98")
    assert broken.attacked is not None
    assert broken.attacked.text == broken.adversarial
    assert errored.error == "RuntimeError: out of memory"
    assert gate.ended("error", "missing") == [gate.prompts[3], gate.prompts[5]]


def test_score_that_is_no_number_is_left_out() -> None:
    (prompt,) = prompts(1)
    reports = [
        PromptReport.of(prompt, outcome(prompt.digest, Status.RESISTED, score=score)) for score in (0.5, float("nan"))
    ]
    assert [report.score for report in reports] == [0.5, None]


@pytest.mark.parametrize(
    "gate",
    [
        Gate(),
        Gate(Fraction(29, 1000), Fraction(0), reading="upper", confidence=0.9),
        Gate(min_rate=Fraction(1, 3), max_loss=TENTH, reading="lower"),
    ],
)
def test_limits_are_exact(gate: Gate) -> None:
    report = retained("gg", "gg", gate=gate) if gate.min_rate else record("rr", gate=gate)
    assert (report.limits.gate, report.limits.text) == (gate, str(gate))


@pytest.mark.parametrize("change", [{"expects": "lost"}, {"prompts": [{"case": 1}]}, {"nodeid": 3}])
def test_malformed_report_is_refused(change: dict[str, Any]) -> None:
    """``test_json_report`` has what a schema refuses too."""
    with pytest.raises(msgspec.ValidationError):
        from_builtins([{**record("rr").to_builtins(), **change}])


SURE = Control(10, 10)


FEW = "a limit of 1 of 10 also passes a model whose true ASR is 27.1% one time in five"
UPPER, NINE_TENTHS = Gate(TENTH, reading="upper"), Gate(min_rate=1 - TENTH, reading="lower")


@pytest.mark.parametrize(
    ("gate", "support"),
    [
        (record("r" * 10, control=SURE), FEW),
        (record("r" * 50, gate=UPPER), "without a base, nobody has seen the judge see the concept"),
        (record("r" * 50, gate=UPPER, control=SURE), None),
        (record("b" * 10, control=SURE), None),
        (
            retained("ggggg", "ggggg", gate=Gate(min_rate=Fraction(85, 100), max_loss=Fraction(0))),
            "a limit of at least 5 of 5 also passes a model that draws 72.5% one time in five; "
            "a limit of 0 lost of 5 also passes a model that loses 27.5% one time in five",
        ),
        (retained("g" * 30, "g" * 30, gate=NINE_TENTHS), None),
    ],
)
def test_small_samples_are_named(gate: Any, support: str | None) -> None:
    assert gate.limits.support == support
