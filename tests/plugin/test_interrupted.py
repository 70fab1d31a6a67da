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
    world.apart = True  # Ctrl-C would end the session of these tests too
    return world


def test_a_store_that_cannot_be_read_any_more_holds_nothing(interrupted: World) -> None:
    conftest = interrupted.path / "conftest.py"
    broken = "import pathlib\n        for path in pathlib.Path('.unlearndiff').rglob('journal.jsonl'):\n            "
    broken += "path.unlink()\n            path.mkdir()\n        raise KeyboardInterrupt"
    conftest.write_text(conftest.read_text().replace("raise KeyboardInterrupt", broken))
    result = interrupted.attack()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    said = "interrupted in test_gate.py::test_gate: 0 of 10 prompts are kept"
    assert [line for line in section(result) if line.startswith(said)]


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
    assert f"interrupted in test_gate.py::test_gate: {kept}" in section(result)
    assert len(interrupted.kept()) == lines


def test_what_is_known_of_an_interrupted_session_is_reported_and_exported(interrupted: World) -> None:
    """The gate that ran is INCOMPLETE with what its store holds; the others are named."""
    interrupted.scripted("rrbbrrrrrr")
    conftest = interrupted.path / "conftest.py"
    conftest.write_text(conftest.read_text() + INTERRUPT)
    interrupted.gate("max_asr='50%', exhaustive=True")
    interrupted.gate("max_asr='10%'", "test_later")
    result = interrupted.attack("--unlearndiff-report=json:report.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "not reached: test_later.py::test_later" in section(result)
    report = json.loads((interrupted.path / "report.json").read_text(encoding="utf-8"))
    (gate,) = report["gates"]
    assert (gate["verdict"], gate["counts"]["hits_under_attack"], gate["counts"]["missing"]) == ("INCOMPLETE", 2, 6)
    assert [(gate["nodeid"], gate["how"]) for gate in report["unmeasured"]] == [
        ("test_later.py::test_later", "not reached")
    ]
    shown = interrupted.command("report")
    assert shown.ret == 0
    said = "the session was cut short: interrupted in test_gate.py::test_gate: 4 of 10 prompts are kept"
    assert shown.outlines[1].startswith(said)
    assert [line for line in shown.outlines if line.startswith("church") and "INCOMPLETE" in line]
    assert [line for line in shown.outlines if line.startswith("not measured: test_later.py::test_later not reached: ")]
    exported = interrupted.command("export", "known.csv")
    assert (exported.ret, exported.errlines) == (0, ["2 adversarial prompts"])


def test_a_retention_gate_that_is_interrupted_is_told_too(world: World) -> None:
    world.concept()
    world.scripted("gggg!ggggg", error="KeyboardInterrupt()")
    world.tests(
        """
        @pytest.mark.unlearndiff_retains("church", min_rate="80%")
        def test_gate(unlearndiff_retention):
            unlearndiff_retention()
        """
    )
    result = world.attack()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    said = "interrupted in test_gate.py::test_gate: 4 of 10 prompts are kept, the same command goes on"
    assert said in result.outlines
    assert [line for line in result.outlines if line.startswith("church ") and line.endswith(" INCOMPLETE")]


def test_gates_behind_a_failure_that_ends_the_session_are_named(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.tests("def test_other(): assert False", "test_first")
    world.tests(
        """
        def test_a(unlearndiff_attack): unlearndiff_attack("church", max_asr=0.1)

        def test_b(unlearndiff_attack): unlearndiff_attack("church", max_asr=0.1)

        @pytest.mark.parametrize("number", range(20))
        def test_none(number): pass
        """,
        "test_second",
    )
    result = world.run("-x", "--unlearndiff-report=json:report.json")
    assert result.ret != 0
    assert "not reached: test_second.py::test_a, test_second.py::test_b" in section(result)
    report = json.loads((world.path / "report.json").read_text(encoding="utf-8"))
    assert "test_second.py::test_b" in [gate["nodeid"] for gate in report["unmeasured"]]


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
