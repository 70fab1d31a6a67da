"""What tests share: a clean environment, worlds, and sessions with and without workers."""

from __future__ import annotations

import os
import sys

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
    # A test module that is written anew within a second would else be taken from its compiled file.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.fixture
def world(pytester: pytest.Pytester) -> World:
    return World(pytester)


WITH_WORKERS = (
    "test_gate_files",
    "test_hooks",
    "test_import_budget",
    "test_interrupted",
    "test_retention",
    "test_verdicts",
)
"""Modules whose tests run with two workers of pytest-xdist as well: each costs three processes."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give ``workers``, arguments of a session on its own and, in a few modules, of one with two workers."""
    own = [str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize")]
    if "workers" not in metafunc.fixturenames or "workers" in " ".join(own):
        return
    if metafunc.module.__name__.rpartition(".test_")[2] in WITH_WORKERS:
        metafunc.parametrize("workers", [(), ("-n2",)], ids=["alone", "n2"])
    else:
        metafunc.parametrize("workers", [()], ids=["alone"])
