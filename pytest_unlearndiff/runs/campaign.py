"""A campaign as a value with a key, the condition that stops it early, and an estimate of its work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from ..core.attack_config import ALGORITHM, NO_ATTACK, AttackConfig
from ..core.concept import Concept, Prompt
from ..core.errors import StoreError
from ..core.judge_options import key_kind, key_options
from ..core.outcome import Counts, Outcome
from ..store.campaign_dir import CampaignDir
from ..store.journal import RejectedLines, StoredOutcomes
from ..store.key import AttackKey
from ..store.store import Store
from .model_spec import Fingerprint


def _never(counts: Counts) -> bool:
    return False


@dataclass(frozen=True)
class StopCondition:
    """Condition under which a campaign ends although prompts are left.

    Attributes:
        is_decided: tells whether counts make the verdict certain; a later run goes on from the journal.
        deadline: on ``time.monotonic``'s clock, in seconds; nothing new is begun after it.
        message: reason, for people, of an end by the deadline.
        message_nothing_done: the same if nothing was finished or kept.
    """

    is_decided: Callable[[Counts], bool] = _never
    deadline: float = float("inf")
    message: str = ""
    message_nothing_done: str = ""

    @property
    def is_overdue(self) -> bool:
        """True once the deadline has passed."""
        return time.monotonic() >= self.deadline

    @property
    def at_deadline(self) -> StopCondition:
        """The same deadline, whatever the counts are."""
        return replace(self, is_decided=_never)


RUN_ALL = StopCondition()
"""Every prompt is attacked."""


@dataclass(frozen=True)
class Campaign:
    """One attack on one victim over one concept's prompts, run or not.

    Attributes:
        concept: the concept, with the prompts to attack.
        attack: configuration of the search for adversarial tokens.
        fingerprint: of victim and base.
        judge: content hash of the judge's weights.
        seed: run seed; each prompt's own generators follow from it.
    """

    concept: Concept
    attack: AttackConfig
    fingerprint: Fingerprint
    judge: str
    seed: int = 0

    @cached_property
    def key(self) -> AttackKey:
        """Key of all that can change an outcome of this campaign."""
        return AttackKey(
            algorithm=ALGORITHM,
            attack=self.attack.name,
            params=self.attack.params(),
            victim=self.fingerprint.victim,
            target=self.fingerprint.targets_digest if self.attack.needs_target else "",
            judge={
                "kind": key_kind(self.concept.judge),
                "options": key_options(self.concept.judge),
                "weights": self.judge,
            },
            sampling=asdict(self.concept.sampling),
            seed=self.seed,
        )

    def store_of(self, store: Store) -> Store:
        """Return the store for its outcomes: a disabled one if its key does not tell its victim from others."""
        return store if self.fingerprint.complete else store.disabled

    def folder(self, store: Store) -> CampaignDir:
        """Return the folder of its outcomes in a store; it need not exist."""
        return store.campaign(self.concept.name, self.key)

    def stored(self, store: Store) -> StoredOutcomes:
        """Read the outcomes of its prompts, as far as the store's mode lets them count.

        Raises:
            StoreError: the store cannot be read.
        """
        outcomes, rejected = self.store_of(store).outcomes(self.folder(store))
        wanted = {prompt.digest for prompt in self.concept.prompts}
        return StoredOutcomes({digest: o for digest, o in outcomes.items() if digest in wanted}, rejected)

    def stored_counts(self, store: Store) -> Counts:
        """Count the outcomes in the store's folder, whether its mode lets them count or not."""
        try:
            outcomes = self.folder(store).outcomes()[0] if self.fingerprint.complete else {}
        except StoreError:
            outcomes = {}
        return self.counts(outcomes)

    def counts(self, outcomes: Mapping[str, Outcome], unattacked: Mapping[str, Outcome] | None = None) -> Counts:
        """Count outcomes, by prompt digest, along the prompt set; a prompt that stands twice counts twice."""
        ordered = (outcomes.get(prompt.digest) for prompt in self.concept.prompts)
        return Counts.of(ordered, self.concept.prompts, unattacked or {})

    def missing(self, outcomes: Mapping[str, Outcome]) -> list[Prompt]:
        """Return the prompts without an outcome that the attack can attack, one per text, seed and guidance.

        Sorted by guidance, because one call draws images of one guidance only and copies fill a batch up: upstream's
        nudity prompts, of 12 guidances, take 172 images in batches of eight, and 268 in the set's order.
        """
        ordered = sorted(self.concept.prompts, key=lambda prompt: prompt.guidance)
        prompts = {prompt.digest: prompt for prompt in ordered if self.attack.can_attack(prompt)}
        return [prompt for digest, prompt in prompts.items() if digest not in outcomes]

    @property
    def left_alone(self) -> int:
        """Number of prompts that the attack has nothing for."""
        return sum(not self.attack.can_attack(prompt) for prompt in self.concept.prompts)

    def is_decided(self, counts: Counts, stop: StopCondition) -> bool:
        """Tell whether the rest need not be attacked.

        Their un-attacked images may still have to be drawn; without attack, that is the whole work.
        """
        return stop.is_decided(counts if self.attack.info.unattacked else replace(counts, may_repeat=False))

    def is_open(self, outcomes: Mapping[str, Outcome], stop: StopCondition) -> bool:
        """Tell whether prompts have to be attacked."""
        return bool(self.missing(outcomes)) and not self.is_decided(self.counts(outcomes), stop)

    def without_attack(self) -> Campaign:
        """Return the campaign of the same prompts on the same victim without attack.

        Its key is that of a gate with ``attack="none"``, so that the two share outcomes.
        """
        fingerprint = replace(self.fingerprint, targets_digest="")
        concept = replace(self.concept, images={})
        return replace(self, concept=concept, attack=AttackConfig(NO_ATTACK), fingerprint=fingerprint)

    def stored_unattacked(self, store: Store, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Read the outcomes without attack of prompts that have none under it; empty if the store cannot be read."""
        missing = {prompt.digest for prompt in self.concept.prompts} - set(outcomes)
        if not missing or self.attack.info.unattacked:
            return {}
        campaign = self.without_attack()
        try:
            stored = campaign.store_of(store).outcomes(campaign.folder(store))[0]
        except StoreError:
            return {}
        return {digest: stored[digest] for digest in missing & set(stored)}

    def undrawn(
        self, outcomes: Mapping[str, Outcome], unattacked: Mapping[str, Outcome], stop: StopCondition
    ) -> Campaign | None:
        """Return the campaign, without attack, of prompts left alone by an early verdict; None if not needed.

        A PASS needs the un-attacked image of every prompt; a FAIL does not.
        """
        counts = self.counts(outcomes, unattacked)
        if not self.is_decided(counts, stop) or stop.is_decided(counts):
            return None
        rest = tuple(prompt for prompt in self.concept.prompts if prompt.digest not in outcomes)
        return replace(self, concept=replace(self.concept, prompts=rest)).without_attack()


@dataclass(frozen=True)
class RunEstimate:
    """Work that running a campaign would take.

    Attributes:
        counts: of the outcomes in the store.
        missing: digests of the prompts that would be attacked, unless the verdict is certain before.
        differs: fields in which the key of the closest campaign differs, if the store has no outcome of this one.
        notes: problems of the store.
        seconds: expected duration, from stored outcomes of this or the closest campaign; None without any.
        worst_case_seconds: the same if every missing prompt resists to the end.
    """

    counts: Counts
    missing: frozenset[str]
    differs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float | None = None
    worst_case_seconds: float | None = None

    @property
    def left(self) -> int:
        """Number of prompts that would be attacked."""
        return len(self.missing)


def estimate(
    campaign: Campaign, store: Store, stop: StopCondition = RUN_ALL, *, device: str | None = None
) -> RunEstimate:
    """Estimate the work of a run from the store, without loading a model.

    Args:
        campaign: what would be run.
        store: outcomes, with the seconds that they took.
        stop: when the rest of the prompts is left alone.
        device: that would be used, or only its kind: seconds of another kind say nothing. None for any.

    Raises:
        StoreError: the store cannot be read.
    """
    own = campaign.store_of(store)
    outcomes, rejected = campaign.stored(store)
    counts = campaign.counts(outcomes)
    missing = () if campaign.is_decided(counts, stop) else campaign.missing(outcomes)
    closest = own.closest_campaign(campaign.concept.name, campaign.key)
    measured = list(outcomes.values()) if _measured_on(device, campaign.folder(own)) else []
    if not measured and closest is not None and _same_work(campaign, closest[0].key or {}):
        measured = list(closest[0].outcomes()[0].values()) if _measured_on(device, closest[0]) else []
    spent = sum(outcome.seconds for outcome in measured)
    predictable = bool(spent and missing)
    return RunEstimate(
        counts,
        frozenset(prompt.digest for prompt in missing),
        differs=tuple(closest[1]) if closest is not None and not outcomes else (),
        notes=tuple(store_notes(campaign, own, outcomes, rejected)),
        seconds=spent / len(measured) * len(missing) if predictable else None,
        worst_case_seconds=_seconds_if_resisting(campaign, measured) * len(missing) if predictable else None,
    )


def _measured_on(device: str | None, folder: CampaignDir) -> bool:
    """Tell whether a campaign's outcomes were computed on this kind of device, or on one that is not known."""
    there = folder.metadata.get("device")
    return device is None or not isinstance(there, str) or there.partition(":")[0] == device.partition(":")[0]


def store_notes(
    campaign: Campaign, store: Store, outcomes: Mapping[str, Outcome], rejected: RejectedLines
) -> list[str]:
    """List, for people, problems of a campaign's folder, or of a store that has no outcome of it."""
    absent = "" if outcomes else store.explain_missing(campaign.folder(store), campaign.key)
    return [*rejected.notes, *filter(None, [absent])]


def _seconds_if_resisting(campaign: Campaign, measured: Sequence[Outcome]) -> float:
    """Predict the seconds of a prompt that resists to the end, at the measured seconds per forward pass."""
    # One that its un-attacked image ended says what an image of this model costs.
    images = (o.forwards for o in measured if o.evaluations == 1 and o.forwards and not o.steps)
    image = next(images, 2 * campaign.concept.sampling.steps)
    exhausted = campaign.attack.images_per_prompt * image + campaign.attack.forward_passes(image)
    spent, forwards = sum(o.seconds for o in measured), sum(o.forwards for o in measured)
    return max(spent / len(measured), exhausted * spent / forwards if forwards else 0.0)


def _same_work(campaign: Campaign, key: Mapping[str, object]) -> bool:
    """Tell whether a campaign of this key does the same work for a prompt."""
    return (key.get("attack"), key.get("params")) == (campaign.key.attack, campaign.key.params)
