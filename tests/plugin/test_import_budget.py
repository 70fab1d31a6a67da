"""A session that attacks nothing loads nothing heavy; one without gates loads next to nothing."""

from __future__ import annotations

import json

import pytest
from worlds import MODEL, REQUIRE, World

HEAVY = {"torch", "diffusers", "transformers", "safetensors", "PIL", "torchvision", "accelerate"}
# Libraries of sessions with gates.
LIBRARIES = {"yaml", "scipy", "numpy", "filelock", "fsspec", "ray", "msgspec"}
WARM = LIBRARIES | {
    f"pytest_unlearndiff.{layer}" for layer in ("core", "store", "sources", "runs", "workers", "reports")
}
ENTRY_POINT = {f"pytest_unlearndiff.plugin{name}" for name in ("", ".hooks", ".hookspecs", ".options")}

SPY = """
import json
import os
import sys
from pathlib import Path

def pytest_unconfigure(config):
    who = os.environ.get("PYTEST_XDIST_WORKER", "main")
    Path(config.rootpath, f"loaded-{who}.json").write_text(json.dumps(sorted(sys.modules)))
"""


def loaded(world: World) -> dict[str, set[str]]:
    """Modules loaded at the end, by process."""
    return {path.stem: set(json.loads(path.read_text())) for path in world.path.glob("loaded-*.json")}


@pytest.fixture
def spied(world: World) -> World:
    world.apart = True  # modules are counted in a process of its own
    world.file("conftest.py", SPY)
    return world


def test_warm_session_loads_no_torch(spied: World) -> None:
    spied.know("bbrrrrrrrr")
    spied.gate("max_asr=0.5", "test_pass")
    spied.gate("max_asr=0.1", "test_fail")
    spied.gate("max_asr=0.3, gate='upper'", "test_upper")
    result = spied.bare(*MODEL)
    result.assert_outcomes(passed=1, failed=2)
    modules = loaded(spied)
    assert len(modules) == 1
    for names in modules.values():
        assert not names & HEAVY


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--collect-only",), "1 test collected"),
        ((), "1 skipped"),
        ((*MODEL, REQUIRE), "10 of 10 prompts are missing"),
    ],
    ids=["collect-only", "no model", "nothing known"],
)
def test_gates_that_attack_nothing_load_no_torch(spied: World, arguments: tuple[str, ...], said: str) -> None:
    spied.concept()
    spied.gate("max_asr=0.5")
    assert said in spied.bare(*arguments).stdout.str()
    [found] = loaded(spied).values()
    assert not found & HEAVY


@pytest.mark.parametrize("arguments", [(), ("--collect-only",)], ids=["run", "collect-only"])
def test_without_gates_only_the_entry_point_is_loaded(spied: World, arguments: tuple[str, ...]) -> None:
    spied.tests("def test_other(): assert 1 + 1 == 2")
    assert spied.bare(*arguments).ret == 0
    [modules] = loaded(spied).values()
    assert not modules & (HEAVY | WARM)
    assert {name for name in modules if name.startswith("pytest_unlearndiff.")} == ENTRY_POINT


def test_options_without_gates_load_only_what_reads_them(spied: World) -> None:
    spied.tests("def test_other(): assert 1 + 1 == 2")
    assert spied.bare(*MODEL).ret == 0
    [modules] = loaded(spied).values()
    assert not modules & (HEAVY | LIBRARIES)
    assert "pytest_unlearndiff.plugin.gate_hooks" not in modules


def test_the_spy_would_notice(spied: World) -> None:
    """These tests can fail."""
    spied.tests("def test_other(): import yaml, pytest_unlearndiff.core.gate")
    spied.bare()
    [found] = loaded(spied).values()
    assert found & WARM == {"yaml", "pytest_unlearndiff.core"}
