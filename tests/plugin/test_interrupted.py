"""Whatever stops an attack leaves the gate in the report, with what is kept and why the rest is missing."""

from __future__ import annotations

import json

import pytest
from worlds import World, row, section, text, verdict

# Told of an outcome as soon as it is kept, which is before anybody else is.
INTERRUPT = """

seen = []

def pytest_unlearndiff_outcome(outcome):
    seen.append(outcome)
    if len(seen) == 4:
        raise KeyboardInterrupt
"""


def interrupt(world: World, letters: str = "r" * 10) -> None:
    """Write a gate whose campaign is interrupted at the moment when the fourth of ten prompts is kept."""
    world.concept()
    world.scripted(letters)
    world.conftest(INTERRUPT)
    world.gate("max_asr='50%', exhaustive=True")
    world.apart = True  # Ctrl-C would end the session of these tests too


@pytest.mark.parametrize(
    ("mode", "kept", "lines"),
    [
        ("rw", "4 of 10 prompts are kept, the same command goes on", 4),
        ("refresh", "4 of 10 prompts are kept, go on without --unlearndiff-cache=refresh", 4),
        ("off", "nothing new is kept", 0),
        ("ro", "nothing new is kept", 0),
        ("unreadable", "0 of 10 prompts are kept", 0),
    ],
)
def test_outcomes_that_are_kept(world: World, mode: str, kept: str, lines: int) -> None:
    interrupt(world)
    if mode == "unreadable":
        journals = "__import__('pathlib').Path('.unlearndiff').rglob('journal.jsonl')"
        broken = f"for path in {journals}:\n            path.unlink()\n            path.mkdir()\n        raise Key"
        world.file("conftest.py", world.read("conftest.py").replace("raise Key", broken))
    result = world.attack(f"--unlearndiff-cache={'rw' if mode == 'unreadable' else mode}")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert f"interrupted in test_gate.py::test_gate: {kept}" in text(result)
    if mode != "unreadable":
        assert len(world.kept()) == lines


def test_rounds_that_are_kept(world: World) -> None:
    interrupt(world)
    saved = "\nScriptedEngine.take_checkpoints = lambda self: {'d' * 16: b'state'}\n"
    world.file("conftest.py", world.read("conftest.py") + saved)
    kept = "4 of 10 prompts are kept, and the rounds of 1 more, the same command goes on"
    assert f"interrupted in test_gate.py::test_gate: {kept}" in text(world.attack())


def test_reports_of_an_interrupted_session(world: World) -> None:
    """The gate that ran is INCOMPLETE with what its store holds; the others are named; no earlier report stays."""
    interrupt(world, "rrbbrrrrrr")
    world.gate("max_asr='10%'", "test_later")
    world.file("report.md", "1 of 1 gate passed")
    result = world.attack("--unlearndiff-report=json:report.json,md:report.md")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "not reached: test_later.py::test_later" in section(result)
    assert "4 attacked in" in text(result)
    assert "from the store" not in text(result)
    assert "1 of 1 gate passed" not in world.read("report.md")
    assert "interrupted" in world.read("report.md")
    report = json.loads(world.read("report.json"))
    assert report["run"]["cut_short"].startswith("interrupted")
    (gate,) = report["gates"]
    assert (gate["verdict"], gate["counts"]["hits_under_attack"], gate["counts"]["missing"]) == ("INCOMPLETE", 2, 6)
    assert [(gate["nodeid"], gate["how"]) for gate in report["unmeasured"]] == [
        ("test_later.py::test_later", "not reached")
    ]
    shown = world.command("report")
    assert shown.ret == 0
    told = "the session was cut short: interrupted in test_gate.py::test_gate: 4 of 10 prompts are kept"
    assert shown.outlines[1].startswith(told)
    assert [line for line in shown.outlines if line.startswith("church") and "INCOMPLETE" in line]
    assert [line for line in shown.outlines if line.startswith("not measured: test_later.py::test_later not reached: ")]
    exported = world.command("export", "known.csv")
    told = "2 adversarial prompts (not of all gates: session cut short, 1 not measured)"
    assert (exported.ret, exported.errlines) == (0, [told])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("KeyboardInterrupt()", "interrupted in test_gate.py::test_gate: 2 of 10 prompts are kept, the same command"),
        ("RuntimeError('half and float')", "E *AttackIncomplete: *Drawing was stopped by RuntimeError: half and float"),
    ],
)
def test_retention_gate(world: World, error: str, reason: str) -> None:
    world.concept("dog")
    world.scripted("gg!ggggggg", error=error)
    world.retain("'dog', min_rate='80%'", "test_gate")
    result = world.attack()
    assert result.ret == (pytest.ExitCode.INTERRUPTED if "Keyboard" in error else pytest.ExitCode.TESTS_FAILED)
    result.stdout.fnmatch_lines([f"{reason}*"])
    assert verdict(result, "dog") == "INCOMPLETE"


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
    report = json.loads(world.read("report.json"))
    assert "test_second.py::test_b" in [gate["nodeid"] for gate in report["unmeasured"]]


def test_handler_of_another_program_stays(world: World) -> None:
    """A program that embeds pytest may have plans for SIGTERM."""
    world.know("rrrrrrrrrr")
    world.gate("max_asr='10%'")
    world.conftest(
        """
        import signal

        def pytest_configure():
            signal.signal(signal.SIGTERM, print)

        def pytest_runtest_teardown():
            assert signal.getsignal(signal.SIGTERM) is print

        def pytest_unconfigure():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        """
    )
    world.run().assert_outcomes(passed=1)


ERRORS = "__import__('pytest_unlearndiff').core.errors"
HALF = "RuntimeError: expected Half but found Float"


@pytest.mark.parametrize(
    ("letters", "error", "limit", "ends", "told"),
    [
        (
            *("rr!rrrrrrr", "RuntimeError('expected Half but found Float')", "10%", "INCOMPLETE"),
            [f"*{HALF}", f"E *AttackIncomplete: *8 of 10 prompts are missing*The attack was stopped by {HALF}"],
        ),
        ("bb!rrrrrrr", "RuntimeError('expected Half but found Float')", "10%", "FAIL", []),
        ("!" * 10, f"{ERRORS}.ModelError('no such tensor')", "10%", "INCOMPLETE", ["E *ModelError: no such tensor"]),
        ("!" * 10, f"{ERRORS}.ModelError('no such tensor')", "99%", "INCOMPLETE", ["E *ModelError: no such tensor"]),
        (  # pytest-timeout fails the test from a signal handler
            *("rr!rrrrrrr", "__import__('pytest').fail.Exception('Timeout >1.0s')", "10%", "INCOMPLETE"),
            ["*The attack was stopped by Failed: Timeout >1.0s*"],
        ),
        (
            *("rr!rrrrrrr", f"{ERRORS}.StoreError('the disk is full')", "10%", "INCOMPLETE"),
            ["E *StoreError: the disk is full"],
        ),
    ],
)
def test_exception(world: World, letters: str, error: str, limit: str, ends: str, told: list[str]) -> None:
    """INCOMPLETE unless what is known decides it; the exception's own traceback is shown as the cause."""
    world.concept()
    world.scripted(letters, error=error)
    world.gate(f"max_asr={limit!r}")
    result = world.attack()
    result.assert_outcomes(failed=1)
    assert row(result).endswith(f" {ends}")
    result.stdout.fnmatch_lines(told)
    if letters.startswith("rr!"):
        assert "2 from the store, 8 missing" in text(result) or "2 attacked" in text(result)
    elif letters == "!" * 10:
        assert "no such tensor" in text(result)
