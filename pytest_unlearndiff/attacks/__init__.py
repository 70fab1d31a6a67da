"""Floor 2: how adversarial tokens are searched. Imports torch."""

from __future__ import annotations

from typing import Any

from ..core.attack_spec import AttackSpec, Simplex
from ..models.victim import Victim
from .controls import NoAttack, RandomTokens, SeedSearch
from .coordinate_search import CoordinateSearch
from .lane import Attack
from .simplex_search import SimplexSearch


def build_attack(spec: AttackSpec, victim: Victim) -> Attack[Any]:
    """The attack that a specification names."""
    match spec.name:
        case "unlearndiff":
            return build_search(spec, victim)
        case "random":
            return RandomTokens(spec)
        case "seed-search":
            return SeedSearch(spec)
        case _:
            return NoAttack()


def build_search(spec: AttackSpec, victim: Victim) -> Attack[Any]:
    """The search that a schedule of UnlearnDiffAtk prescribes."""
    settings = spec.settings
    if isinstance(settings, Simplex):
        return SimplexSearch(spec, settings, victim)
    return CoordinateSearch(spec, settings, victim)
