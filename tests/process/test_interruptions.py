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
    while len(world.kept()) < 2:
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
    assert f"interrupted: every prompt that finished is kept in {endless.path / '.unlearndiff'}, the same" in output
