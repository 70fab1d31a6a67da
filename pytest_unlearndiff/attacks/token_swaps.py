"""UnlearnDiffAtk's loss searched by token swaps: a gradient proposes, a bank of noise decides."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ..core.attack_config import AttackConfig
from ..core.concept import Prompt
from ..core.images import GenerationRequest
from ..core.info import Schedule
from ..models.diffusion_model import DiffusionModel
from ..models.families.vocabulary import Slots
from ..models.target_images import Targets
from .base import PromptAttack, PromptState, note_overflow, prompt_generator
from .losses import ClassifierLoss, LossQuery, denoising_losses, gradients
from .schedules import TokenSwapSchedule
from .slots import Choice, SearchSpace, choice_rows, propose, slots_of, swapped, token_ids


@dataclass(eq=False)
class SwapState(PromptState):
    """A prompt whose tokens are searched one swap per round.

    Attributes:
        slots: the prompt with room for the tokens.
        x0: latents (C, h, w) of the target image.
        noise: the state's bank (M, C, h, w), one draw per timestep; every choice meets the same, until the search
            restarts.
        choice: where the search stands.
        tried: every choice that has been measured on the whole bank.
        classifier: the loss against other prompts on the bank, where it is a classifier's.
    """

    slots: Slots = field(kw_only=True)
    x0: torch.Tensor = field(kw_only=True)
    noise: torch.Tensor = field(init=False)
    choice: Choice = field(default=(), init=False)
    tried: set[Choice] = field(default_factory=set, init=False)
    classifier: ClassifierLoss | None = field(default=None, init=False)


class TokenSwapAttack(PromptAttack[SwapState]):
    """Greedy coordinate descent on the denoising error (after GCG, Zou et al. 2023, arXiv 2307.15043).

    A round takes the gradient where the state stands and lets it name the most promising swaps of one token. They are
    screened at one entry of the state's bank of timesteps and noise, the best of them measured on the whole bank; the
    state moves to the best of those and requests its image. It always moves to the best unseen choice, even uphill, so
    it cannot get stuck. Many rounds from the same tokens seldom find what a few did not, so the search restarts at
    other random tokens, with other noise.

    Args:
        config: slots, placement, loss and schedule.
        model: the victim.
        schedule: how much work, where not the configuration's.
    """

    def __init__(self, config: AttackConfig, model: DiffusionModel, schedule: Schedule | None = None) -> None:
        super().__init__(config, model)
        schedule = schedule or config.settings
        assert isinstance(schedule, TokenSwapSchedule)
        self._schedule = schedule
        self._timesteps = [model.timestep(fraction) for fraction in schedule.timesteps]
        self._bank = range(len(self._timesteps))
        self._space = SearchSpace(model.vocabulary, typeable=True)

    def start(self, prompts: Sequence[Prompt], targets: Targets | None, seed: int) -> list[SwapState]:
        """Return a fresh state for each prompt, at random tokens."""
        assert targets is not None
        latents = targets.latents(prompts, self._model)
        states = [
            SwapState(prompt, prompt_generator(seed, prompt), slots=self._slots(prompt), x0=x0.clone())
            for prompt, x0 in zip(prompts, latents, strict=True)
        ]
        for state in states:
            self._restart(state)
        return states

    def _slots(self, prompt: Prompt) -> Slots:
        return slots_of(self._config, prompt.text, self._model.vocabulary)

    def _restart(self, state: SwapState) -> None:
        """Move to random tokens, with a fresh bank."""
        state.noise = torch.randn((len(self._timesteps), *state.x0.shape), generator=state.generator)
        tokens = torch.randint(len(self._space.tokens), (self._config.slots,), generator=state.generator)
        state.choice = tuple(tokens.tolist())
        state.tried.add(state.choice)
        if self._config.loss == "classifier":
            # The victim's errors with the prompt as it is, and with no prompt, against which the attack has to win.
            queries = self._queries(state, state.choice, self._bank)
            state.classifier = ClassifierLoss.against([state.prompt.text, ""], queries, self._model)
            state.forwards += state.classifier.others.numel()
            note_overflow(state, "the denoising error of the prompt as it is", state.classifier.others)

    def _tensors(self, state: SwapState) -> dict[str, torch.Tensor]:
        tried = choice_rows(sorted(state.tried), self._config.slots)
        others = {} if state.classifier is None else {"others": state.classifier.others}
        choice = torch.tensor(state.choice, dtype=torch.int64)
        return {"x0": state.x0, "noise": state.noise, "choice": choice, "tried": tried, **others}

    def _restore(
        self, prompt: Prompt, generator: torch.Generator, tensors: Mapping[str, torch.Tensor], targets: Targets | None
    ) -> SwapState:
        x0 = tensors["x0"].to(self._model.device, copy=True)
        state = SwapState(prompt, generator, slots=self._slots(prompt), x0=x0)
        state.noise, state.choice = tensors["noise"].clone(), tuple(tensors["choice"].tolist())
        state.tried = set(map(tuple, tensors["tried"].tolist()))
        if self._config.loss == "classifier":
            state.classifier = ClassifierLoss(tensors["others"].clone(), x0.numel())
        return state

    def advance(self, states: Sequence[SwapState]) -> list[GenerationRequest | None]:
        """Do one round on every state, then return its best swap as text."""
        live = [state for state in states if state.round < self._schedule.rounds]
        moved = self._run_round(live) if live else []
        return [self._request(state) if state in moved and state.error is None else None for state in states]

    def _run_round(self, states: list[SwapState]) -> list[SwapState]:
        """Take gradients, screen, measure and move; return the states that had a swap left to try."""
        for state in states:
            if state.round and self._schedule.restart and state.round % self._schedule.restart == 0:
                self._restart(state)
        promising = [self._promising(*pair) for pair in zip(states, self._slopes(states), strict=True)]
        screened = self._screen(states, promising)
        measured = self._measure(states, screened, [self._bank] * len(states))
        for state, first, losses in zip(states, promising, measured, strict=True):
            state.round += 1
            state.steps += 1
            state.forwards += (2 + len(losses)) * len(self._timesteps) + len(first)
            self._move(state, losses)
        return [state for state, losses in zip(states, measured, strict=True) if losses]

    def _move(self, state: SwapState, losses: Mapping[Choice, float]) -> None:
        """Move to the measured choice of the lowest loss."""
        state.tried.update(losses)
        state.choice = min(losses, key=losses.__getitem__, default=state.choice)

    def _slopes(self, states: Sequence[SwapState]) -> torch.Tensor:
        """Return gradients (B, k, d) of the states' mean losses by the embeddings in their slots."""
        queries = [query for state in states for query in self._queries(state, state.choice, self._bank)]
        errors, slopes = gradients(queries, self._model)
        slopes, rows = slopes.reshape(len(states), -1, *slopes.shape[1:]), errors.cpu().reshape(len(states), -1)
        finite = slopes.isfinite().flatten(1).all(1).tolist()
        for state, row, slope, good in zip(states, rows, slopes, finite, strict=True):
            numbers = (row,) if good else (row, slope)
            note_overflow(state, f"the denoising error or its gradient in round {state.round + 1}", *numbers)
            if state.classifier is not None:
                slope *= state.classifier.weights(row[None], self._bank)[0].to(slope.device)[:, None, None]
        return slopes.mean(1)

    def _promising(self, state: SwapState, slope: torch.Tensor) -> list[Choice]:
        """Return the untried swaps of one token that promise most to first order, as many in every slot.

        Gradients differ in size from slot to slot: ranked together, the slot with the largest would take all swaps, and
        undo in each round what it gained in the one before.
        """
        promise = -(slope @ self._space.embeddings.T)
        # Each token of each slot makes another swap, but for the choice itself, which every slot makes.
        enough = (self._schedule.screened + len(state.tried)) // len(promise) + 2
        ranked = zip(*(_best(row, enough) for row in promise), strict=True)
        return self._untried(state, ((slot, token) for tokens in ranked for slot, token in enumerate(tokens)))

    def _untried(self, state: SwapState, ranked: Iterable[tuple[int, int]]) -> list[Choice]:
        """Return the first untried choices that (slot, token) swaps make, as many as are screened."""
        swaps = (swapped(state.choice, slot, token) for slot, token in ranked)
        return list(itertools.islice((swap for swap in swaps if swap not in state.tried), self._schedule.screened))

    def _screen(self, states: Sequence[SwapState], promising: Sequence[Sequence[Choice]]) -> list[list[Choice]]:
        """Return the best of each state's promising swaps at one entry of its bank, another one each round."""
        entries = [[state.round % len(self._timesteps)] for state in states]
        rough = self._measure(states, promising, entries)
        return [sorted(losses, key=losses.__getitem__)[: self._schedule.measured] for losses in rough]

    def _measure(
        self, states: Sequence[SwapState], choices: Sequence[Sequence[Choice]], entries: Sequence[Sequence[int]]
    ) -> list[dict[Choice, float]]:
        """Return, for each state, the mean losses of these choices at these entries of its bank."""
        queries = [
            query
            for state, row, at in zip(states, choices, entries, strict=True)
            for choice in row
            for query in self._queries(state, choice, at)
        ]
        errors = denoising_losses(queries, self._model).reshape(-1, len(entries[0]))
        rows = torch.split(errors, [len(row) for row in choices])
        losses = []
        for state, row, at in zip(states, rows, entries, strict=True):
            note_overflow(state, f"the denoising error in round {state.round + 1}", row)
            losses.append(row if state.classifier is None else state.classifier.loss(row, at))
        means = iter(torch.cat(losses).mean(1).tolist())
        return [{choice: next(means) for choice in row} for row in choices]

    def _queries(self, state: SwapState, choice: Choice, entries: Sequence[int]) -> list[LossQuery]:
        """Return the queries of a choice at these entries of its state's bank."""
        tokens = self._ids(choice)
        return [LossQuery(state.slots, tokens, state.x0, state.noise[m], self._timesteps[m]) for m in entries]

    def _ids(self, choice: Choice) -> list[int]:
        return token_ids(choice, self._space.tokens)

    def _request(self, state: SwapState) -> GenerationRequest:
        return propose(state, state.slots, self._ids(state.choice), self._model.vocabulary)


def _best(promise: torch.Tensor, count: int) -> list[int]:
    """Return the tokens of the highest promise (V',), in the order of a stable sort of all, which takes much longer."""
    promise = promise.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    count = min(count, len(promise))
    (tokens,) = torch.where(promise >= promise.topk(count).values[-1])
    order = promise[tokens].argsort(descending=True, stable=True)[:count]
    ranked: list[int] = tokens[order].tolist()
    return ranked
