"""Ctrl-C in a campaign: the section says where it stopped and what is kept, in words that are true of the store."""

from __future__ import annotations

import json

import pytest
from worlds import World, section

# Told of an outcome as soon as it is kept, which is before anybody else is.
INTERRUPT = """

seen = []

def pytest_unlearndiff_outcome(outcome):
    seen.append(outcome)
    if len(seen) == 4:
        raise KeyboardInterrupt
"""


@pytest.fixture
def interrupted(world: World) -> World:
    """A gate whose campaign is interrupted at the moment when the fourth of ten prompts is kept."""
    world.concept()
    world.scripted("r" * 10)
    world.gate("max_asr='10%', exhaustive=True")
    conftest = world.path / "conftest.py"
    conftest.write_text(conftest.read_text() + INTERRUPT)
    return world


def test_a_store_that_cannot_be_read_any_more_holds_nothing(interrupted: World) -> None:
    conftest = interrupted.path / "conftest.py"
    broken = "import pathlib\n        for path in pathlib.Path('.unlearndiff').rglob('journal.jsonl'):\n            "
    broken += "path.unlink()\n            path.mkdir()\n        raise KeyboardInterrupt"
    conftest.write_text(conftest.read_text().replace("raise KeyboardInterrupt", broken))
    result = interrupted.attack()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert section(result)[0].startswith("interrupted in test_gate.py::test_gate: 0 of 10 prompts are kept")


@pytest.mark.parametrize(
    ("mode", "kept", "lines"),
    [
        ("rw", "4 of 10 prompts are kept, the same command goes on", 4),
        ("refresh", "4 of 10 prompts are kept, go on without --unlearndiff-cache=refresh", 4),
        ("off", "nothing new is kept", 0),
        ("ro", "nothing new is kept", 0),
    ],
)
def test_what_is_kept(interrupted: World, mode: str, kept: str, lines: int) -> None:
    result = interrupted.attack(f"--unlearndiff-cache={mode}")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert section(result)[0] == f"interrupted in test_gate.py::test_gate: {kept}"
    assert len(interrupted.kept()) == lines


def test_workers_of_a_store_that_is_not_written(interrupted: World) -> None:
    result = interrupted.attack("--unlearndiff-cache=ro", "-n2")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "interrupted: nothing new is kept" in result.stdout.str()


def test_a_handler_of_somebody_else_stays(world: World) -> None:
    """Who embeds pytest may have plans for SIGTERM."""
    world.know("rrrrrrrrrr")
    world.gate("max_asr='10%'")
    world.file(
        "conftest.py",
        "import signal\n\ndef pytest_configure():\n    signal.signal(signal.SIGTERM, print)\n\n"
        "def pytest_runtest_teardown():\n    assert signal.getsignal(signal.SIGTERM) is print\n",
    )
    world.run().assert_outcomes(passed=1)


def test_the_report_of_a_session_before_does_not_stay(interrupted: World, workers: tuple[str, ...]) -> None:
    """It may say that all is well."""
    interrupted.file("report.md", "1 of 1 gate passed")
    result = interrupted.attack("--unlearndiff-report=md:report.md,json:report.json", *workers)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    report = (interrupted.path / "report.md").read_text(encoding="utf-8")
    assert "1 of 1 gate passed" not in report
    written = json.loads((interrupted.path / "report.json").read_text(encoding="utf-8"))
    assert written["run"]["cut_short"].startswith("interrupted")
    assert "interrupted" in report
