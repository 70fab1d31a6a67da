"""What ``fast`` could have been: each lever turned alone, at about the same network forward passes a prompt."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from pytest_unlearndiff.attacks.base import PromptState
from pytest_unlearndiff.attacks.schedules import UNLEARNDIFF, TokenSwapSchedule
from pytest_unlearndiff.attacks.slots import Choice, SearchSpace
from pytest_unlearndiff.attacks.token_swaps import SwapState, TokenSwapAttack
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.images import Evaluated, GenerationRequest, Judgement
from pytest_unlearndiff.models.diffusion_model import DiffusionModel

_FAST = UNLEARNDIFF["fast"]
assert isinstance(_FAST, TokenSwapSchedule)
FAST: TokenSwapSchedule = _FAST
_GRADIENT = 2 * len(FAST.timesteps)


class RankedTogether(TokenSwapAttack):
    """The gradient names swaps of all slots in one ranking, instead of as many in every slot."""

    def _promising(self, state: SwapState, slope: torch.Tensor) -> list[Choice]:
        promise = -(slope @ self._space.embeddings.T)
        here = promise.gather(1, torch.tensor(state.choice)[:, None])
        ranked = (promise - here).flatten().argsort(descending=True, stable=True).tolist()
        places = (divmod(place, promise.shape[1]) for place in ranked)
        swaps = ((*state.choice[:slot], token, *state.choice[slot + 1 :]) for slot, token in places)
        return list(itertools.islice((swap for swap in swaps if swap not in state.tried), self._schedule.screened))


class NoGradient(TokenSwapAttack):
    """Swaps to measure are drawn at random, instead of named by the gradient."""

    def _slopes(self, states: Sequence[SwapState]) -> torch.Tensor:
        shape = (self._config.slots, self._space.embeddings.shape[1])
        for state in states:
            state.forwards -= _GRADIENT
        return torch.stack([torch.randn(shape, generator=state.generator) for state in states])


class OnlyDown(TokenSwapAttack):
    """The state moves only where the best swap measured is better than where it stands."""

    def _move(self, state: SwapState, found: Mapping[Choice, float]) -> None:
        best = getattr(state, "best", (float("inf"), state.choice))
        super()._move(state, found)
        if found:
            best = min(best, (found[state.choice], state.choice))
            state.choice = best[1]
            state.best = best  # type: ignore[attr-defined]


class FreshNoise(TokenSwapAttack):
    """Each round meets new noise, instead of the state's own bank."""

    def _run_round(self, states: list[SwapState]) -> list[SwapState]:
        for state in states:
            state.noise = torch.randn(state.noise.shape, generator=state.generator)
        return super()._run_round(states)


class WholeVocabulary(TokenSwapAttack):
    """Every token may be chosen, also those that a person cannot type, so that another text may be drawn."""

    def __init__(self, spec: AttackConfig, victim: DiffusionModel, schedule: TokenSwapSchedule) -> None:
        super().__init__(spec, victim, schedule)
        self._space = SearchSpace(victim.vocabulary, typeable=False)


