"""The attack: lanes together do what each would do alone, and every step is upstream's mathematics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import PROMPTS

from pytest_unlearndiff.attacks.base import build_attack
from pytest_unlearndiff.attacks.schedules import CONTROLS, UNLEARNDIFF, RepeatedNoiseSchedule, SimplexSchedule
from pytest_unlearndiff.attacks.simplex import project
from pytest_unlearndiff.attacks.simplex_search import SimplexLane, SimplexSearch
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets

SHORT = SimplexSchedule((0.49, 0.25), steps=5)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UNLEARNDIFF, "fast", SHORT)  # type: ignore[arg-type]
    monkeypatch.setitem(CONTROLS, "fast", SHORT)  # type: ignore[arg-type]


def run(prompts: list[Prompt], victim: DiffusionModel, targets: Targets, **spec: object) -> dict[int, SimplexLane]:
    """Both blocks of the short schedule on these prompts together; lanes by case number."""
    attack = build_attack(replace(AttackConfig(), **spec), victim)  # type: ignore[arg-type]
    lanes = attack.start(prompts, victim, targets, 0)
    while any(attack.advance(lanes, victim)):
        pass
    return {lane.prompt.case: lane for lane in lanes}


def test_a_step_is_adam_on_the_straight_through_gradient_then_projection(
    victim: DiffusionModel, targets: Targets
) -> None:
    attack = SimplexSearch(AttackConfig(), victim, SHORT)
    (lane,) = attack.start(PROMPTS[:1], victim, targets, 0)
    state = lane.generator.get_state()
    attack._step([lane], victim)

    generator = torch.Generator().set_state(state)
    vocabulary, size = victim.vocabulary, lane.u.shape[1]
    u = torch.full((3, size), 1 / size)
    choices = torch.multinomial(u, 1, generator=generator)
    one_hot = torch.zeros(3, size).scatter_(1, choices, 1.0).requires_grad_(True)
    ids = lane.slots.padded(vocabulary.typeable[choices[:, 0]].tolist(), vocabulary)[None]
    slots = one_hot @ vocabulary.embeddings[vocabulary.typeable]
    whole = torch.cat([vocabulary.embeddings[ids[:, :1]], slots[None], vocabulary.embeddings[ids[:, 4:]]], 1)
    noise = torch.randn(lane.x0.shape, generator=generator)
    error = victim.denoising_error(lane.x0[None], noise[None], torch.tensor([490]), victim.encode(ids, whole))
    error.sum().backward()
    assert one_hot.grad is not None
    u.grad = torch.nn.functional.hardtanh(one_hot.grad)
    torch.optim.Adam([u], lr=0.01, weight_decay=0.1).step()
    torch.testing.assert_close(lane.u, project(u), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [SimplexSchedule, RepeatedNoiseSchedule])
def test_only_with_upstreams_quirk_does_every_block_meet_the_noise_of_the_first(
    kind: type[SimplexSchedule], victim: DiffusionModel, targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[torch.Tensor] = []
    meant = victim.denoising_error

    def noted(x0: torch.Tensor, noise: torch.Tensor, *rest: Any) -> torch.Tensor:
        met.append(noise)
        return meant(x0, noise, *rest)

    monkeypatch.setattr(victim, "denoising_error", noted)
    search = SimplexSearch(AttackConfig(), victim, kind((0.49, 0.25), steps=3))
    lanes = search.start(PROMPTS[:1], victim, targets, 0)
    assert [search.advance(lanes, victim)[0] is None for _ in range(3)] == [False, False, True]
    first, second = met[:3], met[3:]
    assert not torch.equal(first[0], first[1])
    assert [torch.equal(*pair) for pair in zip(first, second, strict=True)] == [kind is RepeatedNoiseSchedule] * 3


def test_distributions_stay_distributions(victim: DiffusionModel, targets: Targets) -> None:
    for lane in run(PROMPTS, victim, targets).values():
        assert (lane.u >= 0).all()
        torch.testing.assert_close(lane.u.sum(-1), torch.ones(3))


def test_a_lane_ends_when_its_blocks_are_done(victim: DiffusionModel, targets: Targets) -> None:
    lane = run(PROMPTS[:1], victim, targets)[0]
    assert (lane.block, lane.steps, lane.forwards) == (2, 10, 20)


@pytest.mark.parametrize("name", ["random", "seed-search", "none"])
def test_controls_do_as_much_work_and_repeat_themselves(victim: DiffusionModel, name: str) -> None:
    histories = []
    for _ in range(2):
        attack = build_attack(AttackConfig(name), victim)
        lanes = attack.start(PROMPTS[:1], victim, None, 0)
        history = []
        while (drawing := attack.advance(lanes, victim)[0]) is not None:
            history.append(drawing)
        histories.append(history)
    assert histories[0] == histories[1]
    affordable = 2 * (2 * 5 + 4) // 4  # two blocks of five steps and one image, in images of two steps
    assert len(set(histories[0])) == (0 if name == "none" else affordable)


def test_paper_schedule_is_upstreams() -> None:
    paper = UNLEARNDIFF["paper"]
    assert [round(share * 1000) for share in paper.timesteps] == list(range(10, 1000, 20))
    assert isinstance(paper, SimplexSchedule)
    assert (paper.steps, paper.learning_rate, paper.decay, paper.typeable) == (40, 0.01, 0.1, False)
