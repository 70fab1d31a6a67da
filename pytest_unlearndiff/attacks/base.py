"""The protocol of attacks: one state per prompt, advanced together round by round, saved and loaded exactly."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch

from ..core.attack_config import AttackConfig
from ..core.concept import Prompt
from ..core.errors import GateError
from ..core.images import GenerationRequest
from ..models.diffusion_model import DiffusionModel
from ..models.target_images import Targets
from ..sources.resolve import import_string


@dataclass(eq=False)
class PromptState:
    """One prompt's attack in progress. Its tensors are its own, no views of a batch's.

    Attributes:
        prompt: the attacked prompt.
        generator: the prompt's own random stream, a function of run seed and prompt alone.
        round: rounds done.
        steps: steps of the search done.
        forwards: forward passes of the denoising network spent on the search, a backward pass counted as one.
        inserted: adversarial tokens of the last request, as text.
        timestep: where the last round measured the denoising error, in [0, ``DiffusionModel.timesteps``); None where
            it did so at several timesteps or at none.
        error: why the attack cannot go on.
    """

    prompt: Prompt
    generator: torch.Generator
    round: int = 0
    steps: int = 0
    forwards: int = 0
    inserted: str | None = None
    timestep: int | None = None
    error: str | None = field(default=None)


StateT = TypeVar("StateT", bound=PromptState)


@dataclass(frozen=True)
class AttackState:
    """All that a prompt's attack needs to go on in another process exactly as it would have here.

    Attributes:
        tensors: on the CPU, in storage of their own.
        facts: values that JSON holds exactly.
    """

    tensors: Mapping[str, torch.Tensor]
    facts: Mapping[str, Any]


class Attack(Protocol[StateT]):
    """A way to bring a concept back on one victim. States are independent: batching them changes no outcome."""

    def start(self, prompts: Sequence[Prompt], targets: Targets | None, seed: int) -> Sequence[StateT]:
        """Return a fresh state for each prompt.

        Args:
            prompts: to be attacked.
            targets: target images and the un-erased model; None for an attack that needs neither.
            seed: run seed.

        Raises:
            UnusableTargets: some prompts have no target image that can be used.
        """
        ...

    def advance(self, states: Sequence[StateT]) -> list[GenerationRequest | None]:
        """Do one round of every state's search.

        Returns:
            The image to draw and judge for each state; None where it has no more to try, or ``error`` says why it
            cannot go on.
        """
        ...

    def save(self, state: StateT) -> AttackState:
        """Return all that ``load`` needs to continue the state, between two rounds."""
        ...

    def load(self, prompt: Prompt, saved: AttackState, targets: Targets | None) -> StateT:
        """Return the state of a prompt as it was saved, by this or another process of the same campaign.

        Raises:
            KeyError: a tensor or a fact is missing.
        """
        ...


def build_attack(config: AttackConfig, model: DiffusionModel) -> Attack[Any]:
    """Build the attack that a configuration names, on the victim.

    Raises:
        GateError: it is not known in this process, or cannot be imported; or its schedule is that of another kind of
            noise than the victim's.
    """
    info = config.info
    if info.flow_schedules and config.flow is not model.flow:
        raise GateError(
            f"attack {info.name}: its configuration says flow={config.flow}, its victim flow={model.flow}: schedules "
            "differ, so take the configuration from ModelFamily.attack"
        )
    try:
        attack: Attack[Any] = import_string(info.implementation)(config, model)
    except ImportError as error:
        raise GateError(f"attack {info.name}: {error}") from None
    return attack


_FACTS = ("round", "steps", "forwards", "inserted", "timestep", "error")


class PromptAttack(ABC, Generic[StateT]):
    """Base of attacks whose states are saved as their counters, their random stream and tensors of their own.

    Args:
        config: settings of the attack.
        model: the victim.
    """

    def __init__(self, config: AttackConfig, model: DiffusionModel) -> None:
        self._config = config
        self._model = model

    @abstractmethod
    def start(self, prompts: Sequence[Prompt], targets: Targets | None, seed: int) -> Sequence[StateT]:
        """Return a fresh state for each prompt, as ``Attack.start``."""

    @abstractmethod
    def _tensors(self, state: StateT) -> dict[str, torch.Tensor]:
        """Return the state's tensors, its random stream aside."""

    @abstractmethod
    def _restore(
        self, prompt: Prompt, generator: torch.Generator, tensors: Mapping[str, torch.Tensor], targets: Targets | None
    ) -> StateT:
        """Return a state with these tensors, and any counters."""

    def save(self, state: StateT) -> AttackState:
        """Return all that ``load`` needs, as ``Attack.save``."""
        tensors = {"generator": state.generator.get_state(), **self._tensors(state)}
        copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        return AttackState(copies, {name: getattr(state, name) for name in _FACTS})

    def load(self, prompt: Prompt, saved: AttackState, targets: Targets | None) -> StateT:
        """Return the state of a prompt as it was saved, as ``Attack.load``."""
        generator = torch.Generator("cpu").set_state(saved.tensors["generator"])
        state = self._restore(prompt, generator, saved.tensors, targets)
        for name in _FACTS:
            setattr(state, name, saved.facts[name])
        return state


def note_overflow(state: PromptState, measured: str, *numbers: torch.Tensor) -> bool:
    """Note an error on a state whose losses or gradients are not finite: such a search proves nothing.

    Args:
        state: of the search.
        measured: what was measured, and when, for people.
        numbers: losses and gradients, of any shape.

    Returns:
        Whether some of them are not finite.
    """
    bad = next((each[~each.isfinite()] for each in numbers if not each.isfinite().all()), None)
    if bad is None:
        return False
    state.error = state.error or (
        f"{measured} became {float(bad[0])}: the model's weights overflow, or --unlearndiff-dtype is too narrow for "
        "them (float32 is the widest)"
    )
    return True


def prompt_generator(seed: int, prompt: Prompt) -> torch.Generator:
    """Return the random stream of one prompt's attack under a run seed."""
    content = hashlib.sha256(f"{seed}:{prompt.digest}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(content[:7], "big"))
