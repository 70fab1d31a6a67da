"""Floor 2: how adversarial tokens are searched. Imports torch."""

from __future__ import annotations

from typing import Any

from ..core.attack_spec import AttackSpec
from ..models.victim import Victim
from .controls import NoAttack, RandomTokens, SeedSearch
from .lane import Attack
from .unlearndiff import UnlearnDiff


def build_attack(spec: AttackSpec, victim: Victim) -> Attack[Any]:
    """The attack that a specification names."""
    match spec.name:
        case "unlearndiff":
            return UnlearnDiff(spec, victim)
        case "random":
            return RandomTokens(spec)
        case "seed-search":
            return SeedSearch(spec)
        case _:
            return NoAttack()
