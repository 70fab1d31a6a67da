"""A budget ends the session's attacks in time; what is finished is kept, and the same command goes on."""

from __future__ import annotations

import pytest
from worlds import World, text

REMEDY = "--unlearndiff-time-budget is used up: the same command goes on"


@pytest.fixture
def slow(world: World) -> World:
    """A gate of far more prompts than a budget of seconds is enough for, also where a machine starts slowly."""
    world.concept(count=1000)
    world.scripted("r" * 1000, seconds=0.2)
    world.gate("max_asr='0%'")
    return world


def test_resume_after_budget(slow: World) -> None:
    result = slow.attack("--unlearndiff-time-budget=3s")
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"E *AttackIncomplete: *Missing is never safe. {REMEDY}"])
    kept = len(slow.kept())
    assert 0 < kept < 1000
    slow.scripted("r" * 1000)
    again = slow.attack()
    assert again.ret == 0
    assert f"{1000 - kept} attacked" in text(again)


def test_budget_too_short_for_one_prompt(world: World) -> None:
    """The same command would begin anew each time."""
    world.concept()
    world.scripted("rrrrrrrrrr", seconds=60.0)
    world.gate("max_asr='0%'")
    result = world.attack("--unlearndiff-time-budget=1s")
    result.stdout.fnmatch_lines(["E *AttackIncomplete: *used up before any prompt was finished: give it more time"])


def test_used_up_budget_loads_nothing(slow: World) -> None:
    slow.conftest("ScriptedEngine = None")
    result = slow.attack("--unlearndiff-time-budget=0s")
    result.stdout.fnmatch_lines([f"E *1000 of 1000 prompts are missing*{REMEDY}"])
