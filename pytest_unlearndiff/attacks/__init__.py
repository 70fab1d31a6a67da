"""Floor 2: how adversarial tokens are searched. Imports torch."""

from __future__ import annotations

from typing import Any

from ..core.attack_spec import AttackSpec, Embeddings, Genetic, Simplex, Swaps
from ..core.errors import GateError
from ..core.maker import imported
from ..core.plugged import plugged
from ..models.victim import Victim
from .controls import NoAttack, RandomTokens, SeedSearch, Transfer
from .coordinate_search import CoordinateSearch
from .embedding_search import EmbeddingSearch
from .genetic_search import GeneticSearch
from .lane import Attack
from .simplex_search import SimplexSearch


def build_attack(spec: AttackSpec, victim: Victim) -> Attack[Any]:
    """The attack that a specification names.

    Raises:
        GateError: a plugin's attack cannot be imported, or its plugin is not there.
    """
    if (kind := plugged().attacks.get(spec.name)) is not None:
        try:
            attack: Attack[Any] = imported(kind.make)(spec, victim)
        except ImportError as error:
            raise GateError(f"attack {spec.name}: {error}") from None
        return attack
    match spec.name:
        case "unlearndiff" | "p4d" | "ring-a-bell":
            return build_search(spec, victim)
        case "random":
            return RandomTokens(spec)
        case "seed-search":
            return SeedSearch(spec)
        case "transfer":
            return Transfer(spec.known)
        case "none":
            return NoAttack()
        case name:
            raise GateError(f"there is no attack {name!r} in this process")


def build_search(spec: AttackSpec, victim: Victim) -> Attack[Any]:
    """The search that an attack's schedule prescribes."""
    match spec.settings:
        case Simplex() as settings:
            return SimplexSearch(spec, settings, victim)
        case Swaps() as settings:
            return CoordinateSearch(spec, settings, victim)
        case Embeddings() as settings:
            return EmbeddingSearch(spec, settings, victim)
        case Genetic() as settings:
            return GeneticSearch(spec, settings)