class Drafted(TokenSwapAttack):
    """What is measured is drawn in a fifth of the steps, and in full only where the judge sees the concept there.

    Images that are left when the rounds are over go to the drafts that came nearest.

    Args:
        spec: as ``TokenSwapAttack``'s.
        schedule: as ``TokenSwapAttack``'s.
        victim: as ``TokenSwapAttack``'s.
        judged: what the judge says of drafts.
    """

    STEPS = 5
    """One of so many steps of an image is a draft's."""
    IMAGES = 6
    """Full images a prompt, at most."""

    def __init__(
        self,
        spec: AttackConfig,
        victim: DiffusionModel,
        schedule: TokenSwapSchedule,
        judged: Callable[[Sequence[GenerationRequest]], list[Evaluated]],
    ) -> None:
        super().__init__(spec, victim, schedule)
        self._judged = judged
        self._drafts: dict[PromptState, list[tuple[Judgement, Choice]]] = defaultdict(list)
        self._drawn: Counter[PromptState] = Counter()

    def _move(self, state: SwapState, found: Mapping[Choice, float]) -> None:
        super()._move(state, found)
        drawings = [self._drawing(state, choice) for choice in found]
        judgements = [each.judgement for each in self._judged(drawings)]
        self._drafts[state] += [(j, choice) for j, choice in zip(judgements, found, strict=True) if j is not None]

    def _drawing(self, state: SwapState, choice: Choice) -> GenerationRequest:
        here, state.choice = state.choice, choice
        drawing = self._request(state)
        state.choice = here
        return drawing

    def advance(self, states: Sequence[SwapState]) -> list[GenerationRequest | None]:
        before = {state: state.round for state in states}
        super().advance(states)
        for state in states:
            measured = self._schedule.measured if state.round > before[state] else 0
            state.forwards += measured * self._model.forwards_per_image // self.STEPS
        return [self._next(state) for state in states]

    def _next(self, state: SwapState) -> GenerationRequest | None:
        """A draft to draw in full, or an image that is known already where another round comes first."""
        over, drafts = state.round == self._schedule.rounds, self._drafts[state]
        best = max(drafts, key=lambda draft: (draft[0].hit, draft[0].score), default=None)
        if best is not None and self._drawn[state] < self.IMAGES and (best[0].hit or over):
            drafts.remove(best)
            self._drawn[state] += 1
            return self._drawing(state, best[1])
        if over:
            return None
        state.forwards -= self._model.forwards_per_image  # the engine counts it, but does not draw it again
        return GenerationRequest(state.prompt.text, state.prompt.seed, state.prompt.guidance)


@dataclass(frozen=True)
class Lever:
    """One way to search.

    Attributes:
        search: how.
        schedule: with how much work.
        saved: network forward passes a round that the schedule counts and the search does not spend.
    """

    search: type[TokenSwapAttack]
    schedule: TokenSwapSchedule
    saved: int = 0

    def work(self, image: int) -> int:
        """As ``TokenSwapSchedule.forward_passes``."""
        if self.search is Drafted:
            drafts = self.schedule.rounds * self.schedule.measured * image // Drafted.STEPS
            return self.schedule.forward_passes(0) + drafts + Drafted.IMAGES * image
        return self.schedule.forward_passes(image) - self.saved * self.schedule.rounds


LEVERS = {
    "fast, slots ranked together": Lever(RankedTogether, FAST),
    "fast, no gradient": Lever(NoGradient, replace(FAST, screened=FAST.screened + _GRADIENT), saved=_GRADIENT),
    "fast, only downhill": Lever(OnlyDown, FAST),
    "fast, fresh noise": Lever(FreshNoise, FAST),
    "fast, bank of 1": Lever(TokenSwapAttack, replace(FAST, timesteps=(0.5,), measured=22)),
    "fast, bank of 8": Lever(
        TokenSwapAttack,
        replace(FAST, timesteps=(0.3, 0.38, 0.46, 0.54, 0.62, 0.7, 0.78, 0.86), screened=16, measured=3),
    ),
    "fast, no screening": Lever(TokenSwapAttack, replace(FAST, screened=9, measured=9)),
    "fast, 18 short rounds": Lever(TokenSwapAttack, replace(FAST, rounds=18, screened=8, measured=1)),
    "fast, timesteps over all": Lever(TokenSwapAttack, replace(FAST, timesteps=(0.125, 0.375, 0.625, 0.875))),
    "fast, whole vocabulary": Lever(WholeVocabulary, FAST),
    "fast, drafts first": Lever(Drafted, replace(FAST, rounds=10)),
    "fast, never begun again": Lever(TokenSwapAttack, replace(FAST, restart=0)),
    "fast, begun again once": Lever(TokenSwapAttack, replace(FAST, restart=FAST.rounds // 2)),
}
"""Each changes one thing; counts are set so that a prompt that resists costs about what it costs ``fast``."""
