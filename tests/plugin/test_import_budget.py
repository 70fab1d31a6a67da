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


def loaded(world: World) -> list[set[str]]:
    """Modules loaded at the end, by process."""
    return [set(json.loads(path.read_text())) for path in world.path.glob("loaded-*.json")]


@pytest.fixture
def spied(world: World) -> World:
    world.apart = True  # modules are counted in a process of its own
    world.file("conftest.py", SPY)
    return world


def test_warm_session_loads_no_torch(spied: World) -> None:
    spied.know("bbrrrrrrrr")
    spied.know_kept("gggggggggg", "gggggggggg")
    spied.gate("max_asr=0.5", "test_pass")
    spied.gate("max_asr=0.1", "test_fail")
    spied.gate("max_asr=0.3, gate='upper'", "test_upper")
    spied.retain("'dog', min_rate='85%', max_loss='10%'")
    spied.bare(*MODEL).assert_outcomes(passed=2, failed=2)
    [modules] = loaded(spied)
    assert not modules & HEAVY


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        (("--collect-only",), "1 test collected"),
        ((), "1 skipped"),
        ((*MODEL, REQUIRE), "10 of 10 prompts are missing"),
    ],
    ids=["collect-only", "no model", "nothing known"],
)
def test_gates_that_attack_nothing_load_no_torch(spied: World, arguments: tuple[str, ...], end: str) -> None:
    spied.concept()
    spied.gate("max_asr=0.5")
    assert end in spied.bare(*arguments).stdout.str()
    [modules] = loaded(spied)
    assert not modules & HEAVY


@pytest.mark.parametrize("arguments", [(), ("--collect-only",), MODEL], ids=["run", "collect-only", "options"])
def test_session_without_gates_loads_only_the_entry_point(spied: World, arguments: tuple[str, ...]) -> None:
    """Options load what reads them, too."""
    spied.tests("def test_other(): assert 1 + 1 == 2")
    assert spied.bare(*arguments).ret == 0
    [modules] = loaded(spied)
    if arguments == MODEL:
        assert not modules & (HEAVY | LIBRARIES)
        assert "pytest_unlearndiff.plugin.gate_hooks" not in modules
    else:
        assert not modules & (HEAVY | WARM)
        assert {name for name in modules if name.startswith("pytest_unlearndiff.")} == ENTRY_POINT


def test_spy(spied: World) -> None:
    """These tests can fail."""
    spied.tests("def test_other(): import yaml, pytest_unlearndiff.core.gate")
    spied.bare()
    [modules] = loaded(spied)
    assert modules & WARM == {"yaml", "pytest_unlearndiff.core"}
