"""Ctrl-C and SIGTERM end a session at once; what is finished is kept, and the session says how to go on."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import pytest
from worlds import World


@pytest.fixture
def endless(world: World) -> World:
    """A gate of a hundred prompts that take a while each."""
    world.concept(count=100)
    world.scripted("r" * 100, seconds=0.1)
    world.gate("max_asr='0%'")
    return world


def disturb(world: World, number: signal.Signals, *arguments: str, everyone: bool) -> tuple[int, str]:
    """Send a signal as soon as two prompts are kept; returns exit status and output, once every process has ended."""
    process = world.start(*arguments)
    known = len(world.kept())
    while len(world.kept()) < known + 2:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    (os.killpg if everyone else os.kill)(process.pid, number)
    output, _ = process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    with suppress(ProcessLookupError):
        while True:
            os.killpg(process.pid, 0)
            assert time.monotonic() < deadline, "a worker goes on attacking"
            time.sleep(0.02)
    return process.returncode, output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_alone(endless: World, number: signal.Signals) -> None:
    status, output = disturb(endless, number, everyone=False)
    assert status == pytest.ExitCode.INTERRUPTED
    kept = len(endless.kept())
    assert f"test_gate.py::test_gate: {kept} of 100 prompts are kept, the same command goes on" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_with_workers(endless: World, number: signal.Signals) -> None:
    """A terminal's Ctrl-C reaches every process, a job scheduler's SIGTERM often only the first."""
    status, output = disturb(endless, number, "-n2", everyone=number == signal.SIGINT)
    assert status == pytest.ExitCode.INTERRUPTED
    store = endless.path / ".unlearndiff"
    said = f"interrupted in test_gate.py::test_gate: every prompt that finished is kept in {store}, the same command "
    assert f"{said}goes on" in output.splitlines()


def test_with_workers_every_gate_that_ran_or_was_not_reached_is_named(endless: World) -> None:
    for name in ("test_more", "test_yet_more"):
        endless.tests(
            """
            @pytest.mark.unlearndiff("church", max_asr='0%')
            @pytest.mark.parametrize("number", range(6))
            def test_gate(unlearndiff_attack, number): unlearndiff_attack()

            def test_none(): pass
            """,
            name,
        )
    status, output = disturb(endless, signal.SIGINT, "-n2", "-v", everyone=False)
    assert status == pytest.ExitCode.INTERRUPTED
    (running,) = [line for line in output.splitlines() if line.startswith("interrupted in ")]
    (waiting,) = [line for line in output.splitlines() if line.startswith("not reached: ")]
    names = running.removeprefix("interrupted in ").partition(": every prompt")[0].split(", ")
    assert len(names) == 2
    assert all("::test_gate" in name for name in names)
    assert waiting.endswith(" and 6 more")  # of 13 gates, two ran and five are named
    assert "test_none" not in running + waiting


def test_a_session_that_is_killed_is_not_taken_for_the_one_before(endless: World) -> None:
    """Whose gate passed, and was another."""
    endless.know("r" * 10, "tench")
    endless.gate("max_asr='10%'", "test_before", "tench")
    assert endless.run("test_before.py").ret == 0
    assert endless.attack("test_before.py").ret == 0
    assert endless.command("report").ret == 0
    status, _ = disturb(endless, signal.SIGKILL, "test_gate.py", everyone=True)
    assert status == -signal.SIGKILL
    for name, *arguments in (["report"], ["report", "md:-"], ["export", "x.csv"]):
        told = endless.command(name, *arguments)
        assert told.ret == 1
        told.stderr.fnmatch_lines(["the session that began at * has not ended: it still runs, or it was killed.*"])
    assert endless.attack("test_before.py").ret == 0
    told = endless.command("report")
    assert (told.ret, told.stderr.str().strip()) == (0, "")
