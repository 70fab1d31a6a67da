"""Coordinate search: swaps of one token, measured on a bank that every choice of a lane shares."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tiny import PROMPTS

from pytest_unlearndiff.attacks.denoising_loss import errors, gradients
from pytest_unlearndiff.attacks.schedules import TokenSwapSchedule
from pytest_unlearndiff.attacks.token_swaps import Choice, CoordinateSearch, SwapLane
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets

SHORT = TokenSwapSchedule((0.35, 0.65), rounds=4, screened=6, measured=3)


def begin(
    prompts: list[Prompt], victim: DiffusionModel, targets: Targets, schedule: TokenSwapSchedule = SHORT, **spec: Any
) -> tuple[CoordinateSearch, list[SwapLane]]:
    """The search, and its lanes at their start."""
    search = CoordinateSearch(replace(AttackConfig(), **spec), victim, schedule)
    return search, search.start(prompts, victim, targets, 0)


def run(prompts: list[Prompt], victim: DiffusionModel, targets: Targets, **spec: Any) -> dict[int, SwapLane]:
    """All rounds on these prompts together; lanes by case number."""
    search, lanes = begin(prompts, victim, targets, **spec)
    while any(search.advance(lanes, victim)):
        pass
    return {lane.prompt.case: lane for lane in lanes}


def error_at(search: CoordinateSearch, lane: SwapLane, choice: Choice, victim: DiffusionModel, *entries: int) -> float:
    """A choice's mean error at these entries of the lane's bank."""
    return float(errors(search._probes(lane, choice, entries), victim).mean())


def promising(search: CoordinateSearch, lane: SwapLane, victim: DiffusionModel) -> list[Choice]:
    """For each slot, its swaps from best to worst by the gradient, worked out one by one."""
    _, slopes = gradients(search._probes(lane, lane.choice, range(2)), victim)
    slope, vocabulary = slopes.mean(0), victim.vocabulary
    table = vocabulary.embeddings[vocabulary.typeable]
    ranked = []
    for slot in range(3):
        gain = {token: -float(slope[slot] @ table[token]) for token in range(len(table)) if token != lane.choice[slot]}
        best = sorted(gain, key=gain.__getitem__, reverse=True)
        ranked.append([(*lane.choice[:slot], token, *lane.choice[slot + 1 :]) for token in best])
    return [swap for row in zip(*ranked, strict=True) for swap in row]


def test_a_round_screens_what_the_gradient_names_and_moves_to_the_best_measured(
    victim: DiffusionModel, targets: Targets
) -> None:
    search, (lane,) = begin(PROMPTS[:1], victim, targets)
    before = lane.choice
    named = promising(search, lane, victim)[: SHORT.screened]
    search.advance([lane], victim)
    measured = lane.tried - {before}
    rough = {choice: error_at(search, lane, choice, victim, 0) for choice in named}
    assert measured == set(sorted(named, key=rough.__getitem__)[: SHORT.measured])
    assert lane.choice == min(measured, key=lambda choice: error_at(search, lane, choice, victim, 0, 1))


def test_each_round_screens_with_another_entry_of_the_bank(victim: DiffusionModel, targets: Targets) -> None:
    search, (lane,) = begin(PROMPTS[:1], victim, targets)
    named = [promising(search, lane, victim)]
    rough = []
    for entry in range(2):
        lane.block = entry
        rough.append(search._screened([lane], named, victim)[0])
        errors_there = [error_at(search, lane, choice, victim, entry) for choice in rough[-1]]
        assert errors_there == sorted(errors_there)
    assert rough[0] != rough[1]


def test_no_choice_is_measured_twice_and_every_round_proposes_another(victim: DiffusionModel, targets: Targets) -> None:
    search, (lane,) = begin(PROMPTS[:1], victim, targets)
    proposals = [search.advance([lane], victim)[0] for _ in range(SHORT.rounds)]
    assert len(set(proposals)) == SHORT.rounds
    assert len(lane.tried) == 1 + SHORT.rounds * SHORT.measured


def test_a_lane_ends_when_its_rounds_are_done_and_spent_what_the_schedule_says(
    victim: DiffusionModel, targets: Targets
) -> None:
    lane = run(PROMPTS[:1], victim, targets)[0]
    assert (lane.block, lane.steps) == (SHORT.rounds, SHORT.rounds)
    assert lane.forwards == SHORT.work(0)


def test_after_some_rounds_it_begins_again_at_other_tokens_with_other_noise(
    victim: DiffusionModel, targets: Targets
) -> None:
    search, (lane,) = begin(PROMPTS[:1], victim, targets, replace(SHORT, restart=2))
    banks, distances = [lane.noise], []
    for _ in range(SHORT.rounds):
        before = lane.choice
        search.advance([lane], victim)
        banks.append(lane.noise)
        distances.append(sum(old != new for old, new in zip(before, lane.choice, strict=True)))
    assert [banks[n] is banks[n + 1] for n in range(4)] == [True, True, False, True]
    assert not (banks[0] == banks[-1]).any()
    assert [distance == 1 for distance in distances] == [True, True, False, True]
    assert lane.forwards == SHORT.work(0), "beginning again costs nothing"


def test_a_vocabulary_that_runs_out_ends_the_search(victim: DiffusionModel, targets: Targets) -> None:
    vocabulary = len(victim.vocabulary.typeable)
    search, (lane,) = begin(PROMPTS[:1], victim, targets, TokenSwapSchedule((0.5,), 3, vocabulary, vocabulary), slots=1)
    assert [search.advance([lane], victim)[0] is None for _ in range(3)] == [False, True, True]
    assert len(lane.tried) == vocabulary
    assert lane.error is None
