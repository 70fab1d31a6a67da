"""Processes take turns on a GPU: nobody shares one, and the dead hold none. No GPU is needed here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from worlds import World, section

from pytest_unlearndiff.core.errors import AttackUnavailable
from pytest_unlearndiff.runs.gpu_slots import GpuSlots, visible_gpus

# Says that it waits and what it got, then holds that until it is told to release it.
HOLDER = """
import sys
from pytest_unlearndiff.runs.gpu_slots import GpuSlots

slots = GpuSlots(lambda text: print("waits", flush=True))
print(slots.acquire(sys.argv[1]), flush=True)
sys.stdin.readline()
slots.release()
sys.stdin.readline()
"""


class Holder:
    """A process that wants a GPU."""

    def __init__(self, device: str) -> None:
        command = [sys.executable, "-c", HOLDER, device]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def output(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def release(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


class Holders(list[Holder]):
    def start(self, device: str = "cuda") -> Holder:
        self.append(Holder(device))
        return self[-1]


@pytest.fixture
def holders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Holders]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5/x")
    holders = Holders()
    yield holders
    for holder in holders:
        holder.process.kill()
        holder.process.communicate()


def test_gpus_are_exclusive_and_released_by_death(holders: Holders) -> None:
    one, two = holders.start(), holders.start()
    assert sorted([one.output(), two.output()]) == ["cuda:0", "cuda:1"]
    three = holders.start()
    assert three.output() == "waits"
    os.kill(one.process.pid, signal.SIGKILL)
    assert three.output() in ("cuda:0", "cuda:1")
    with pytest.raises(AttackUnavailable, match=r"cuda:1 did not become free within --unlearndiff-time-budget"):
        GpuSlots(lambda text: None).acquire("cuda:1", lambda: True)
    slots = GpuSlots(lambda text: None)
    two.release()
    assert slots.acquire("cuda") == slots.acquire("cuda") in ("cuda:0", "cuda:1")
    slots.release()


@pytest.mark.parametrize(
    ("visible", "message"), [("", "sees no GPU"), ("-1", "sees no GPU"), ("7", "the GPUs here are")]
)
def test_missing_gpu_is_an_error(holders: Holders, monkeypatch: pytest.MonkeyPatch, visible: str, message: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(AttackUnavailable, match=message):
        GpuSlots(lambda text: None).acquire("cuda:4")


def test_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, 3")
    assert visible_gpus() == ["1", "3"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert visible_gpus() == ["0", "1"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_foreign_lock_folder_is_refused(holders: Holders, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"pytest-unlearndiff-{os.getuid()}"
    path.touch() if kind == "file" else path.symlink_to(tmp_path)
    with pytest.raises(AttackUnavailable, match="TMPDIR"):
        GpuSlots(lambda text: None).acquire("cuda")


LOGGED = """
import json, os
from pytest_unlearndiff.core import device

device.gpus_foreseen = lambda: 1

def log(**what):
    with open("log", "a") as file:
        print(json.dumps({"at": time.monotonic(), **what}), file=file)

def logged(run):
    def running(self, prompts, *rest):
        log(what="begins")
        try:
            yield from run(self, prompts, *rest)
        finally:
            log(what="ends")
    return running

ScriptedEngine.run = logged(ScriptedEngine.run)

def described(self, source):
    log(what="loads", device=source.device)
    return {}

ScriptedEngine.described = described
"""


@pytest.fixture
def gpu(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Three gates that want the one GPU that there seems to be."""
    world.apart = True
    monkeypatch.setenv("TMPDIR", str(world.path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    world.scripted("rrr", seconds=0.2)
    world.file("conftest.py", (world.path / "conftest.py").read_text() + LOGGED)
    for concept in ("church", "fish", "tench"):
        world.concept(concept, 3)
        world.gate("max_asr='10%', exhaustive=True", f"test_{concept}", concept)
    return world


def log(world: World) -> list[tuple[str, str]]:
    """What happened, in its order, and where."""
    lines = sorted(map(json.loads, (world.path / "log").read_text().splitlines()), key=lambda line: line["at"])
    return [(line["what"], line.get("device", "")) for line in lines]


TURN = [("loads", "cuda:0"), ("begins", ""), ("ends", "")]


@pytest.mark.parametrize("progress", [(), ("--unlearndiff-progress=off",)])
def test_xdist_processes_take_turns_on_one_gpu(gpu: World, progress: tuple[str, ...]) -> None:
    """Also where one of them has more tests than the other: each gives the GPU back after each test."""
    result = gpu.attack("-n2", "--unlearndiff-device=cuda", *progress)
    result.assert_outcomes(passed=3)
    assert log(gpu) == [*TURN, *TURN, *TURN]
    assert ("waits for cuda:0, which other processes use" in result.stderr.str()) is (not progress)
    assert ("unlearndiff: gw" in result.stderr.str()) is (not progress)


def test_prompts_attacked_by_others_while_waiting(gpu: World) -> None:
    (gpu.path / "test_tench.py").unlink()
    gpu.gate("max_asr='20%', exhaustive=True", "test_fish", "church")
    result = gpu.attack("-n2", "--unlearndiff-device=cuda", "--dist=loadfile")
    result.assert_outcomes(passed=2)
    assert log(gpu) == TURN
    assert any("all 3 from the store" in line for line in section(result))


def test_time_budget_ends_waiting(gpu: World) -> None:
    slots = GpuSlots(lambda text: None)
    slots.acquire("cuda")
    started = time.monotonic()
    result = gpu.attack("--unlearndiff-device=cuda", "--unlearndiff-time-budget=2s", "test_fish.py")
    slots.release()
    assert time.monotonic() - started > 2
    result.assert_outcomes(failed=1)
    assert "cuda:0 did not become free within --unlearndiff-time-budget" in result.stdout.str()
    assert not (gpu.path / "log").exists()
