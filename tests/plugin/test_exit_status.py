"""The exit status is what README's table says, for every situation that the table names."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from worlds import MODEL, World

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = README[
    README.index("The exit status is pytest's:") : README.index("`python -m pytest_unlearndiff` exits with")
]
TABLE = dict(re.findall(r"^\| (\d) \| (.+) \|$", SECTION, flags=re.MULTILINE))

Session = Callable[[World], pytest.RunResult]


def gate(letters: str, *arguments: str, keywords: str = "max_asr='10%'") -> Session:
    """A session on one gate of which this is known."""

    def run(world: World) -> pytest.RunResult:
        world.know(letters)
        world.gate(keywords)
        return world.run(*arguments)

    return run


def bare(*arguments: str, keywords: str = "max_asr='10%'") -> Session:
    """A session on one gate without a model."""

    def run(world: World) -> pytest.RunResult:
        world.concept()
        world.gate(keywords)
        return world.bare(*arguments)

    return run


def attacked(error: str, *arguments: str, seconds: float = 0.0) -> Session:
    """A session whose attack ends in this way."""

    def run(world: World) -> pytest.RunResult:
        world.concept()
        world.scripted("rr!rrrrrrr", error=error, seconds=seconds)
        world.gate("max_asr='10%'")
        return world.attack(*arguments)

    return run


def expected(world: World) -> pytest.RunResult:
    world.know("bbrrrrrrrr")
    mark = "@pytest.mark.xfail\n@pytest.mark.unlearndiff('church', max_asr='10%')\n"
    world.tests(f"{mark}def test_gate(unlearndiff_attack): unlearndiff_attack()")
    return world.run()


SITUATIONS: list[tuple[int, str, Session]] = [
    (0, "every gate passed", gate("rrrrrrrrrr")),
    (0, "failed as expected", expected),
    (0, "skipped since no model is given", bare()),
    (0, "--unlearndiff-plan", gate("..........", "--unlearndiff-plan")),
    (1, "FAIL", gate("bbrrrrrrrr")),
    (1, "INCONCLUSIVE", gate("b" + "r" * 29, keywords="max_asr='10%', gate='upper'")),
    (1, "INCOMPLETE", attacked("RuntimeError('half and float')")),
    (1, "a budget is used up", attacked("", "--unlearndiff-time-budget=0s")),
    (1, "the store lacks what may not be drawn", gate("rrrr......")),
    (1, "a gate was skipped", bare("--unlearndiff-require")),
    (1, "a report could not be written", gate("rrrrrrrrrr", "--unlearndiff-report=md:test_gate.py/report.md")),
    (1, "under `-n`, a bad marker", gate("rrrrrrrrrr", "-n1", keywords="max_asr='1000%'")),
    (2, "Ctrl-C", attacked("KeyboardInterrupt()")),
    (2, "a bad marker", gate("rrrrrrrrrr", keywords="max_asr='1000%'")),
    (4, "a bad option", gate("rrrrrrrrrr", "--unlearndiff-cache=sometimes")),
    (4, "a path that leads nowhere", bare("--unlearndiff-model=nowhere")),
    (5, "no test was collected", lambda world: world.bare(*MODEL)),
]


@pytest.mark.parametrize(("status", "situation", "session"), SITUATIONS, ids=[f"{n} {s}" for n, s, _ in SITUATIONS])
def test_a_situation_of_the_table(world: World, status: int, situation: str, session: Session) -> None:
    assert situation in TABLE[str(status)]
    assert session(world).ret == status


def test_every_status_of_the_table_is_tried() -> None:
    assert {int(status) for status in TABLE} == {status for status, _, _ in SITUATIONS}


def test_help_lists_them_too(world: World) -> None:
    """So do the commands beside pytest."""
    for arguments in (("-m", "pytest", "--help"), ("-m", "pytest_unlearndiff", "--help")):
        said = " ".join(world.pytester.run(sys.executable, *arguments).stdout.str().split())
        assert "exit status: 0" in said.lower(), arguments


def test_help_and_readme_agree_on_schedules_and_budgets(world: World) -> None:
    said = " ".join(world.bare("--help").stdout.str().split())
    for words in (
        "upstream's program, with which published numbers were made",
        "also repeats noise as that program does by accident",
        "at the end of a round: what is finished is kept",
    ):
        assert words in README
        assert words in said
