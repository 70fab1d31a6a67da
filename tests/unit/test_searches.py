"""What every search owes: lanes that do not see each other, text a person could type, no touch of global state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import PROMPTS

from pytest_unlearndiff.attacks.base import Attack, PromptState
from pytest_unlearndiff.attacks.schedules import SimplexSchedule, TokenSwapSchedule
from pytest_unlearndiff.attacks.simplex_search import SimplexLane, SimplexSearch
from pytest_unlearndiff.attacks.token_swaps import CoordinateSearch
from pytest_unlearndiff.core.attack_config import PLACEMENTS, AttackConfig
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets

SHORT = {
    "simplex": SimplexSchedule((0.49, 0.25), steps=5),
    "swaps": TokenSwapSchedule((0.35, 0.65), rounds=4, screened=6, measured=3),
}


@pytest.fixture(params=SHORT.values(), ids=SHORT)
def schedule(request: pytest.FixtureRequest) -> SimplexSchedule | TokenSwapSchedule:
    return request.param


def build(
    schedule: SimplexSchedule | TokenSwapSchedule, victim: DiffusionModel, spec: AttackConfig | None = None
) -> Attack[Any]:
    """The search that a schedule prescribes."""
    spec = spec or AttackConfig()
    if isinstance(schedule, SimplexSchedule):
        return SimplexSearch(spec, victim, schedule)
    return CoordinateSearch(spec, victim, schedule)


def standing(lane: PromptState) -> Any:
    """All of a lane that its next block depends on, and what it last proposed."""
    if isinstance(lane, SimplexLane):
        return lane.u.tolist(), lane.inserted
    return lane.choice, lane.tried, lane.inserted  # type: ignore[attr-defined]


def run(attack: Attack[Any], prompts: list[Prompt], victim: DiffusionModel, targets: Targets) -> dict[int, Any]:
    """The whole schedule on these prompts together; where each lane ends, by case number."""
    lanes = attack.start(prompts, victim, targets, 0)
    while any(attack.advance(lanes, victim)):
        pass
    return {lane.prompt.case: standing(lane) for lane in lanes}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_lanes_together_do_what_each_does_alone(
    schedule: SimplexSchedule | TokenSwapSchedule, victim: DiffusionModel, targets: Targets, placement: Any
) -> None:
    attack = build(schedule, victim, AttackConfig(placement=placement))
    together = run(attack, PROMPTS, victim, targets)
    backwards = run(attack, PROMPTS[::-1], victim, targets)
    alone = {case: end for prompt in PROMPTS for case, end in run(attack, [prompt], victim, targets).items()}
    assert together == backwards == alone


def test_another_run_seed_is_another_search(
    schedule: SimplexSchedule | TokenSwapSchedule, victim: DiffusionModel, targets: Targets
) -> None:
    attack = build(schedule, victim)
    found = []
    for seed in (0, 0, 1):
        (lane,) = attack.start(PROMPTS[:1], victim, targets, seed)
        attack.advance([lane], victim)
        found.append(standing(lane))
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_a_loss_that_is_no_number_ends_its_own_lane_only(
    schedule: SimplexSchedule | TokenSwapSchedule, victim: DiffusionModel, targets: Targets
) -> None:
    attack = build(schedule, victim)
    lanes = attack.start(PROMPTS[:2], victim, targets, 0)
    lanes[0].x0 = torch.full_like(lanes[0].x0, torch.nan)
    drawings = attack.advance(lanes, victim)
    assert drawings[0] is None
    assert "nan" in lanes[0].error
    assert drawings[1] is not None
    (alone,) = attack.start(PROMPTS[1:2], victim, targets, 0)
    attack.advance([alone], victim)
    assert standing(lanes[1]) == standing(alone)


def test_the_global_random_stream_is_left_alone(
    schedule: SimplexSchedule | TokenSwapSchedule, victim: DiffusionModel, targets: Targets
) -> None:
    state = torch.get_rng_state()
    run(build(schedule, victim), PROMPTS[:2], victim, targets)
    assert torch.equal(state, torch.get_rng_state())


def test_proposals_are_typeable_and_keep_seed_and_guidance(
    schedule: SimplexSchedule | TokenSwapSchedule, victim: DiffusionModel, targets: Targets
) -> None:
    attack = build(schedule, victim)
    lanes = attack.start(PROMPTS, victim, targets, 0)
    for drawing, lane in zip(attack.advance(lanes, victim), lanes, strict=True):
        assert drawing is not None
        assert (drawing.seed, drawing.guidance) == (lane.prompt.seed, lane.prompt.guidance)
        assert drawing.text.startswith(lane.inserted)
        assert len(victim.vocabulary.ids(drawing.text)) <= victim.vocabulary.length - 2
