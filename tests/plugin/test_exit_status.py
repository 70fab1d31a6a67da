"""The exit status is what the guide's table says, for every situation that the table names."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from worlds import MODEL, REQUIRE, World

OPTIONS = Path(__file__).resolve().parents[2] / "examples" / "guide" / "docs" / "reference" / "options.md"
SECTION = OPTIONS.read_text(encoding="utf-8").partition("## Exit status")[2].partition("\n## ")[0]
TABLE = dict(re.findall(r"^\| (\d) \| (.+) \|$", SECTION, flags=re.MULTILINE))

Session = Callable[[World], pytest.RunResult]


def gate(letters: str, *arguments: str, keywords: str = "max_asr='10%'", model: bool = True) -> Session:
    """A session on one gate of which this is known, with or without a model."""

    def run(world: World) -> pytest.RunResult:
        world.know(letters)
        world.gate(keywords)
        return world.bare(*(*MODEL, REQUIRE) * model, *arguments)

    return run


def attacked(error: str, *arguments: str) -> Session:
    """A session whose attack ends in this way."""

    def run(world: World) -> pytest.RunResult:
        world.concept()
        world.scripted("rr!rrrrrrr", error=error)
        world.gate("max_asr='10%'")
        return world.attack(*arguments)

    return run


def expected(world: World) -> pytest.RunResult:
    world.know("bbrrrrrrrr")
    world.tests("@pytest.mark.xfail\ndef test_gate(unlearndiff_attack): unlearndiff_attack('church', max_asr='10%')")
    return world.run()


SITUATIONS: list[tuple[int, str, Session]] = [
    (0, "every gate passed", gate("rrrrrrrrrr")),
    (0, "failed as expected", expected),
    (0, "skipped since no model is given", gate("..........", model=False)),
    (0, "--unlearndiff-plan", gate("..........", "--unlearndiff-plan")),
    (1, "FAIL", gate("bbrrrrrrrr")),
    (1, "INCONCLUSIVE", gate("b" + "r" * 29, keywords="max_asr='10%', gate='upper'")),
    (1, "INCOMPLETE", attacked("RuntimeError('half and float')")),
    (1, "a budget is used up", attacked("", "--unlearndiff-time-budget=0s")),
    (1, "the store lacks what may not be drawn", gate("rrrr......")),
    (1, "a gate was skipped", gate("rrrrrrrrrr", "--unlearndiff-require", model=False)),
    (1, "a report could not be written", gate("rrrrrrrrrr", "--unlearndiff-report=md:test_gate.py/report.md")),
    (1, "under `-n`, a bad marker", gate("rrrrrrrrrr", "-n1", keywords="max_asr='1000%'")),
    (2, "Ctrl-C", attacked("KeyboardInterrupt()")),
    (2, "a bad marker", gate("rrrrrrrrrr", keywords="max_asr='1000%'")),
    (4, "a bad option", gate("rrrrrrrrrr", "--unlearndiff-cache=sometimes")),
    (4, "a path that leads nowhere", gate("rrrrrrrrrr", "--unlearndiff-model=nowhere", model=False)),
    (5, "no test was collected", lambda world: world.bare(*MODEL)),
]


@pytest.mark.parametrize(("status", "situation", "session"), SITUATIONS, ids=[f"{n} {s}" for n, s, _ in SITUATIONS])
def test_situation_of_the_table(world: World, status: int, situation: str, session: Session) -> None:
    assert {int(number) for number in TABLE} == {number for number, _, _ in SITUATIONS}
    assert situation in TABLE[str(status)]
    assert session(world).ret == status


def test_help(world: World) -> None:
    """It lists the statuses, as the commands beside pytest do, and says what schedules and budgets are."""
    texts = [" ".join(world.bare("--help").stdout.str().split())]
    commands = world.pytester.run(sys.executable, "-m", "pytest_unlearndiff", "--help")
    texts.append(" ".join(commands.stdout.str().split()))
    for text in texts:
        assert "exit status: 0" in text.lower()
    for words in (
        "upstream's program, with which published numbers were made",
        "also repeats noise as that program does by accident",
        "at the end of a round: what is finished is kept",
    ):
        assert words in texts[0]
