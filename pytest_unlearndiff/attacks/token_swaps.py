"""UnlearnDiffAtk's loss searched by token swaps: a gradient proposes, a bank of noise decides."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from ..core.attack_config import AttackConfig
from ..core.concept import Prompt
from ..core.drawing import GenerationRequest
from ..core.registry import Schedule
from ..models.diffusion_model import DiffusionModel
from ..models.target_images import Targets
from .base import PromptState, lane_generator, note_overflow
from .classifier_loss import ClassifierLoss
from .denoising_loss import LossQuery, errors, gradients
from .schedules import TokenSwapSchedule
from .search_space import SearchSpace
from .slots import Slots, lay_out, propose

Choice = tuple[int, ...]
"""What stands in the slots, as indices into the typeable tokens."""


@dataclass(eq=False)
class SwapLane(PromptState):
    """A lane that searches tokens, one swap a round.

    Attributes:
        slots: the prompt with room for the tokens.
        x0: latents (C, h, w) of the target image.
        noise: the lane's bank (M, C, h, w), one draw for each timestep; every choice meets the same, until the search
            begins again.
        choice: where the search stands.
        tried: every choice that has been measured on the whole bank.
        contrast: other prompts on the bank, where the loss is a classifier's.
    """

    slots: Slots = field(kw_only=True)
    x0: torch.Tensor = field(kw_only=True)
    noise: torch.Tensor = field(init=False)
    choice: Choice = field(default=(), init=False)
    tried: set[Choice] = field(default_factory=set, init=False)
    contrast: ClassifierLoss | None = field(default=None, kw_only=True)


class CoordinateSearch:
    """Greedy coordinate descent on the denoising error (after GCG, Zou et al. 2023, arXiv 2307.15043).

    A round takes the gradient where the lane stands and lets it name the most promising swaps of one token. They are
    screened at one entry of the lane's bank of timesteps and noise, the best of them measured on the whole bank; the
    lane moves to the best of those and proposes its image. It moves even where that is worse than what it leaves, and
    measures no choice twice, so that it cannot stand still. What a few rounds do not find, many rounds from the same
    tokens seldom do, so that it begins again at others, with noise of their own.

    Args:
        spec: slots, placement and schedule.
        victim: what is attacked.
        schedule: how much work, where not the configuration's.
    """

    def __init__(self, spec: AttackConfig, victim: DiffusionModel, schedule: Schedule | None = None) -> None:
        schedule = schedule or spec.settings
        assert isinstance(schedule, TokenSwapSchedule)
        self._spec = spec
        self._schedule = schedule
        self._timesteps = [victim.timestep(share) for share in schedule.timesteps]
        self._bank = range(len(self._timesteps))
        self._space = SearchSpace(victim.vocabulary, typeable=True)
        self._tokens = self._space.tokens

    def start(
        self, prompts: Sequence[Prompt], victim: DiffusionModel, targets: Targets | None, seed: int
    ) -> list[SwapLane]:
        """A fresh lane for each prompt, at random tokens."""
        assert targets is not None
        latents = targets.latents(prompts, victim)
        return [self._lane(prompt, x0, victim, seed) for prompt, x0 in zip(prompts, latents, strict=True)]

    def _lane(self, prompt: Prompt, x0: torch.Tensor, victim: DiffusionModel, seed: int) -> SwapLane:
        slots = lay_out(prompt.text, self._spec.slots, self._spec.placement, victim.vocabulary)
        return self._begin(SwapLane(prompt, lane_generator(seed, prompt), slots=slots, x0=x0.clone()), victim)

    def _begin(self, lane: SwapLane, victim: DiffusionModel) -> SwapLane:
        """Stand at random tokens, with a fresh bank."""
        lane.noise = torch.randn((len(self._timesteps), *lane.x0.shape), generator=lane.generator)
        lane.choice = tuple(torch.randint(len(self._tokens), (self._spec.slots,), generator=lane.generator).tolist())
        lane.tried.add(lane.choice)
        if self._spec.loss == "classifier":
            # What the victim makes of the prompt as it is, and of no prompt: what the attack has to win against.
            probes = self._probes(lane, lane.choice, self._bank)
            lane.contrast = ClassifierLoss.against([lane.prompt.text, ""], probes, victim)
            lane.forwards += lane.contrast.others.numel()
            note_overflow(lane, "the denoising error of the prompt as it is", lane.contrast.others)
        return lane

    def advance(self, lanes: Sequence[SwapLane], victim: DiffusionModel) -> list[GenerationRequest | None]:
        """One round on every lane, then each lane's best swap as text."""
        live = [lane for lane in lanes if lane.block < self._schedule.rounds]
        moved = self._round(live, victim) if live else []
        return [self._proposal(lane, victim) if lane in moved and lane.error is None else None for lane in lanes]

    def _round(self, lanes: list[SwapLane], victim: DiffusionModel) -> list[SwapLane]:
        """Gradient, screening, measurement, move; returns the lanes that had a swap left to try."""
        for lane in lanes:
            if lane.block and self._schedule.restart and lane.block % self._schedule.restart == 0:
                self._begin(lane, victim)
        slopes = self._slopes(lanes, victim)
        promising = [self._promising(lane, slope) for lane, slope in zip(lanes, slopes, strict=True)]
        screened = self._screened(lanes, promising, victim)
        measured = self._measured(lanes, screened, victim, [self._bank] * len(lanes))
        for lane, first, found in zip(lanes, promising, measured, strict=True):
            lane.block += 1
            lane.steps += 1
            lane.forwards += (2 + len(found)) * len(self._timesteps) + len(first)
            self._move(lane, found)
        return [lane for lane, found in zip(lanes, measured, strict=True) if found]

    def _move(self, lane: SwapLane, found: Mapping[Choice, float]) -> None:
        """Stand on the best of the choices measured, by their errors."""
        lane.tried.update(found)
        lane.choice = min(found, key=found.__getitem__, default=lane.choice)

    def _slopes(self, lanes: Sequence[SwapLane], victim: DiffusionModel) -> torch.Tensor:
        """Gradients (B, k, d) of the lanes' mean errors by the embeddings in their slots."""
        probes = [probe for lane in lanes for probe in self._probes(lane, lane.choice, self._bank)]
        found, slopes = gradients(probes, victim)
        slopes = slopes.reshape(len(lanes), -1, *slopes.shape[1:])
        for lane, row, slope in zip(lanes, found.cpu().reshape(len(lanes), -1), slopes, strict=True):
            note_overflow(lane, f"the denoising error or its gradient in round {lane.block + 1}", row, slope)
            if lane.contrast is not None:
                slope *= lane.contrast.weights(row[None], self._bank)[0].to(slope.device)[:, None, None]
        return slopes.mean(1)

    def _promising(self, lane: SwapLane, slope: torch.Tensor) -> list[Choice]:
        """The untried swaps of one token that promise most to first order, as many in every slot.

        Every slot has its turn because gradients differ in size from slot to slot: ranked together, the slot with the
        largest would take all swaps, and undo in each round what it gained in the one before.
        """
        promise = -(slope @ self._embeddings.T)
        ranked = promise.argsort(dim=-1, descending=True, stable=True).T.tolist()
        swaps = (
            (*lane.choice[:slot], token, *lane.choice[slot + 1 :])
            for tokens in ranked
            for slot, token in enumerate(tokens)
        )
        return list(itertools.islice((swap for swap in swaps if swap not in lane.tried), self._schedule.screened))

    def _screened(
        self, lanes: Sequence[SwapLane], promising: Sequence[Sequence[Choice]], victim: DiffusionModel
    ) -> list[list[Choice]]:
        """The best of each lane's promising swaps at one entry of its bank, another one each round."""
        entries = [[lane.block % len(self._timesteps)] for lane in lanes]
        rough = self._measured(lanes, promising, victim, entries)
        return [sorted(found, key=found.__getitem__)[: self._schedule.measured] for found in rough]

    def _measured(
        self,
        lanes: Sequence[SwapLane],
        choices: Sequence[Sequence[Choice]],
        victim: DiffusionModel,
        entries: Sequence[Sequence[int]],
    ) -> list[dict[Choice, float]]:
        """For each lane, the mean losses of these choices at these entries of its bank."""
        probes = [
            probe
            for lane, row, which in zip(lanes, choices, entries, strict=True)
            for choice in row
            for probe in self._probes(lane, choice, which)
        ]
        found = errors(probes, victim).reshape(-1, len(entries[0]))
        ends = itertools.accumulate(len(row) for row in choices)
        rows = [found[end - len(row) : end] for row, end in zip(choices, ends, strict=True)]
        for lane, row in zip(lanes, rows, strict=True):
            note_overflow(lane, f"the denoising error in round {lane.block + 1}", row)
        losses = [self._losses(lane, row, which) for lane, row, which in zip(lanes, rows, entries, strict=True)]
        means = iter(torch.cat(losses).mean(1).tolist())
        return [{choice: next(means) for choice in row} for row in choices]

    def _losses(self, lane: SwapLane, found: torch.Tensor, entries: Sequence[int]) -> torch.Tensor:
        """Losses (N, E) of choices with these errors (N, E)."""
        return found if lane.contrast is None else lane.contrast.loss(found, entries)

    def _probes(self, lane: SwapLane, choice: Choice, entries: Sequence[int]) -> list[LossQuery]:
        """A choice at these entries of its lane's bank."""
        tokens = self._ids(choice)
        return [LossQuery(lane.slots, tokens, lane.x0, lane.noise[m], self._timesteps[m]) for m in entries]

    def _ids(self, choice: Choice) -> list[int]:
        return [int(self._tokens[index]) for index in choice]

    @cached_property
    def _embeddings(self) -> torch.Tensor:
        """Embeddings (V', d) float32 of the typeable tokens."""
        return self._space.embeddings.float()

    def _proposal(self, lane: SwapLane, victim: DiffusionModel) -> GenerationRequest:
        return propose(lane, lane.slots, self._ids(lane.choice), victim.vocabulary)
