"""A result lays outcomes along the whole prompt set, so that N is always the whole set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import concept, outcome, result
from scipy import stats

from pytest_unlearndiff.core.outcome import Status
from pytest_unlearndiff.core.result import AttackResult, Retention


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


def test_paired_scores() -> None:
    """Prompts without a finite score on both models leave the pairs, not the rates."""
    victim, base = result("grgr"), result("gggg")
    scores = {"victim": (0.2, 0.3, 0.5, None), "base": (0.4, 0.6, 0.5, 0.9)}
    sides = {
        name: replace(
            side,
            outcomes=tuple(
                replace(outcome, score=score)
                for outcome, score in zip(side.outcomes, scores[name], strict=True)
                if outcome is not None
            ),
        )
        for name, side in (("victim", victim), ("base", base))
    }
    found = Retention(**sides).scores
    assert found is not None
    assert found.pairs == ((0.2, 0.4), (0.3, 0.6), (0.5, 0.5))
    assert found.means == pytest.approx((1 / 3, 0.5))
    changes = np.subtract(*np.array(found.pairs).T)
    error = changes.std(ddof=1) / len(changes) ** 0.5
    assert found.interval(0.9) == pytest.approx(stats.norm.interval(0.9, changes.mean(), error))
    assert Retention(result("gr"), result("gg")).scores is None
    assert Retention(victim).scores is None
