"""Property tests that repeat themselves exactly and judge no machine's speed; a victim and its targets to attack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from pytest_unlearndiff.models.diffusion_model import DiffusionModel
    from pytest_unlearndiff.models.target_images import Targets

settings.register_profile("unit", deadline=None, derandomize=True, database=None, max_examples=80)
settings.load_profile("unit")


def _tiny_victim(seed: int) -> DiffusionModel:
    # Imported here, since most of these tests do without torch.
    from tiny import tiny_pipeline

    from pytest_unlearndiff.core.concept import Sampling
    from pytest_unlearndiff.models.diffusion_model import DiffusionModel

    return DiffusionModel(tiny_pipeline(seed), Sampling(steps=2))


@pytest.fixture(scope="module")
def base() -> StableDiffusionPipeline:
    """A tiny un-erased pipeline of random weights."""
    from tiny import tiny_pipeline

    return tiny_pipeline(0)


@pytest.fixture(scope="module")
def other() -> StableDiffusionPipeline:
    """A tiny pipeline of other weights."""
    from tiny import tiny_pipeline

    return tiny_pipeline(1)


@pytest.fixture(scope="session")
def victim() -> DiffusionModel:
    """A tiny victim of random weights."""
    return _tiny_victim(1)


@pytest.fixture(scope="session")
def targets() -> Targets:
    """Target images by another tiny pipeline."""
    from pytest_unlearndiff.models.target_images import Targets

    return Targets(_tiny_victim(0))
