"""Floor 2: how adversarial tokens are searched. Imports torch."""

from __future__ import annotations

from typing import Any

from ..core.attack_config import AttackConfig, EmbeddingSchedule, GeneticSchedule, SimplexSchedule, TokenSwapSchedule
from ..core.errors import GateError
from ..core.registry import plugged
from ..models.diffusion_model import DiffusionModel
from ..sources.import_string import imported
from .base import Attack
from .controls import NoAttack, RandomTokens, SeedSearch, Transfer
from .p4d import EmbeddingSearch
from .ring_a_bell import GeneticSearch
from .simplex_search import SimplexSearch
from .token_swaps import CoordinateSearch


def build_attack(spec: AttackConfig, victim: DiffusionModel) -> Attack[Any]:
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


def build_search(spec: AttackConfig, victim: DiffusionModel) -> Attack[Any]:
    """The search that an attack's schedule prescribes."""
    match spec.settings:
        case SimplexSchedule() as settings:
            return SimplexSearch(spec, settings, victim)
        case TokenSwapSchedule() as settings:
            return CoordinateSearch(spec, settings, victim)
        case EmbeddingSchedule() as settings:
            return EmbeddingSearch(spec, settings, victim)
        case GeneticSchedule() as settings:
            return GeneticSearch(spec, settings)
