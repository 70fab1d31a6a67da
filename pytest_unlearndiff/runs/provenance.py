"""Provenance of a result: facts that the store keeps, those of this session, and those of the loaded model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.device import AUTO, environment_info
from ..core.outcome import Outcome
from ..core.result import STORE_NOTES
from ..store.journal import RejectedLines
from ..store.store import Store
from .campaign import Campaign, store_notes
from .model_spec import ModelSpec

NOT_STORED = "not_in_the_store"
_OF_SESSION = {"campaign", "distrusted_lines", "known_prompts", NOT_STORED, STORE_NOTES}
"""Facts that every session states anew; those stored beside the journal are ignored."""


class Provenance:
    """Facts of one run of a campaign.

    Args:
        campaign: the campaign.
        store: its own, see ``Campaign.store_of``.
        outcomes: those in the store.
        rejected: lines of the journal that do not count.

    Attributes:
        notes: problems of the store, for people.
    """

    def __init__(
        self, campaign: Campaign, store: Store, outcomes: Mapping[str, Outcome], rejected: RejectedLines
    ) -> None:
        self._campaign, self._store, self._folder = campaign, store, campaign.folder(store)
        self.notes = store_notes(campaign, store, outcomes, rejected)
        self._facts = self._stored() | self._of_campaign(rejected)
        if not outcomes and (closest := store.closest_campaign(campaign.concept.name, campaign.key)):
            self._facts[NOT_STORED] = f"the nearest campaign there differs in {', '.join(closest[1])}"

    @property
    def facts(self) -> dict[str, Any]:
        """All facts, as a result carries them."""
        return self._facts | ({STORE_NOTES: list(self.notes)} if self.notes else {})

    def _stored(self) -> dict[str, Any]:
        """Read facts of the loaded model and of assumptions, which an earlier session stored."""
        return {name: value for name, value in self._store.metadata(self._folder).items() if name not in _OF_SESSION}

    def _of_campaign(self, rejected: RejectedLines) -> dict[str, Any]:
        fingerprint, known = self._campaign.fingerprint, self._campaign.attack.known
        facts = {
            "unkept": fingerprint.unkept,
            "model_version": fingerprint.version,
            "acts_at_inference": list(fingerprint.unhashed),
            "distrusted_lines": f"{rejected.lines} ({rejected.reasons})" if rejected.lines else "",
            "known_prompts": known.source if known.rows else "",
        }
        return {"campaign": self._campaign.key.to_dict(), **{name: fact for name, fact in facts.items() if fact}}

    def forget_absence(self) -> None:
        """Take back that outcomes are missing, after another process attacked everything meanwhile."""
        self.notes = []
        self._facts.pop(NOT_STORED, None)
        self._facts |= self._stored()

    def add_model(self, spec: ModelSpec, description: Mapping[str, Any]) -> None:
        """Add the loaded victim, its device and packages, and store these facts beside the outcomes.

        Args:
            spec: the victim's specification.
            description: of what was loaded.
        """
        own_images = self._campaign.attack.needs_target and bool(self._campaign.concept.images)
        facts = {
            **description,
            **({"target images": "those that the concept names"} if own_images else {}),
            "victim": spec.label,
            # Of workers, each says where it is.
            **({"device": spec.device, "dtype": spec.dtype} if spec.device != AUTO else {}),
            **environment_info("pytest-unlearndiff", "torch", "diffusers", "transformers"),
        }
        self._facts |= facts
        self._store.write_metadata(self._folder, facts)
