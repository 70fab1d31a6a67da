"""Forecast of the time that a running campaign still takes, from its work in forward passes of the network."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import exp, log

from ..core.device import NETWORK_BATCH, Probe, network_batch
from ..core.info import Effort
from ..core.outcome import MISSES, Outcome, Status, computed_forwards
from .campaign import Campaign, RunEstimate, StopCondition
from .engine_state import EngineState
from .local_backend import PromptEngine

_MEANS, _WEIGHTS = (0.003, 0.01, 0.03, 0.06, 0.12, 0.25, 0.4, 0.6, 0.8), (0.5, 1.0, 2.0, 5.0, 20.0, 1000.0)
"""Distributions of prompts' chances that are weighed against each other, equally likely before anything is seen."""
_NEGLIGIBLE = 0.05
_EVERY_SECONDS = 1.0
_LEAST_SECONDS = 1.0
"""Seconds left as long as anything is: what remains of a round that takes longer than the others is not known."""


_IsDecided = Callable[[float, float], bool]
"""Tells whether so many more hits and misses end a campaign."""


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
    def of(cls, campaign: Campaign, image_forwards: int = 0) -> PromptWork | None:
        """Return the work of a campaign's prompts; None where the attack does not say how much it is.

        Args:
            campaign: the campaign.
            image_forwards: of the victim; 0 for those of classifier-free guidance.
        """
        attack, steps = campaign.attack, campaign.concept.sampling.steps
        image, images = image_forwards or 2 * steps, attack.images_per_prompt
        if attack.info.unattacked:
            return cls(image, 0, 0.0, 0, images)
        if attack.info.effort is Effort.OPEN:
            return None
        if attack.info.effort is Effort.MATCHED:
            return cls(image, 0, 0.0, attack.matched_rounds(image), images)
        drawn = attack.info.needs_targets and not campaign.concept.images
        # The base draws them without the victim's defenses.
        target = min(image // steps, 2) * (steps if attack.targets is None else attack.targets.steps)
        search = attack.forward_passes(0) / attack.last_round
        return cls(image, target if drawn else 0, search, attack.last_round, images)


def estimate_from_probe(campaign: Campaign, estimate: RunEstimate, probe: Probe) -> RunEstimate:
    """Fill in the seconds of a run: between all prompts hit without attack, and all that resist to the end."""
    if (work := PromptWork.of(campaign, probe.image_forwards)) is None:
        return estimate
    most = work.drawing + (work.target if work.rounds else 0) + work.rounds * (work.search + work.drawing)
    each = probe.seconds * estimate.left
    return replace(estimate, seconds=work.drawing * each, worst_case_seconds=most * each)


@dataclass(frozen=True)
class Odds:
    """Chances of prompts, from those that were attacked so far.

    Attributes:
        plain: that the un-attacked image ends a prompt.
        hit: that a prompt's next round hits, by the rounds that did not: those that resist many are likelier to resist
            the next.
    """

    plain: float
    hit: tuple[float, ...]

    @classmethod
    def of(cls, outcomes: Iterable[Outcome], state: EngineState, work: PromptWork) -> Odds:
        """Count what outcomes and the prompts under attack say of attacks of so much work."""
        ended = [outcome for outcome in outcomes if outcome.status is not Status.ERROR]
        plain = sum(outcome.status is Status.HIT_WITHOUT_ATTACK for outcome in ended)
        hits = Counter(o.evaluations // work.images - 1 for o in ended if o.status is Status.HIT_UNDER_ATTACK)
        missed = Counter(o.evaluations // work.images - 1 for o in ended if o.status in MISSES)
        missed.update(round_ - 1 for round_ in state.rounds)
        tested = len(ended) + state.waiting + len(state.rounds)
        return cls(plain / tested if tested else 0.0, _hit_chances(hits, missed, work.rounds))


def _hit_chances(hits: Mapping[int, int], missed: Mapping[int, int], rounds: int) -> tuple[float, ...]:
    """Return the chance that a prompt's next round hits, by the rounds that it has done.

    A prompt's rounds hit with a chance of its own, which is beta-distributed over prompts: after k rounds without, the
    next hits with mean * n / (n + k), n the weight of the distribution. Means and weights of a grid are averaged, each
    as likely as it makes what was seen.

    Args:
        hits: prompts by the round that hit.
        missed: prompts by the rounds that they have done without.
        rounds: of a prompt that resists.
    """
    begun = [0] * (rounds + 1)
    for ends in (hits, missed):
        for done, prompts in ends.items():
            for round_ in range(min(done, rounds)):
                begun[round_] += prompts
    seen = [(done, hits.get(done + 1, 0), prompts) for done, prompts in enumerate(begun) if prompts]
    chances, likelihoods = [], []
    for mean, weight in product(_MEANS, _WEIGHTS):
        chance = [mean * weight / (weight + done) for done in range(rounds)]
        chances.append(chance)
        likelihoods.append(sum(hit * log(chance[k]) + (all_ - hit) * log(1 - chance[k]) for k, hit, all_ in seen))
    most = max(likelihoods)
    alive = [exp(likelihood - most) for likelihood in likelihoods]
    averages = []
    for done in range(rounds):
        averages.append(sum(a * chance[done] for a, chance in zip(alive, chances, strict=True)) / sum(alive))
        alive = [a * (1 - chance[done]) for a, chance in zip(alive, chances, strict=True)]
    return tuple(averages)


@dataclass
class _Group:
    """Prompts, as an expected number, that have done the same number of rounds."""

    size: float
    rounds: int


@dataclass(frozen=True)
class WorkLeft:
    """Forward passes, those on copies that fill up the network's batches included.

    Attributes:
        drawing: of un-attacked images, before the attack.
        attacking: of the attack, with the un-attacked images that workers draw in between. Where workers have nothing
            to do, as many more as they would compute meanwhile.
    """

    drawing: float
    attacking: float


class Rehearsal:
    """The rest of a campaign, played through with expected numbers of prompts.

    Args:
        work: of one prompt.
        odds: of a prompt.
        state: of the engine.
        workers: processes that attack; 0 if this one does.
        batch: samples in one call of the network.
        is_decided: tells whether so many more hits and misses end the campaign.
    """

    def __init__(
        self,
        work: PromptWork,
        odds: Odds,
        state: EngineState,
        *,
        workers: int = 0,
        batch: int = NETWORK_BATCH,
        is_decided: _IsDecided = lambda hits, misses: False,
    ) -> None:
        self._work, self._odds, self._batch_size = work, odds, state.batch_size
        self._workers, self._batch, self._is_decided = workers, batch, is_decided
        self._untested, self._waiting = float(state.untested), float(state.waiting)
        done = Counter(round_ - 1 for round_ in state.rounds if round_ <= work.rounds)
        self._groups = [_Group(size, rounds) for rounds, size in done.items()]
        self._hits = self._misses = 0.0

    def play(self) -> WorkLeft:
        """Return the work until all prompts have come to their end, or the verdict is certain."""
        drawing = attacking = 0.0
        if not (self._workers and self._work.rounds):  # this process draws those of all prompts first
            while self._untested and not self._is_decided(self._hits, self._misses):
                drawn = self._draw(self._batch_size)
                drawing += self._filled(drawn * self._work.images, drawn) * self._work.image
        while self._goes_on():
            attacking += self._round()
        return WorkLeft(drawing, attacking)

    def _goes_on(self) -> bool:
        left = self._groups or max(self._waiting, self._untested) > _NEGLIGIBLE
        return bool(self._work.rounds and left) and not self._is_decided(self._hits, self._misses)

    def _draw(self, room: float) -> float:
        drawn = min(self._untested, room)
        self._untested -= drawn
        self._hits += drawn * self._odds.plain
        self._waiting += drawn * (1 - self._odds.plain)
        return drawn

    def _round(self) -> float:
        """Begin as many prompts as there is room for, and do one round of all; returns forward passes."""
        work, room = self._work, self._batch_size - sum(group.size for group in self._groups)
        drawn = self._draw(max(room - self._waiting, 0.0))
        if (begun := min(self._waiting, room)) > _NEGLIGIBLE:
            self._groups.append(_Group(begun, 0))
            self._waiting -= begun
        else:
            begun = 0.0
        size = sum(group.size for group in self._groups)
        passes = self._filled(drawn * work.images, drawn) * work.image + self._filled(begun, size) * work.target
        passes += size * work.search + self._filled(size * work.images, size) * work.image
        for group in self._groups:
            chance = self._odds.hit[group.rounds]
            self._hits += group.size * chance
            group.size *= 1 - chance
            group.rounds += 1
        self._misses += sum(group.size for group in self._groups if group.rounds >= work.rounds)
        self._groups = [group for group in self._groups if group.rounds < work.rounds and group.size > _NEGLIGIBLE]
        return passes * max(self._workers, 1) / self._busy(max(size, drawn))

    def _busy(self, prompts: float) -> float:
        """Return the processes that have one of so many prompts."""
        return min(max(self._workers, 1), max(prompts, 1.0))

    def _filled(self, samples: float, prompts: float) -> float:
        """Return the samples of the batches that these take, spread as the prompts are over processes.

        An expected number below one fills its share.
        """
        busy = self._busy(prompts)
        share = samples / busy
        return busy * self._batch * (share if share < 1 else -(-share // self._batch))


class TimeForecast:
    """Seconds that a campaign still takes: its work, at the pace of what was computed since construction.

    Args:
        campaign: the campaign.
        stop: when the rest of its prompts is left alone.
        device: where the model runs.
        expected: seconds of the whole run in one process, as far as the store has outcomes that tell.
    """

    def __init__(
        self, campaign: Campaign, stop: StopCondition, *, device: str = "cpu", expected: float | None = None
    ) -> None:
        self._campaign, self._stop = campaign, stop
        self._batch, self._expected = network_batch(device), expected
        self._started = time.monotonic()
        self._loaded = self._attack = self._last = _Moment.now()
        self._attacks = False
        self._again_at, self._fresh = self._started, 0
        self._end: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds since construction."""
        return time.monotonic() - self._started

    def add(self, outcome: Outcome) -> None:
        """Take in an outcome of this run."""
        self._fresh += 1

    def seconds_left(self, engine: PromptEngine, outcomes: Mapping[str, Outcome]) -> float | None:
        """Forecast the time left; None before anything was computed or is known from the store.

        Args:
            engine: attacks the campaign.
            outcomes: of all its prompts that have one.
        """
        state = engine.state
        self._note(state, engine.worker_count)
        now = time.monotonic()
        if now >= self._again_at:
            self._end = self._ends_at(state, engine.worker_count, outcomes)
            # Thousands of prompts take a while to play through, and this is asked after each.
            self._again_at = now + max(_EVERY_SECONDS, 20 * (time.monotonic() - now))
        return None if self._end is None else max(self._end - now, _LEAST_SECONDS)

    def _note(self, state: EngineState, workers: int) -> None:
        """Note when the work began, when the attack did, and when work was counted last."""
        now = _Moment.now()
        if not state.batch_size:  # workers load their models
            self._loaded = now
        if not self._attacks:
            self._attack = now if not workers else self._loaded
            self._attacks = bool(state.waiting or state.rounds) and (not state.untested or workers > 0)
        if now.computed > self._last.computed:  # workers tell only after a piece of work
            self._last = now

    def _ends_at(self, state: EngineState, workers: int, outcomes: Mapping[str, Outcome]) -> float | None:
        work = PromptWork.of(self._campaign, state.image_forwards)
        pace = self._last.pace_since(self._loaded)
        if work is None or pace is None:
            return self._ends_by_counting(state, workers)
        is_decided = self._is_decided(outcomes)
        odds = Odds.of(outcomes.values(), state, work)
        attack_pace = self._last.pace_since(self._attack) or pace
        left = self._work_left(work, odds, state, workers, is_decided)
        return self._last.at + left.drawing * pace + left.attacking * attack_pace

    def _work_left(
        self, work: PromptWork, odds: Odds, state: EngineState, workers: int, is_decided: _IsDecided
    ) -> WorkLeft:
        rehearse = partial(Rehearsal, work, odds, batch=self._batch)
        if not state.processes or state.prompts > sum(process.prompts for process in state.processes):
            return rehearse(state, workers=workers, is_decided=is_decided).play()
        # No more are handed out: the process that has most to do ends last.
        alone = []
        for process in state.processes:
            share = process.prompts / max(state.prompts, 1)
            alone.append(rehearse(process, workers=1, is_decided=partial(_decided_by_all, is_decided, share)).play())
        return WorkLeft(workers * max(left.drawing for left in alone), workers * max(left.attacking for left in alone))

    def _ends_by_counting(self, state: EngineState, workers: int) -> float | None:
        """Forecast that prompts take as long as those that ended, or as the store says."""
        if self._fresh:
            return time.monotonic() + self.seconds / self._fresh * state.prompts
        return None if self._expected is None else self._started + self._expected / max(workers, 1)

    def _is_decided(self, outcomes: Mapping[str, Outcome]) -> _IsDecided:
        counts = self._campaign.counts(outcomes)

        def is_decided(hits: float, misses: float) -> bool:
            more = round(hits), round(misses)
            expected = replace(
                counts, hits=counts.hits + more[0], misses=counts.misses + more[1], unknown=counts.unknown - sum(more)
            )
            return self._campaign.is_decided(expected, self._stop)

        return is_decided


def _decided_by_all(is_decided: _IsDecided, share: float, hits: float, misses: float) -> bool:
    """Tell whether a campaign has ended where all processes do as one does that has this share of the prompts."""
    return bool(share) and is_decided(hits / share, misses / share)


@dataclass(frozen=True)
class _Moment:
    """A time, in seconds of ``time.monotonic``, and the forward passes computed until then."""

    at: float
    computed: int

    @classmethod
    def now(cls) -> _Moment:
        """Take this one."""
        return cls(time.monotonic(), computed_forwards())

    def pace_since(self, earlier: _Moment) -> float | None:
        """Return seconds per forward pass; None where nothing was computed since."""
        passes = self.computed - earlier.computed
        return (self.at - earlier.at) / passes if passes > 0 else None
