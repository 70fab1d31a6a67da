"""Fixtures of all tests: a clean environment, worlds and tiny models."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from _pytest.pytester import SysModulesSnapshot
from hypothesis import settings
from worlds import World

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from pytest_unlearndiff.models.diffusion_model import DiffusionModel
    from pytest_unlearndiff.models.target_images import Targets

# Property tests repeat themselves exactly and judge no machine's speed.
settings.register_profile("unit", deadline=None, derandomize=True, database=None, max_examples=80)
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the developer or a CI set for pytest or for the plugin out of inner sessions.

    Where ``CI`` or ``BUILD_NUMBER`` is set, pytest no longer cuts its last lines to the width of the terminal.
    """
    for name in list(os.environ):
        if name.startswith(("PYTEST_XDIST_", "PYTEST_ADDOPTS", "GITHUB_", "BUILD_NUMBER", "CI", "RAY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    # A test module that is written anew within a second would else be taken from its compiled file.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


_LOADED_ONCE = {
    *(
        "PIL",
        "accelerate",
        "diffusers",
        "fsspec",
        "huggingface_hub",
        "numpy",
        "peft",
        "safetensors",
        "scipy",
        "tokenizers",
    ),
    *("pytest_unlearndiff", "torch", "torchmetrics", "torchvision", "transformers", "zope", "readline"),
}
"""Packages that cannot be imported twice in a process, or only slowly: sessions in this process share them."""


def _is_loaded_once(name: str) -> bool:
    """Tell whether to keep a module: not one that a test hides by None."""
    return name.partition(".")[0] in _LOADED_ONCE and sys.modules.get(name) is not None


@pytest.fixture(autouse=True)
def _keep_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep pytester from dropping libraries that a session in this process was the first to import."""

    def snapshot(self: pytest.Pytester) -> SysModulesSnapshot:
        return SysModulesSnapshot(preserve=_is_loaded_once)

    monkeypatch.setattr(pytest.Pytester, "_Pytester__take_sys_modules_snapshot", snapshot)


@pytest.fixture
def world(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> World:
    # Nothing in a world can be loaded.
    monkeypatch.setattr("pytest_unlearndiff.plugin.plan.Estimator._probe", lambda *_: None)
    return World(pytester)


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
