"""What tests share: a clean environment, worlds, and sessions with and without workers."""

from __future__ import annotations

import os

import pytest
from worlds import World


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the developer or a CI set for pytest or for the plugin out of inner sessions.

    Where ``CI`` or ``BUILD_NUMBER`` is set, pytest no longer cuts its last lines to the width of the terminal.
    """
    for name in list(os.environ):
        if name.startswith(
            ("UNLEARNDIFF_", "PYTEST_XDIST_", "PYTEST_ADDOPTS", "GITHUB_", "BUILD_NUMBER", "CI", "RAY_")
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def world(pytester: pytest.Pytester) -> World:
    return World(pytester)


@pytest.fixture(params=[(), ("-n2",)], ids=["alone", "n2"])
def workers(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Arguments of a session on its own, and of one with two workers."""
    return request.param
