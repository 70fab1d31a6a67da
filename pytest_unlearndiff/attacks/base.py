"""What every attack is: lanes that advance together, block by block."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch

from ..core.attack_config import AttackConfig
from ..core.concept import Prompt
from ..core.drawing import GenerationRequest
from ..core.errors import GateError
from ..models.diffusion_model import DiffusionModel
from ..models.target_images import Targets
from ..sources.import_string import imported


@dataclass(eq=False)
class PromptState:
    """One prompt being attacked inside a batched campaign.

    Its tensors are its own, and no views of a batch's: it may be packed and go on in another process.

    Attributes:
        prompt: what is attacked.
        generator: the lane's own random stream, a function of run seed and prompt alone.
        block: how many blocks it has done.
        steps: steps of the search spent.
        forwards: UNet forward passes spent on optimisation, a backward pass counted as one more.
        inserted: adversarial tokens of the last proposal, as text.
        timestep: where the last block measured the denoising error, in [0,
            ``DiffusionModel.timesteps``); None where it did so at several or at none.
        error: why the lane cannot go on.
    """

    prompt: Prompt
    generator: torch.Generator
    block: int = 0
    steps: int = 0
    forwards: int = 0
    inserted: str | None = None
    timestep: int | None = None
    error: str | None = field(default=None)


LaneT = TypeVar("LaneT", bound=PromptState)


class Attack(Protocol[LaneT]):
    """A way to search adversarial text. Lanes are independent: batching them changes no outcome."""

    def start(
        self, prompts: Sequence[Prompt], victim: DiffusionModel, targets: Targets | None, seed: int
    ) -> Sequence[LaneT]:
        """A fresh lane for each prompt."""
        ...

    def advance(self, lanes: Sequence[LaneT], victim: DiffusionModel) -> list[GenerationRequest | None]:
        """Do one block of work on every lane; return what to draw and judge, None where a lane has no more to try."""
        ...


def build_attack(config: AttackConfig, model: DiffusionModel) -> Attack[Any]:
    """Build the attack that a configuration names, on the victim.

    Raises:
        GateError: it is not known in this process, or cannot be imported.
    """
    info = config.info
    try:
        attack: Attack[Any] = imported(info.implementation)(config, model)
    except ImportError as error:
        raise GateError(f"attack {info.name}: {error}") from None
    return attack


def one_block(
    lanes: Sequence[LaneT], timesteps: Sequence[int], steps: int, step: Callable[[list[LaneT]], None]
) -> list[LaneT]:
    """Do one block of optimiser steps.

    Args:
        lanes: those that have done all their blocks are left alone.
        timesteps: where each of a lane's blocks measures the denoising error.
        steps: optimiser steps a block.
        step: takes one on these lanes, and notes an error on those that cannot go on.

    Returns:
        The lanes that did the block and can go on.
    """
    live = [lane for lane in lanes if lane.block < len(timesteps)]
    for lane in live:
        lane.timestep = timesteps[lane.block]
    for _ in range(steps if live else 0):
        step([lane for lane in live if lane.error is None])
    for lane in live:
        lane.block += 1
    return [lane for lane in live if lane.error is None]


def note_overflow(lane: PromptState, where: str, *numbers: torch.Tensor) -> bool:
    """Note an error on a lane whose losses or gradients are not finite: a search that cannot measure proves nothing.

    Args:
        lane: whose search it is.
        where: what was measured, and when, for people.
        numbers: losses and gradients, of any shape.

    Returns:
        Whether some of them are not finite.
    """
    bad = next((each[~each.isfinite()] for each in numbers if not each.isfinite().all()), None)
    if bad is None:
        return False
    lane.error = lane.error or (
        f"{where} became {float(bad[0])}: the model's weights overflow, or --unlearndiff-dtype is too narrow for them "
        "(float32 is the widest)"
    )
    return True


def lane_generator(seed: int, prompt: Prompt) -> torch.Generator:
    """The random stream of one prompt's lane."""
    content = hashlib.sha256(f"{seed}:{prompt.digest}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(content[:7], "big"))
