"""MMA-Diffusion (Yang et al., CVPR 2024, arXiv 2311.17516): token swaps that bring a text close to a concept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ..core.attack_config import AttackConfig
from ..core.concept import Prompt
from ..core.images import GenerationRequest
from ..core.info import Schedule
from ..models.diffusion_model import DiffusionModel
from ..models.families.vocabulary import FilledPrompt, Slots
from ..models.target_images import Targets
from .base import PromptState, note_overflow, prompt_generator
from .schedules import EncoderSwapSchedule
from .slots import Choice, SearchSpace, propose, slots_of, swapped, token_ids
from .text_encoder import TextEncoderAttack


@dataclass(eq=False)
class EncoderSwapState(PromptState):
    """A prompt whose tokens are swapped by what the un-erased text encoder says of them.

    Attributes:
        slots: the prompt with room for the tokens.
        base: the un-erased model.
        space: its tokens and their embeddings, one for all states.
        choice: where the search stands.
        best: similarities of the best choices that have not been drawn, as many as there are rounds.
        drawn: choices that have been requested.
    """

    slots: Slots = field(kw_only=True)
    base: DiffusionModel = field(kw_only=True)
    space: SearchSpace = field(kw_only=True)
    choice: Choice = field(default=(), kw_only=True)
    best: dict[Choice, float] = field(default_factory=dict, init=False)
    drawn: set[Choice] = field(default_factory=set, init=False)


class EncoderSwapAttack(TextEncoderAttack[EncoderSwapState]):
    """Greedy coordinate gradient on the text encoder alone: maximise cos(T(prompt), T(concept)) (paper, eq. 1 and 2).

    Sees nothing of the victim but its tokenizer: T is the un-erased model's encoding. Where the paper's authors search
    20 free tokens for a sentence and ban sensitive words, here the tokens stand in the prompt's slots, as in every
    attack of this package, none is banned, since prompts name the concept themselves, and T(concept) is the mean of
    ring-a-bell's phrases with the concept's word. T is all of a text's encoding, not its pooled vector alone.

    Args:
        config: slots, placement, schedule and the concept's word.
        model: the victim.
        schedule: how much work, where not the configuration's.
    """

    def __init__(self, config: AttackConfig, model: DiffusionModel, schedule: Schedule | None = None) -> None:
        super().__init__(config, model)
        schedule = schedule or config.settings
        assert isinstance(schedule, EncoderSwapSchedule)
        self._schedule = schedule
        self._space: SearchSpace | None = None
        self._target: torch.Tensor | None = None

    def start(self, prompts: Sequence[Prompt], targets: Targets | None, seed: int) -> list[EncoderSwapState]:
        """Return a fresh state for each prompt, at random tokens.

        Raises:
            ValueError: the configuration has no word.
        """
        assert targets is not None
        self._concept(targets.base)
        states = []
        for prompt in prompts:
            state = self._state(prompt, prompt_generator(seed, prompt), targets.base)
            tokens = torch.randint(len(state.space.tokens), (self._config.slots,), generator=state.generator)
            state.choice = tuple(tokens.tolist())
            states.append(state)
        return states

    def _state(self, prompt: Prompt, generator: torch.Generator, base: DiffusionModel) -> EncoderSwapState:
        if self._space is None:
            self._space = SearchSpace(base.vocabulary, typeable=True)
        slots = slots_of(self._config, prompt.text, base.vocabulary)
        return EncoderSwapState(prompt, generator, slots=slots, base=base, space=self._space)

    def _tensors(self, state: EncoderSwapState) -> dict[str, torch.Tensor]:
        return {
            "choice": self._rows([state.choice]),
            "best": self._rows(list(state.best)),
            "similarities": torch.tensor(list(state.best.values()), dtype=torch.float64),
            "drawn": self._rows(sorted(state.drawn)),
        }

    def _restore(
        self, prompt: Prompt, generator: torch.Generator, tensors: Mapping[str, torch.Tensor], targets: Targets | None
    ) -> EncoderSwapState:
        assert targets is not None
        state = self._state(prompt, generator, targets.base)
        state.choice = tuple(tensors["choice"][0].tolist())
        best = map(tuple, tensors["best"].tolist())
        state.best = dict(zip(best, tensors["similarities"].tolist(), strict=True))
        state.drawn = set(map(tuple, tensors["drawn"].tolist()))
        return state

    def advance(self, states: Sequence[EncoderSwapState]) -> list[GenerationRequest | None]:
        """Swap tokens of every state some times, then return the best choice that has not been drawn yet."""
        return [self._advance(state) if state.round < self._schedule.rounds else None for state in states]

    def _advance(self, state: EncoderSwapState) -> GenerationRequest | None:
        state.round += 1
        for _ in range(self._schedule.iterations):
            self._swap(state)
            state.steps += 1
            if state.error is not None:
                return None
        if not state.best:
            return None
        choice = max(state.best, key=state.best.__getitem__)
        del state.best[choice]
        state.drawn.add(choice)
        return propose(state, state.slots, token_ids(choice, state.space.tokens), self._model.vocabulary)

    def _swap(self, state: EncoderSwapState) -> None:
        """Move to the best of random swaps among those that promise most to first order."""
        candidates = self._candidates(state, self._slope(state))
        vectors = self._vectors(state.slots, candidates, state.base)
        similarities = _unit(vectors) @ self._concept(state.base)
        note_overflow(state, f"the similarity of text encodings in round {state.round}", similarities)
        measured = dict(zip(candidates, similarities.tolist(), strict=True))
        state.choice = max(measured, key=measured.__getitem__)
        undrawn = {**state.best, **{choice: each for choice, each in measured.items() if choice not in state.drawn}}
        best = sorted(undrawn, key=undrawn.__getitem__, reverse=True)[: self._schedule.rounds]
        state.best = {choice: undrawn[choice] for choice in best}

    def _slope(self, state: EncoderSwapState) -> torch.Tensor:
        """Return the derivative (k, d) of the similarity by the slots' embeddings, where the search stands."""
        tokens = token_ids(state.choice, state.space.tokens)
        embeddings = state.base.vocabulary.embeddings
        slots = embeddings[torch.tensor([tokens], device=embeddings.device)].float().requires_grad_(True)
        vectors = state.base.encode([FilledPrompt(state.slots, tuple(tokens))], slots).vectors()
        scale = state.base.gradient_scale(vectors.shape[1])
        (slope,) = torch.autograd.grad((_unit(vectors) @ self._concept(state.base)).sum() * scale, slots)
        slope = slope / scale
        note_overflow(state, f"the gradient of the similarity in round {state.round}", slope)
        return slope[0]

    def _candidates(self, state: EncoderSwapState, slope: torch.Tensor) -> list[Choice]:
        """Return swaps of one token at random slots, each by a random one of the slot's most promising tokens."""
        promise = (slope @ state.space.embeddings.to(slope.device).T).cpu()
        count = (self._schedule.candidates,)
        top = promise.topk(min(self._schedule.top, promise.shape[1])).indices
        slots = torch.randint(len(top), count, generator=state.generator)
        ranks = torch.randint(top.shape[1], count, generator=state.generator)
        swaps = (swapped(state.choice, s, int(top[s, r])) for s, r in zip(slots.tolist(), ranks, strict=True))
        return list(dict.fromkeys(swaps))

    def _concept(self, base: DiffusionModel) -> torch.Tensor:
        """Return the unit vector (n,) float32 to point to, which is the same for all prompts."""
        if self._target is None:
            self._target = _unit(_unit(self._phrases(base)).mean(0))
        return self._target


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)
