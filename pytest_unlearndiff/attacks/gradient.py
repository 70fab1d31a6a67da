"""The base of attacks by gradient descent: Adam on numbers of the slots' own, one timestep per round."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from ..core.attack_config import AttackConfig
from ..core.concept import Prompt
from ..core.images import GenerationRequest
from ..core.info import Schedule
from ..models.diffusion_model import DiffusionModel
from ..models.families.vocabulary import Slots
from ..models.target_images import Targets
from .base import PromptAttack, PromptState, note_overflow, prompt_generator
from .losses import LossQuery, gradients
from .schedules import InversionSchedule, SimplexSchedule
from .slots import SearchSpace, propose, slots_of


@dataclass(eq=False)
class GradientState(PromptState):
    """A prompt whose tokens are searched by gradient descent.

    Attributes:
        slots: the prompt with room for the tokens.
        x0: latents (C, h, w) of the target image.
        variable: the optimized numbers, one row per slot, float32.
        optimizer: Adam on ``variable``; its moments live as long as the state.
        base: the un-erased model, where the attack needs it.
    """

    slots: Slots = field(kw_only=True)
    x0: torch.Tensor = field(kw_only=True)
    variable: torch.Tensor = field(kw_only=True)
    optimizer: torch.optim.Adam = field(kw_only=True)
    base: DiffusionModel | None = field(default=None, kw_only=True)


class GradientAttack(PromptAttack[GradientState]):
    """Adam steps at one timestep per round; after each round, the tokens where the search stands are drawn.

    Args:
        config: settings of the attack.
        model: the victim.
        schedule: how much work, where not the configuration's.
    """

    passes_per_step: ClassVar[int] = 2
    """Forward passes of a step, a backward pass counted as one."""
    error_name: ClassVar[str] = "denoising error"

    def __init__(self, config: AttackConfig, model: DiffusionModel, schedule: Schedule | None = None) -> None:
        super().__init__(config, model)
        schedule = schedule or config.settings
        assert isinstance(schedule, (SimplexSchedule, InversionSchedule))
        self._schedule = schedule
        self._timesteps = [model.timestep(fraction) for fraction in schedule.timesteps]
        self._space = SearchSpace(model.vocabulary, schedule.typeable)

    @abstractmethod
    def _initial(self, generator: torch.Generator) -> torch.Tensor:
        """Return the numbers a search starts from, float32 on the victim's device."""

    @abstractmethod
    def _queries(self, states: Sequence[GradientState]) -> list[LossQuery]:
        """Return one loss query per state, at its round's timestep."""

    @abstractmethod
    def _gradient(self, slope: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the optimized numbers from that of the slots' embeddings (k, d)."""

    @abstractmethod
    def _tokens(self, state: GradientState) -> list[int]:
        """Return the ids of the tokens where a search stands."""

    def _finish_step(self, states: Sequence[GradientState]) -> None:
        """Bring the optimized numbers back to where they are allowed after an optimizer step."""

    def _start_round(self, states: Sequence[GradientState]) -> None:
        """Prepare the states that begin a round."""

    def _slots(self, text: str) -> Slots:
        """Make room for the tokens in a prompt."""
        return slots_of(self._config, text, self._model.vocabulary)

    def _timestep(self, state: GradientState) -> int | None:
        """Return the timestep of the round that begins, None where it has several."""
        return self._timesteps[state.round]

    def start(self, prompts: Sequence[Prompt], targets: Targets | None, seed: int) -> list[GradientState]:
        """Return a fresh state for each prompt."""
        assert targets is not None
        latents = targets.latents(prompts, self._model)
        return [self._begin(prompt, x0.clone(), targets, seed) for prompt, x0 in zip(prompts, latents, strict=True)]

    def _begin(self, prompt: Prompt, x0: torch.Tensor, targets: Targets, seed: int) -> GradientState:
        generator = prompt_generator(seed, prompt)
        return self._state(prompt, generator, x0, self._initial(generator), targets)

    def _state(
        self,
        prompt: Prompt,
        generator: torch.Generator,
        x0: torch.Tensor,
        variable: torch.Tensor,
        targets: Targets | None,
    ) -> GradientState:
        schedule, needs_base = self._schedule, self._config.info.needs_base
        return GradientState(
            prompt,
            generator,
            slots=self._slots(prompt.text),
            x0=x0,
            variable=variable,
            optimizer=torch.optim.Adam([variable], lr=schedule.learning_rate, weight_decay=schedule.decay),
            base=targets.base if needs_base and targets is not None else None,
        )

    def _tensors(self, state: GradientState) -> dict[str, torch.Tensor]:
        moments = state.optimizer.state[state.variable]  # empty before the first step
        return {"x0": state.x0, "variable": state.variable, **{f"adam.{name}": each for name, each in moments.items()}}

    def _restore(
        self, prompt: Prompt, generator: torch.Generator, tensors: Mapping[str, torch.Tensor], targets: Targets | None
    ) -> GradientState:
        device = self._model.device
        variable = tensors["variable"].to(device, copy=True)
        state = self._state(prompt, generator, tensors["x0"].to(device, copy=True), variable, targets)
        moments = {name.removeprefix("adam."): each for name, each in tensors.items() if name.startswith("adam.")}
        for name, each in moments.items():
            # Adam keeps its step counter on the CPU, its moments beside what it optimizes.
            state.optimizer.state[variable][name] = each.to(device if each.ndim else "cpu", copy=True)
        return state

    def advance(self, states: Sequence[GradientState]) -> list[GenerationRequest | None]:
        """Do one round of optimizer steps on every state, then return its tokens as text."""
        live = [state for state in states if state.round < self._schedule.rounds]
        self._start_round(live)
        for state in live:
            state.timestep = self._timestep(state)
        for _ in range(self._schedule.steps if live else 0):
            self._step([state for state in live if state.error is None])
        for state in live:
            state.round += 1
        return [self._request(state) if state in live and state.error is None else None for state in states]

    def _step(self, states: list[GradientState]) -> None:
        """Take one Adam step on every state; note an error on one whose loss or gradient is not finite."""
        if not states:
            return
        losses, slopes = gradients(self._queries(states), self._model)
        finite = (losses.isfinite() & slopes.isfinite().flatten(1).all(1)).tolist()
        for state, loss, slope, good in zip(states, losses, slopes, finite, strict=True):
            state.steps += 1
            state.forwards += self.passes_per_step
            # Checked before a gradient is made of it, since clipping would make infinity a number like any other.
            if not good:
                note_overflow(state, f"the {self.error_name} or its gradient at step {state.steps}", loss, slope)
                continue
            state.variable.grad = self._gradient(slope)
            state.optimizer.step()
        self._finish_step(states)

    def _query(self, state: GradientState, tokens: list[int]) -> LossQuery:
        """Return the query of these tokens at the round's timestep, with fresh noise."""
        noise = torch.randn(state.x0.shape, generator=state.generator)
        return LossQuery(state.slots, tokens, state.x0, noise, self._timesteps[state.round])

    def _request(self, state: GradientState) -> GenerationRequest:
        return propose(state, state.slots, self._tokens(state), self._model.vocabulary)
