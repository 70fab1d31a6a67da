"""UnlearnDiffAtk (Zhang et al., ECCV 2024): the search that its schedule prescribes."""

from __future__ import annotations

from ..core.attack_config import AttackConfig
from ..models.diffusion_model import DiffusionModel
from .schedules import TokenSwapSchedule
from .simplex_search import SimplexSearch
from .token_swaps import CoordinateSearch


def create(config: AttackConfig, model: DiffusionModel) -> SimplexSearch | CoordinateSearch:
    """Return the search for the configuration's schedule."""
    return (CoordinateSearch if isinstance(config.settings, TokenSwapSchedule) else SimplexSearch)(config, model)
