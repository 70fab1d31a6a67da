"""What ``fast`` could have been: each lever turned alone, at about the same UNet forward passes a prompt."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from pytest_unlearndiff.attacks.coordinate_search import Choice, CoordinateSearch, SwapLane
from pytest_unlearndiff.core.attack_spec import SCHEDULES, Swaps
from pytest_unlearndiff.models.victim import Victim

_FAST = SCHEDULES["fast"]
assert isinstance(_FAST, Swaps)
FAST: Swaps = _FAST
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

    def _slopes(self, lanes: Sequence[SwapLane], victim: Victim) -> torch.Tensor:
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

    def _round(self, lanes: list[SwapLane], victim: Victim) -> list[SwapLane]:
        for lane in lanes:
            lane.noise = torch.randn(lane.noise.shape, generator=lane.generator)
        return super()._round(lanes, victim)


@dataclass(frozen=True)
class Lever:
    """One way to search.

    Attributes:
        search: how.
        schedule: with how much work.
        saved: UNet forward passes a round that the schedule counts and the search does not spend.
    """

    search: type[CoordinateSearch]
    schedule: Swaps
    saved: int = 0

    def work(self, picture: int) -> int:
        """As ``Swaps.work``."""
        return self.schedule.work(picture) - self.saved * self.schedule.rounds


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
    "fast, never begun again": Lever(CoordinateSearch, replace(FAST, restart=0)),
    "fast, begun again once": Lever(CoordinateSearch, replace(FAST, restart=FAST.rounds // 2)),
}
"""Each changes one thing; counts are set so that a prompt that resists costs about what it costs ``fast``."""
