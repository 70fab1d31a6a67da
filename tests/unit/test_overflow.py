"""Searches whose losses or gradients overflow: an error of the prompt, and never a prompt that resisted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from tiny import PROMPTS, tiny_pipeline

from pytest_unlearndiff.attacks.base import build_attack
from pytest_unlearndiff.attacks.schedules import (
    P4D,
    RING_A_BELL,
    UNLEARNDIFF,
    EmbeddingSchedule,
    GeneticSchedule,
    SimplexSchedule,
    TokenSwapSchedule,
)
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.errors import JudgeError
from pytest_unlearndiff.judges.diffusion_classifier import DiffusionClassifier
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets

LOSSES = {
    "swaps": AttackConfig(),
    "classifier": AttackConfig(loss="classifier"),
    "simplex": AttackConfig(schedule="paper"),
    "p4d": AttackConfig("p4d"),
    "ring-a-bell": AttackConfig("ring-a-bell", word="church"),
}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UNLEARNDIFF, "paper", SimplexSchedule((0.49,), steps=2))  # type: ignore[arg-type]
    monkeypatch.setitem(
        UNLEARNDIFF, "fast", TokenSwapSchedule((0.35, 0.65), rounds=2, screened=4, measured=2, restart=1)
    )  # type: ignore[arg-type]
    monkeypatch.setitem(P4D, "fast", EmbeddingSchedule((0.49,), steps=2))  # type: ignore[arg-type]
    monkeypatch.setitem(RING_A_BELL, "fast", GeneticSchedule(1, 2, population=8))  # type: ignore[arg-type]


class Overflowing(DiffusionModel):
    """Draws as ever, but measures what is told of one target image.

    Attributes:
        measured: added to the denoising error of a target image whose first number is 77.
        slope: what the gradient of that error is multiplied by.
    """

    measured = 0.0
    slope = 1.0

    def denoising_error(self, x0: torch.Tensor, *rest: Any) -> torch.Tensor:
        error = super().denoising_error(x0, *rest)
        marked = x0[:, 0, 0, 0] == 77
        if error.requires_grad:
            error.register_hook(lambda gradient: torch.where(marked, gradient * self.slope, gradient))
        return error + torch.where(marked, self.measured, 0.0)


def marked(state: Any) -> None:
    if hasattr(state, "x0"):
        state.x0[0, 0, 0] = 77
    else:  # the search that measures distances of text states
        state.wanted = torch.full_like(state.wanted, torch.inf)


@pytest.mark.parametrize("what", ["inf", "-inf", "nan", "gradient"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_search_that_cannot_measure_is_an_error_and_never_resisted(name: str, what: str, targets: Targets) -> None:
    """The images stay finite, and so does whatever the attack made of infinity before it is noticed."""
    victim = Overflowing(tiny_pipeline(1), Sampling(steps=2))
    attack = build_attack(LOSSES[name], victim)
    good, bad = attack.start(PROMPTS[:2], victim, targets, 0)
    marked(bad)
    victim.measured, victim.slope = (0.0, torch.inf) if what == "gradient" else (float(what), 1.0)
    drawings = attack.advance([good, bad], victim)
    assert drawings[1] is None
    assert "became" in bad.error
    assert "--unlearndiff-dtype is too narrow" in bad.error
    assert drawings[0] is not None
    assert good.error is None


def test_a_judge_that_cannot_measure_says_so_instead_of_no() -> None:
    victim = DiffusionModel(tiny_pipeline(1), Sampling(steps=2))
    judge, image = DiffusionClassifier(victim, "church", ["fish"]), Image.radial_gradient("L").resize((32, 32))
    assert len(judge([image.convert("RGB")])) == 1
    victim._pipe.unet.conv_out.weight.mul_(torch.inf)
    with pytest.raises(JudgeError, match=r"diffusion-classifier judge.*became NaN or infinity.*--unlearndiff-dtype"):
        judge([image.convert("RGB")])


@pytest.mark.parametrize("where", ["first", "again"])
def test_references_of_the_classifiers_loss_have_to_be_finite(where: str, targets: Targets) -> None:
    """Infinitely bad references would make any prompt a good one."""
    victim = Overflowing(tiny_pipeline(1), Sampling(steps=2))
    search: Any = build_attack(LOSSES["classifier"], victim)
    (state,) = search.start(PROMPTS[:1], victim, targets, 0)
    victim.measured = torch.inf
    marked(state)
    if where == "first":
        state = search._begin(state, victim)
        assert state.error is not None
    victim.measured = 0.0 if where == "first" else torch.inf
    assert [search.advance([state], victim) for _ in range(2)][-1] == [None]
    assert "became inf" in str(state.error)
