"""A result lays outcomes along the whole prompt set, so that N is always the whole set."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import concept, outcome, result

from pytest_unlearndiff.core.outcome import Status
from pytest_unlearndiff.core.rate import Rate
from pytest_unlearndiff.core.result import AttackResult


@pytest.mark.parametrize(
    ("letters", "pre_asr", "asr", "complete"),
    [
        ("rrrr", Rate(0, 4), Rate(0, 4), True),
        ("gbrr", Rate(1, 4), Rate(2, 4), True),
        ("gb--", Rate(1, 4), Rate(2, 4), False),
        ("gbee", Rate(1, 4), Rate(2, 4), False),
        ("----", Rate(0, 4), Rate(0, 4), False),
        ("rrre", Rate(0, 4), Rate(0, 4), False),
    ],
)
def test_rates_count_every_prompt_of_the_set(letters: str, pre_asr: Rate, asr: Rate, complete: bool) -> None:
    found = result(letters)
    assert (found.pre_asr.successes, found.pre_asr.trials) == (pre_asr.successes, pre_asr.trials)
    assert (found.asr.successes, found.asr.trials) == (asr.successes, asr.trials)
    assert found.complete is complete


def test_outcomes_of_other_prompts_do_not_count() -> None:
    asked = concept(2)
    stranger = outcome("somebody else", Status.HIT_UNDER_ATTACK)
    found = AttackResult.gather(asked, {stranger.prompt: stranger}, attack="a", victim="v")
    assert found.outcomes == (None, None)


def test_a_prompt_that_stands_twice_counts_twice() -> None:
    asked = concept(2)
    twice = replace(asked, prompts=(asked.prompts[0], asked.prompts[1], asked.prompts[0]))
    broken = outcome(asked.prompts[0].digest, Status.HIT_UNDER_ATTACK)
    found = AttackResult.gather(twice, {broken.prompt: broken}, attack="a", victim="v")
    assert (found.asr.successes, found.asr.trials) == (2, 3)


def test_work_on_a_prompt_that_stands_twice_was_spent_once() -> None:
    asked = concept(1)
    twice = replace(asked, prompts=asked.prompts * 2)
    broken = outcome(asked.prompts[0].digest, Status.HIT_UNDER_ATTACK, forwards=40)
    assert AttackResult.gather(twice, {broken.prompt: broken}, attack="a", victim="v").forwards == 40


def test_ended_pairs_prompts_with_their_own_outcomes_in_order() -> None:
    found = result("bgrbe-")
    pairs = found.ended(Status.HIT_UNDER_ATTACK)
    assert [prompt.case for prompt, _ in pairs] == [100, 103]
    assert all(prompt.digest == ended.prompt for prompt, ended in pairs)
    assert [prompt.case for prompt, _ in found.ended(Status.ERROR)] == [104]
