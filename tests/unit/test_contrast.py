"""The diffusion classifier's loss: the posterior's definition, and a search that lowers it."""

from __future__ import annotations

import torch
from tiny import PROMPTS

from pytest_unlearndiff.attacks.base import build_attack
from pytest_unlearndiff.attacks.classifier_loss import ClassifierLoss
from pytest_unlearndiff.attacks.denoising_loss import LossQuery, errors, gradients
from pytest_unlearndiff.attacks.schedules import TokenSwapSchedule
from pytest_unlearndiff.attacks.slots import Slots
from pytest_unlearndiff.attacks.token_swaps import CoordinateSearch
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets

SHORT = TokenSwapSchedule((0.35, 0.65), rounds=3, screened=6, measured=3)
SPEC = AttackConfig(loss="classifier")


def test_the_loss_is_the_classifiers_negative_log_probability() -> None:
    others, found = torch.tensor([[0.5, 0.2], [0.4, 0.3]]), torch.tensor([[0.45, 0.25], [0.1, 0.9]])
    contrast = ClassifierLoss(others, size=10)
    for entry in range(2):
        squares = 10 * torch.stack([found[:, entry], *others[:, entry, None].expand(2, 2)])  # ours, then theirs
        wanted = -(-squares).log_softmax(0)[0]
        torch.testing.assert_close(contrast.loss(found, range(2))[:, entry], wanted)
        torch.testing.assert_close(contrast.loss(found[:, [entry]], [entry])[:, 0], wanted)


def test_weights_are_its_derivative() -> None:
    contrast = ClassifierLoss(torch.tensor([[0.5, 0.2], [0.4, 0.3]]), size=10)
    found = torch.tensor([[0.45, 0.25], [0.1, 0.9]], requires_grad=True)
    (slope,) = torch.autograd.grad(contrast.loss(found, range(2)).sum(), found)
    torch.testing.assert_close(contrast.weights(found.detach(), range(2)), slope)


def test_large_latents_overflow_nothing() -> None:
    contrast = ClassifierLoss(torch.tensor([[0.0], [1.0]]), size=4 * 128 * 128)
    loss = contrast.loss(torch.tensor([[0.5], [2.0], [-3.0]]), [0])
    assert torch.isfinite(loss).all()
    torch.testing.assert_close(loss[:2, 0], torch.tensor([0.5, 2.0]) * 4 * 128 * 128)
    assert loss[2] == 0


def test_references_meet_the_same_timesteps_and_noise(victim: DiffusionModel, targets: Targets) -> None:
    search = CoordinateSearch(SPEC, victim, SHORT)
    (lane,) = search.start(PROMPTS[:1], victim, targets, 0)
    assert lane.contrast is not None
    assert lane.contrast.others.shape == (2, 2)
    assert lane.contrast.size == lane.x0.numel()
    assert lane.forwards == 4
    for text, row in zip((PROMPTS[0].text, ""), lane.contrast.others, strict=True):
        slots = Slots(tuple(victim.vocabulary.ids(text)), ())
        bank = [LossQuery(slots, [], lane.x0, lane.noise[m], t) for m, t in enumerate((350, 650))]
        torch.testing.assert_close(errors(bank, victim), row)


def test_the_gradient_is_that_of_the_loss(victim: DiffusionModel, targets: Targets) -> None:
    search = CoordinateSearch(SPEC, victim, SHORT)
    (lane,) = search.start(PROMPTS[:1], victim, targets, 0)
    assert lane.contrast is not None
    found, slopes = gradients(search._probes(lane, lane.choice, range(2)), victim)
    weights = lane.contrast.weights(found[None], range(2))[0]
    wanted = (weights[:, None, None] * slopes).mean(0)
    torch.testing.assert_close(search._slopes([lane], victim)[0], wanted)


def test_a_round_moves_to_the_choice_of_the_lowest_loss(victim: DiffusionModel, targets: Targets) -> None:
    search = CoordinateSearch(SPEC, victim, SHORT)
    (lane,) = search.start(PROMPTS[:1], victim, targets, 0)
    assert lane.contrast is not None
    before = set(lane.tried)
    search.advance([lane], victim)

    def loss(choice: tuple[int, ...]) -> float:
        assert lane.contrast is not None
        found = errors(search._probes(lane, choice, range(2)), victim)
        return float(lane.contrast.loss(found[None], range(2)).mean())

    assert lane.choice == min(lane.tried - before, key=loss)


def test_lanes_together_do_what_each_does_alone(victim: DiffusionModel, targets: Targets) -> None:
    def ends(count: int) -> list[object]:
        search = CoordinateSearch(SPEC, victim, SHORT)
        found: list[object] = []
        for first in range(0, 3, count):
            lanes = search.start(PROMPTS[first : first + count], victim, targets, 0)
            while any(search.advance(lanes, victim)):
                pass
            found += [(lane.choice, lane.tried, lane.forwards) for lane in lanes]
        return found

    assert ends(1) == ends(3)


def test_the_specification_builds_it(victim: DiffusionModel) -> None:
    assert isinstance(build_attack(SPEC, victim), CoordinateSearch)
