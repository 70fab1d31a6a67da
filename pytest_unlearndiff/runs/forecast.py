"""Forecast of the time that a running campaign still takes, from its work in forward passes of the network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..core.device import NETWORK_BATCH, Probe, network_batch
from ..core.info import Effort
from ..core.outcome import Outcome, Status, computed_forwards
from .campaign import Campaign, RunEstimate, StopCondition
from .local_backend import PromptEngine

_PRIOR_HITS, _PRIOR_ROUNDS = 0.5, 6.0
"""Hits and prompt rounds that count as if they had been seen, until there are more of them."""
_NEGLIGIBLE = 0.05


@dataclass(frozen=True)
class PromptWork:
    """Forward passes that one prompt costs.

    Attributes:
        image: of an image.
        target: of the target image.
        search: of one round's search.
        rounds: of a prompt that resists.
        images: drawn without attack, and after each round.
    """

    image: int
    target: int
    search: float
    rounds: int
    images: int = 1

    @property
    def drawing(self) -> int:
        """Forward passes of the images without attack, or of those after one round."""
        return self.images * self.image

    @classmethod
    def of(cls, campaign: Campaign) -> PromptWork | None:
        """Return the work of a campaign's prompts; None where the attack does not say how much it is."""
        attack, steps = campaign.attack, campaign.concept.sampling.steps
        image, images = 2 * steps, attack.images_per_prompt
        if attack.info.unattacked:
            return cls(image, 0, 0.0, 0, images)
        if attack.info.effort is Effort.OPEN:
            return None
        if attack.info.effort is Effort.MATCHED:
            return cls(image, 0, 0.0, attack.matched_rounds(image), images)
        drawn = attack.info.needs_targets and not campaign.concept.images
        target = 2 * (steps if attack.targets is None else attack.targets.steps)
        search = attack.forward_passes(0) / attack.last_round
        return cls(image, target if drawn else 0, search, attack.last_round, images)


def estimate_from_probe(campaign: Campaign, estimate: RunEstimate, probe: Probe) -> RunEstimate:
    """Fill in the seconds of a run: between all prompts hit without attack, and all that resist to the end."""
    if (work := PromptWork.of(campaign)) is None:
        return estimate
    most = work.drawing + (work.target if work.rounds else 0) + work.rounds * (work.search + work.drawing)
    each = probe.seconds * estimate.left
    return replace(estimate, seconds=work.drawing * each, worst_case_seconds=most * each)


