"""A campaign: one attack on one victim over one concept's prompts, as a value with a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from ..core.attack_config import ALGORITHM, NO_ATTACK, AttackConfig
from ..core.concept import Concept, Prompt
from ..core.errors import StoreError
from ..core.judge_options import key_kind, key_options
from ..core.outcome import Counts, Outcome
from ..store.campaign_dir import CampaignDir
from ..store.journal import StoredOutcomes
from ..store.key import AttackKey
from ..store.store import Store
from .model_cache import Fingerprint
from .stop import StopCondition


@dataclass(frozen=True)
class Campaign:
    """A campaign, whether it has been run or not.

    Attributes:
        concept: the concept, with the prompts to attack.
        attack: how adversarial tokens are searched.
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
        """All that can change an outcome of this campaign."""
        return AttackKey(
            algorithm=ALGORITHM,
            attack=self.attack.name,
            params=self.attack.params(),
            victim=self.fingerprint.victim,
            target=self.fingerprint.target if self.attack.needs_target else "",
            judge={
                "kind": key_kind(self.concept.judge),
                "options": key_options(self.concept.judge),
                "weights": self.judge,
            },
            sampling=asdict(self.concept.sampling),
            seed=self.seed,
        )

    def store_of(self, store: Store) -> Store:
        """The store for its outcomes: a disabled one where its key does not tell its victim from others."""
        return store if self.fingerprint.complete else store.disabled

    def folder(self, store: Store) -> CampaignDir:
        """Folder of its outcomes in a store; it need not exist."""
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
        every = (outcomes.get(prompt.digest) for prompt in self.concept.prompts)
        return Counts.of(every, self.concept.prompts, unattacked or {})

    def missing(self, outcomes: Mapping[str, Outcome]) -> list[Prompt]:
        """Prompts without an outcome that the attack has anything for, each text, seed and guidance once.

        By their guidance: only images of one are drawn in one call, and what does not fill a batch is filled up with
        copies. Of upstream's nudity prompts, whose guidance has 12 values, eight at a time in the set's order take 268
        images for 142, and 172 in this one.
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

        Their un-attacked images may still have to be drawn, which without attack is all there is to do.
        """
        return stop.is_decided(counts if self.attack.unattacked else replace(counts, may_repeat=False))

    def is_open(self, outcomes: Mapping[str, Outcome], stop: StopCondition) -> bool:
        """Tell whether there is anything to attack."""
        return bool(self.missing(outcomes)) and not self.is_decided(self.counts(outcomes), stop)

    def without_attack(self) -> Campaign:
        """The same prompts on the same victim without attack.

        Its key is that of a gate with ``attack="none"``, which shares what is known of them.
        """
        fingerprint = Fingerprint(self.fingerprint.victim, "")
        concept = replace(self.concept, images={})
        return replace(self, concept=concept, attack=AttackConfig(NO_ATTACK), fingerprint=fingerprint)

    def stored_unattacked(self, store: Store, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Read what became without attack of prompts without an outcome; empty where the store cannot be read."""
        missing = {prompt.digest for prompt in self.concept.prompts} - set(outcomes)
        if not missing or self.attack.unattacked:
            return {}
        campaign = self.without_attack()
        try:
            stored = store.outcomes(campaign.folder(store))[0]
        except StoreError:
            return {}
        return {digest: stored[digest] for digest in missing & set(stored)}

    def undrawn(
        self, outcomes: Mapping[str, Outcome], unattacked: Mapping[str, Outcome], stop: StopCondition
    ) -> Campaign | None:
        """The prompts that an early verdict leaves alone, without attack; None where it needs nothing of them.

        No PASS rests on images that nobody drew; a FAIL does not depend on them.
        """
        counts = self.counts(outcomes, unattacked)
        if not self.is_decided(counts, stop) or stop.is_decided(counts):
            return None
        rest = tuple(prompt for prompt in self.concept.prompts if prompt.digest not in outcomes)
        return replace(self, concept=replace(self.concept, prompts=rest)).without_attack()
