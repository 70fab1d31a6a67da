"""The key of a campaign: everything that can change an outcome, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .fingerprint import digest


@dataclass(frozen=True)
class AttackKey:
    """What decides the outcome of a prompt, beside the prompt itself.

    The prompt set is not part of it: an outcome belongs to one prompt, so twenty prompts of a set and fifty of it
    share what they have in common. Limits, paths, devices and package versions are not part of it either.

    Attributes:
        algorithm: version of the attack's mathematics; raised when a change may change outcomes.
        attack: the attack's name.
        params: its settings, slots and schedule among them.
        victim: fingerprint of the victim's weights.
        target: fingerprint of what target images are made from.
        judge: kind, options and fingerprint of the judge.
        sampling: how evaluation pictures are drawn.
        seed: run seed of the attack's own generators.
    """

    algorithm: int
    attack: str
    params: Mapping[str, Any]
    victim: str
    target: str
    judge: Mapping[str, Any]
    sampling: Mapping[str, Any]
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Builtin types only."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """The key in 16 hex digits."""
        return digest(self.to_dict())