@dataclass(frozen=True)
class Odds:
    """Chances of prompts, from those that were attacked so far.

    Attributes:
        plain: that the un-attacked image ends a prompt.
        hit: that one round does.
    """

    plain: float
    hit: float

    @classmethod
    def of(cls, outcomes: Iterable[Outcome], running: Sequence[float], images: int = 1) -> Odds:
        """Count hits in outcomes, and the rounds that they and the running prompts took, of so many images each."""
        ended = [outcome for outcome in outcomes if outcome.status is not Status.ERROR]
        plain = sum(outcome.status is Status.HIT_WITHOUT_ATTACK for outcome in ended)
        hits = sum(outcome.status is Status.HIT_UNDER_ATTACK for outcome in ended)
        rounds = sum(max(outcome.evaluations // images - 1, 0) for outcome in ended) + sum(running)
        tested = len(ended) + len(running)
        return cls(plain / tested if tested else 0.0, (hits + _PRIOR_HITS) / (rounds + _PRIOR_ROUNDS))


@dataclass
class _Group:
    """Prompts, as an expected number, that have done the same number of rounds."""

    size: float
    rounds: float


def passes_left(
    work: PromptWork,
    odds: Odds,
    *,
    untested: int,
    waiting: int,
    running: Sequence[float],
    room: int,
    batch: int = NETWORK_BATCH,
    is_decided: Callable[[float, float], bool] = lambda hits, misses: False,
) -> float:
    """Play the rest of a campaign through, with expected numbers of prompts.

    Args:
        work: of one prompt.
        odds: of a prompt.
        untested: prompts whose un-attacked image has to be drawn.
        waiting: prompts that wait for their attack.
        running: rounds done by each prompt under attack.
        room: prompts attacked together.
        batch: samples in one call of the network.
        is_decided: tells whether so many more hits and misses end the campaign.

    Returns:
        Forward passes, those on copies that fill up the network's batches included.
    """
    passes = _filled(untested * work.images, batch) * work.image
    queue = waiting + untested * (1 - odds.plain)
    hits, misses = untested * odds.plain, 0.0
    groups = [_Group(1.0, done) for done in running if done < work.rounds]
    while work.rounds and (groups or queue > _NEGLIGIBLE) and not is_decided(hits, misses):
        if (begun := min(queue, room - sum(group.size for group in groups))) > _NEGLIGIBLE:
            groups.append(_Group(begun, 0.0))
            queue -= begun
            passes += _filled(begun, batch) * work.target
        size = sum(group.size for group in groups)
        passes += size * work.search + _filled(size * work.images, batch) * work.image
        for group in groups:
            hits += group.size * odds.hit
            group.size *= 1 - odds.hit
            group.rounds += 1
        misses += sum(group.size for group in groups if group.rounds >= work.rounds)
        groups = [group for group in groups if group.rounds < work.rounds and group.size > _NEGLIGIBLE]
    return passes


def _filled(samples: float, batch: int) -> float:
    """Return the samples of the batches that so many take; an expected number below one fills its share."""
    return batch * (samples if samples < 1 else -(-samples // batch))


class TimeForecast:
    """Seconds that a campaign still takes: passes left, at the pace of those computed since construction.

    Args:
        campaign: the campaign.
        stop: when the rest of its prompts is left alone.
        missing: prompts to attack.
        batch_size: prompts attacked together in one process.
        device: where the model runs.
        expected: seconds of the whole run, as far as the store has outcomes that tell.
    """

    def __init__(
        self,
        campaign: Campaign,
        stop: StopCondition,
        missing: int,
        batch_size: int,
        *,
        device: str = "cpu",
        expected: float | None = None,
    ) -> None:
        self._campaign, self._stop, self._missing, self._batch_size = campaign, stop, missing, batch_size
        self._batch, self._expected = network_batch(device), expected
        self._work = PromptWork.of(campaign)
        self._started, self._computed = time.monotonic(), computed_forwards()
        self._fresh: list[Outcome] = []

    @property
    def seconds(self) -> float:
        """Seconds since construction."""
        return time.monotonic() - self._started

    def add(self, outcome: Outcome) -> None:
        """Take in an outcome of this run."""
        self._fresh.append(outcome)

    def seconds_left(self, engine: PromptEngine, outcomes: Mapping[str, Outcome]) -> float | None:
        """Forecast the time left; None before anything was computed or is known from the store.

        Args:
            engine: attacks the campaign.
            outcomes: of all its prompts that have one.
        """
        computed, missing = computed_forwards() - self._computed, self._missing - len(self._fresh)
        if self._work is None or not computed:  # prompts of an unknown attack take as long as those that ended
            return self.seconds / len(self._fresh) * missing if self._fresh else self._expected
        running = self._rounds_done(engine, self._work, computed)
        if engine.worker_count:  # each draws the un-attacked images of its own prompts
            untested = missing - len(running)
        else:  # those of all prompts come first
            untested = 0 if running else min(max(self._missing - computed // self._work.drawing, 0), missing)
        passes = passes_left(
            self._work,
            Odds.of(outcomes.values(), running, self._campaign.attack.images_per_prompt),
            untested=untested,
            waiting=missing - untested - len(running),
            running=running,
            room=self._batch_size * max(engine.worker_count, 1),
            batch=self._batch,
            is_decided=self._is_decided(outcomes),
        )
        return passes * self.seconds / computed

    def _rounds_done(self, engine: PromptEngine, work: PromptWork, computed: int) -> list[float]:
        """Return the rounds that each prompt under attack has done; only workers know, so theirs are worked out."""
        if not engine.worker_count or not work.rounds:
            return [float(round_ - 1) for round_ in engine.rounds]
        unfinished = computed - sum(outcome.forwards for outcome in self._fresh)
        each = unfinished / max(engine.active, 1) / (work.search + work.drawing)
        return [min(max(each, 0.0), work.rounds - 1.0)] * engine.active

    def _is_decided(self, outcomes: Mapping[str, Outcome]) -> Callable[[float, float], bool]:
        counts = self._campaign.counts(outcomes)

        def is_decided(hits: float, misses: float) -> bool:
            more = int(hits), int(misses)
            expected = replace(
                counts, hits=counts.hits + more[0], misses=counts.misses + more[1], unknown=counts.unknown - sum(more)
            )
            return self._campaign.is_decided(expected, self._stop)

        return is_decided
