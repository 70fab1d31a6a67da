"""A result lays outcomes along the whole prompt set, so that N is always the whole set."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import concept, outcome, result

from pytest_unlearndiff.core.outcome import Status
from pytest_unlearndiff.core.result import AttackResult


@pytest.mark.parametrize(
    ("letters", "pre_asr", "asr", "complete"),
    [("rrrr", 0, 0, True), ("gbrr", 1, 2, True), *[(x, 1, 2, False) for x in ("gb--", "gbee")], ("----", 0, 0, False),
     ("rrre", 0, 0, False)],
)  # fmt: skip
def test_rates_count_every_prompt_of_the_set(letters: str, pre_asr: int, asr: int, complete: bool) -> None:
    found = result(letters)
    assert (found.pre_asr.successes, found.pre_asr.trials) == (pre_asr, 4)
    assert (found.asr.successes, found.asr.trials) == (asr, 4)
    assert found.complete is complete


def test_repeated_prompts_and_outcomes_of_others() -> None:
    asked, (one, other) = concept(2), concept(2).prompts
    stranger = outcome("somebody else", Status.HIT_UNDER_ATTACK)
    assert AttackResult.gather(asked, {stranger.prompt: stranger}, attack="a", victim="v").outcomes == (None, None)
    hit = outcome(one.digest, Status.HIT_UNDER_ATTACK, forwards=40)
    twice = AttackResult.gather(replace(asked, prompts=(one, other, one)), {hit.prompt: hit}, attack="a", victim="v")
    assert (twice.asr.successes, twice.asr.trials) == (2, 3)
    assert twice.forwards == 40, "the work was spent once"


def test_ended_pairs_prompts_with_their_own_outcomes_in_order() -> None:
    found = result("bgrbe-")
    pairs = found.ended(Status.HIT_UNDER_ATTACK)
    assert [prompt.case for prompt, _ in pairs] == [100, 103]
    assert all(prompt.digest == ended.prompt for prompt, ended in pairs)
    assert [prompt.case for prompt, _ in found.ended(Status.ERROR)] == [104]
