"""Estimates of what running a campaign would do, without loading a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.outcome import Counts, Outcome
from ..store.journal import RejectedLines
from ..store.store import Store
from .campaign import Campaign
from .stop import RUN_ALL, StopCondition


@dataclass(frozen=True)
class RunEstimate:
    """What running a campaign would do.

    Attributes:
        counts: of the outcomes in the store.
        missing: digests of the prompts that would be attacked, if none before them makes the verdict certain.
        differs: where the store knows nothing, in what the key of the closest campaign differs.
        notes: what is wrong with the store.
        seconds: what they will take, if prompts go as those did that the store has, of this or the closest campaign.
        worst_case_seconds: what they will take, if each of them resists to the end.
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


def estimate(campaign: Campaign, store: Store, stop: StopCondition = RUN_ALL) -> RunEstimate:
    """Estimate what a run would find in the store, and what it would have to attack.

    Raises:
        StoreError: the store cannot be read.
    """
    own = campaign.store_of(store)
    outcomes, rejected = campaign.stored(store)
    counts = campaign.counts(outcomes)
    missing = () if campaign.is_decided(counts, stop) else campaign.missing(outcomes)
    closest = own.closest_campaign(campaign.concept.name, campaign.key)
    measured = list(outcomes.values())
    if not measured and closest is not None and _same_work(campaign, closest[0].key or {}):
        measured = list(closest[0].outcomes()[0].values())
    spent = sum(outcome.seconds for outcome in measured)
    known = bool(spent and missing)
    return RunEstimate(
        counts,
        frozenset(prompt.digest for prompt in missing),
        differs=tuple(closest[1]) if closest is not None and not outcomes else (),
        notes=tuple(store_notes(campaign, own, outcomes, rejected)),
        seconds=spent / len(measured) * len(missing) if known else None,
        worst_case_seconds=_seconds_to_the_end(campaign, measured) * len(missing) if known else None,
    )


def store_notes(
    campaign: Campaign, store: Store, outcomes: Mapping[str, Outcome], rejected: RejectedLines
) -> list[str]:
    """List for people what is wrong with a store that has nothing of a campaign, or with its folder."""
    absent = "" if outcomes or not store.mode.reads else store.explain_missing(campaign.folder(store), campaign.key)
    return [*rejected.notes, *filter(None, [absent])]


def _seconds_to_the_end(campaign: Campaign, measured: Sequence[Outcome]) -> float:
    """Seconds of a prompt that resists to the end, if its forward passes take what those measured took."""
    image = 2 * campaign.concept.sampling.steps
    exhausted = image + campaign.attack.forward_passes(image)
    spent, forwards = sum(o.seconds for o in measured), sum(o.forwards for o in measured)
    return max(spent / len(measured), exhausted * spent / forwards if forwards else 0.0)


def _same_work(campaign: Campaign, key: Mapping[str, object]) -> bool:
    """Tell whether a campaign of this key does the same work for a prompt."""
    return (key.get("attack"), key.get("params")) == (campaign.key.attack, campaign.key.params)
