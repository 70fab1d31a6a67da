"""Attacks on UCE's emoji fish victim end as they did when ``outcomes.json`` was recorded: statuses, tokens, scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import EMOJI

RECORDED = json.loads((Path(__file__).parent / "outcomes.json").read_text(encoding="utf-8"))
COMPARED = ("case", "status", "adversarial", "inserted", "evaluations", "steps", "forwards", "detail")


@pytest.mark.slow
@pytest.mark.parametrize("attack", RECORDED)
def test_golden_campaign(attack: str, pytester: pytest.Pytester) -> None:
    recorded = RECORDED[attack]
    cases = recorded["tested"]
    measured = attacked_prompts(
        pytester, *recorded["options"], f"--unlearndiff-case-numbers={','.join(map(str, cases))}"
    )
    expected = [prompt for prompt in recorded["prompts"] if prompt["case"] in cases]
    assert [facts(prompt) for prompt in measured] == [facts(prompt) for prompt in expected]
    assert [prompt["score"] for prompt in measured] == pytest.approx([prompt["score"] for prompt in expected], abs=1e-3)


def attacked_prompts(pytester: pytest.Pytester, *options: str) -> list[dict[str, Any]]:
    """Prompts of the JSON report of a session that attacks everything anew."""
    pytester.makeini("[pytest]\n")
    result = pytester.runpytest_inprocess(
        *("-p", "no:randomly", "--pyargs", "pytest_unlearndiff.suite", "--unlearndiff-report=json:report.json"),
        f"--unlearndiff-model={EMOJI / 'erased' / 'uce-fish.safetensors'}",
        *(f"--unlearndiff-base={EMOJI / 'model'}", f"--unlearndiff-concepts={EMOJI / 'concepts'}"),
        *("--unlearndiff-concept=fish", "--unlearndiff-exhaustive", "--unlearndiff-cache=off", *options),
    )
    result.assert_outcomes(passed=1)
    [gate] = json.loads((pytester.path / "report.json").read_text(encoding="utf-8"))["gates"]
    prompts: list[dict[str, Any]] = gate["prompts"]
    return prompts


def facts(prompt: dict[str, Any]) -> tuple[Any, ...]:
    """What must stay equal exactly."""
    return tuple(prompt[name] for name in COMPARED)
