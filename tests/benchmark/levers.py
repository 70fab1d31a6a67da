"""What ``fast`` could have been: each lever turned alone, at about the same UNet forward passes a prompt."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from pytest_unlearndiff.attacks.base import PromptState
from pytest_unlearndiff.attacks.schedules import UNLEARNDIFF, TokenSwapSchedule
from pytest_unlearndiff.attacks.search_space import SearchSpace
from pytest_unlearndiff.attacks.token_swaps import Choice, CoordinateSearch, SwapLane
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.drawing import GenerationRequest
from pytest_unlearndiff.core.judgement import Evaluated, Judgement
from pytest_unlearndiff.models.diffusion_model import DiffusionModel

_FAST = UNLEARNDIFF["fast"]
assert isinstance(_FAST, TokenSwapSchedule)
FAST: TokenSwapSchedule = _FAST
_GRADIENT = 2 * len(FAST.timesteps)


class RankedTogether(CoordinateSearch):
    """The gradient names swaps of all slots in one ranking, instead of as many in every slot."""

    def _promising(self, lane: SwapLane, slope: torch.Tensor) -> list[Choice]:
        promise = -(slope @ self._embeddings.T)
        here = promise.gather(1, torch.tensor(lane.choice)[:, None])
        ranked = (promise - here).flatten().argsort(descending=True, stable=True).tolist()
        places = (divmod(place, promise.shape[1]) for place in ranked)
        swaps = ((*lane.choice[:slot], token, *lane.choice[slot + 1 :]) for slot, token in places)
        return list(itertools.islice((swap for swap in swaps if swap not in lane.tried), self._schedule.screened))


class NoGradient(CoordinateSearch):
    """Swaps to measure are drawn at random, instead of named by the gradient."""

    def _slopes(self, lanes: Sequence[SwapLane], victim: DiffusionModel) -> torch.Tensor:
        shape = (self._spec.slots, self._embeddings.shape[1])
        for lane in lanes:
            lane.forwards -= _GRADIENT
        return torch.stack([torch.randn(shape, generator=lane.generator) for lane in lanes])


class OnlyDown(CoordinateSearch):
    """The lane moves only where the best swap measured is better than where it stands."""

    def _move(self, lane: SwapLane, found: Mapping[Choice, float]) -> None:
        best = getattr(lane, "best", (float("inf"), lane.choice))
        super()._move(lane, found)
        if found:
            best = min(best, (found[lane.choice], lane.choice))
            lane.choice = best[1]
            lane.best = best  # type: ignore[attr-defined]


class FreshNoise(CoordinateSearch):
    """Each round meets new noise, instead of the lane's own bank."""

    def _round(self, lanes: list[SwapLane], victim: DiffusionModel) -> list[SwapLane]:
        for lane in lanes:
            lane.noise = torch.randn(lane.noise.shape, generator=lane.generator)
        return super()._round(lanes, victim)


class WholeVocabulary(CoordinateSearch):
    """Every token may be chosen, also those that a person cannot type, so that another text may be drawn."""

    def __init__(self, spec: AttackConfig, victim: DiffusionModel, schedule: TokenSwapSchedule) -> None:
        super().__init__(spec, victim, schedule)
        self._space = SearchSpace(victim.vocabulary, typeable=False)
        self._tokens = self._space.tokens


class Drafted(CoordinateSearch):
    """What is measured is drawn in a fifth of the steps, and in full only where the judge sees the concept there.

    Images that are left when the rounds are over go to the drafts that came nearest.

    Args:
        spec: as ``CoordinateSearch``'s.
        schedule: as ``CoordinateSearch``'s.
        victim: as ``CoordinateSearch``'s.
        judged: what the judge says of drafts.
    """

    STEPS = 5
    """One of so many steps of a image is a draft's."""
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

    def _move(self, lane: SwapLane, found: Mapping[Choice, float]) -> None:
        super()._move(lane, found)
        drawings = [self._drawing(lane, choice) for choice in found]
        judgements = [each.judgement for each in self._judged(drawings)]
        self._drafts[lane] += [(j, choice) for j, choice in zip(judgements, found, strict=True) if j is not None]

    def _drawing(self, lane: SwapLane, choice: Choice) -> GenerationRequest:
        here, lane.choice = lane.choice, choice
        drawing = self._proposal(lane, self._victim)
        lane.choice = here
        return drawing

    def advance(self, lanes: Sequence[SwapLane], victim: DiffusionModel) -> list[GenerationRequest | None]:
        self._victim = victim
        before = {lane: lane.block for lane in lanes}
        super().advance(lanes, victim)
        for lane in lanes:
            measured = self._schedule.measured if lane.block > before[lane] else 0
            lane.forwards += measured * victim.forwards_per_image // self.STEPS
        return [self._next(lane, victim) for lane in lanes]

    def _next(self, lane: SwapLane, victim: DiffusionModel) -> GenerationRequest | None:
        """A draft to draw in full, or a image that is known already where another round comes first."""
        over, drafts = lane.block == self._schedule.rounds, self._drafts[lane]
        best = max(drafts, key=lambda draft: (draft[0].hit, draft[0].score), default=None)
        if best is not None and self._drawn[lane] < self.IMAGES and (best[0].hit or over):
            drafts.remove(best)
            self._drawn[lane] += 1
            return self._drawing(lane, best[1])
        if over:
            return None
        lane.forwards -= victim.forwards_per_image  # the engine counts it, but does not draw it again
        return GenerationRequest(lane.prompt.text, lane.prompt.seed, lane.prompt.guidance)


@dataclass(frozen=True)
class Lever:
    """One way to search.

    Attributes:
        search: how.
        schedule: with how much work.
        saved: UNet forward passes a round that the schedule counts and the search does not spend.
    """

    search: type[CoordinateSearch]
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
    "fast, bank of 1": Lever(CoordinateSearch, replace(FAST, timesteps=(0.5,), measured=22)),
    "fast, bank of 8": Lever(
        CoordinateSearch,
        replace(FAST, timesteps=(0.3, 0.38, 0.46, 0.54, 0.62, 0.7, 0.78, 0.86), screened=16, measured=3),
    ),
    "fast, no screening": Lever(CoordinateSearch, replace(FAST, screened=9, measured=9)),
    "fast, 18 short rounds": Lever(CoordinateSearch, replace(FAST, rounds=18, screened=8, measured=1)),
    "fast, timesteps over all": Lever(CoordinateSearch, replace(FAST, timesteps=(0.125, 0.375, 0.625, 0.875))),
    "fast, whole vocabulary": Lever(WholeVocabulary, FAST),
    "fast, drafts first": Lever(Drafted, replace(FAST, rounds=10)),
    "fast, never begun again": Lever(CoordinateSearch, replace(FAST, restart=0)),
    "fast, begun again once": Lever(CoordinateSearch, replace(FAST, restart=FAST.rounds // 2)),
}
"""Each changes one thing; counts are set so that a prompt that resists costs about what it costs ``fast``."""
