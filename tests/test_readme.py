"""README is one page, and says of the code what is true; its gate prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest
from tiny import EMOJI

from pytest_unlearndiff.core.info import Effort
from pytest_unlearndiff.core.registry import registry

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_one_page() -> None:
    assert len(README.splitlines()) <= 150


def test_set_up_commands_stand() -> None:
    commands = [block.strip() for block in pages.blocks(README, "")]
    for environment in ("demo", "tests"):
        assert f"python -m pip install tox && tox -e {environment}" in commands


def test_families_are_those_of_the_registry() -> None:
    [text] = re.findall(r"<!-- families -->\n(.*?)\.\n\s*<!-- /families -->", README, flags=re.DOTALL)
    assert " ".join(text.split()).split(", ") == [family.title for family in registry().families.values()]


def test_costs_of_attacks_are_those_of_their_schedules() -> None:
    rows = dict(re.findall(r"^\| (`[a-z].*?) \|.*?\| ([\d,]+; [\d,]*\d)", README, flags=re.MULTILINE))
    stated = {name: costs for names, costs in rows.items() for name in re.findall("`(.+?)`", names)}
    costs = {
        name: "; ".join(f"{info.schedules[schedule].forward_passes(100):,}" for schedule in ("fast", "paper"))
        for name, info in registry().attacks.items()
        if info.effort is Effort.SCHEDULED
    }
    assert stated == costs


def test_its_examples_and_links_hold() -> None:
    assert pages.problems(ROOT / "README.md", README) == []


@pytest.mark.slow
def test_its_gate_and_the_tutorial_print_what_they_say(pytester: pytest.Pytester) -> None:
    """One attack answers both: the tutorial's gate is README's, with options from an ini file."""
    tutorial = (ROOT / "examples" / "guide" / "docs" / "tutorial.md").read_text(encoding="utf-8")
    pages.follow(pytester, tutorial.replace("EMOJI/", f"{EMOJI}/"))
    pytester.makeini("[pytest]\n")
    [command] = re.findall(r"^pytest test_release.py .*$", README, flags=re.MULTILINE)
    [output] = pages.blocks(README, "text")
    pages.check_output(pytester, f"{command} -k fish".replace("$EMOJI", str(EMOJI)), output)
