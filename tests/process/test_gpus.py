"""Processes queue for a GPU: nobody shares one, nobody is overtaken, and the dead hold none. No GPU is needed here."""

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
from pytest_unlearndiff.runs.gpu_slots import GpuSlots, places_folder, visible_gpus

# Says what it waits for and what it got, then holds that until it is told to leave.
HOLDER = """
import sys
from pytest_unlearndiff.runs.gpu_slots import GpuSlots

def say(text):
    print(text, flush=True)

places = GpuSlots(int(sys.argv[2]), lambda text: say("waits"))
say(places.take(sys.argv[1]))
for line in sys.stdin:
    say(str(places.awaited()) if "awaited" in line else places.leave())
"""


class Holder:
    """A process that wants a GPU."""

    def __init__(self, device: str, each: int = 1) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, device, str(each)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def asked(self, what: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.says()


class Holders(list[Holder]):
    def start(self, device: str = "cuda", each: int = 1) -> Holder:
        self.append(Holder(device, each))
        return self[-1]


@pytest.fixture
def holders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Holders]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5/x")
    found = Holders()
    yield found
    for holder in found:
        holder.process.kill()
        holder.process.communicate()


def test_each_gpu_is_one_processes_own_and_the_next_waits_until_one_dies(holders: Holders) -> None:
    one, two = holders.start(), holders.start()
    assert sorted([one.says(), two.says()]) == ["cuda:0", "cuda:1"]
    three = holders.start()
    assert three.says() == "waits"
    assert [one.asked("awaited"), two.asked("awaited")] == ["True", "True"]
    os.kill(one.process.pid, signal.SIGKILL)
    assert three.says() in ("cuda:0", "cuda:1")
    assert two.asked("awaited") == "False"


def test_who_waits_is_not_overtaken(holders: Holders) -> None:
    """The one that gave its place back gets it again only after the one that waited."""
    one = holders.start("cuda:1")
    assert one.says() == "cuda:1"
    two = holders.start("cuda:1")
    assert two.says() == "waits"
    places = GpuSlots(1, lambda text: None)
    with pytest.raises(AttackUnavailable, match="no place on cuda:1 became free"):
        places.take("cuda:1", lambda: True)
    assert one.asked("leave") == "None"
    assert two.says() == "cuda:1"


def test_who_waits_for_one_gpu_is_in_nobodys_way_on_another(holders: Holders) -> None:
    one, two = holders.start("cuda:1"), holders.start("cuda:1")
    assert sorted([one.says(), two.says()]) == ["cuda:1", "waits"]
    assert holders.start("cuda").says() == "cuda:0"


def test_a_gpu_may_be_shared_by_as_many_as_the_user_says(holders: Holders) -> None:
    sharing = [holders.start("cuda:0", 2) for _ in range(2)]
    assert [holder.says() for holder in sharing] == ["cuda:0", "cuda:0"]
    assert holders.start("cuda:0", 2).says() == "waits"


def test_a_process_that_has_a_place_takes_no_second_one(holders: Holders) -> None:
    places = GpuSlots(1, lambda text: None)
    assert places.take("cuda") == places.take("cuda") == places.take("cuda:0") == "cuda:0"
    assert holders.start().says() == "cuda:1"
    places.leave()
    assert not places.awaited()
    assert places.take("cuda") == "cuda:0"


@pytest.mark.parametrize(("visible", "said"), [("", "sees no GPU"), ("-1", "sees no GPU"), ("7", "the GPUs here are")])
def test_a_gpu_that_is_not_there_is_an_error(
    holders: Holders, monkeypatch: pytest.MonkeyPatch, visible: str, said: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(AttackUnavailable, match=said):
        GpuSlots(1, lambda text: None).take("cuda:4")


def test_names_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, 3")
    assert visible_gpus() == ["1", "3"]


@pytest.mark.parametrize("there", ["file", "link"])
def test_a_folder_of_somebody_else_is_refused(holders: Holders, tmp_path: Path, there: str) -> None:
    path = tmp_path / f"pytest-unlearndiff-{os.getuid()}"
    path.touch() if there == "file" else path.symlink_to(tmp_path)
    with pytest.raises(AttackUnavailable, match="TMPDIR"):
        places_folder()


LOGGED = """
import json, os
from pytest_unlearndiff.core import device

device.gpus_foreseen = lambda: 1

def log(**what):
    with open("log", "a") as file:
        print(json.dumps({"at": time.monotonic(), **what}), file=file)

def logged(run):
    def running(self, prompts):
        log(what="begins")
        try:
            yield from run(self, prompts)
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
    """Two gates that want a GPU of the one that there seems to be."""
    monkeypatch.setenv("TMPDIR", str(world.path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    world.scripted("rrrrr", seconds=0.2)
    world.file("conftest.py", (world.path / "conftest.py").read_text() + LOGGED)
    for concept in ("church", "fish"):
        world.concept(concept, 5)
        world.gate("max_asr='10%', exhaustive=True", f"test_{concept}", concept)
    return world


def log(world: World) -> list[tuple[str, str]]:
    """What happened, in its order, and where."""
    lines = sorted(map(json.loads, (world.path / "log").read_text().splitlines()), key=lambda line: line["at"])
    return [(line["what"], line.get("device", "")) for line in lines]


TURN = [("loads", "cuda:0"), ("begins", ""), ("ends", "")]


def test_workers_take_turns_on_one_gpu(gpu: World) -> None:
    result = gpu.attack("-n2", "--unlearndiff-device=cuda")
    result.assert_outcomes(passed=2)
    assert log(gpu) == [*TURN, *TURN]
    assert "waits for cuda:0, which other processes use" in result.stderr.str()
    assert "unlearndiff: gw" in result.stderr.str()


def test_what_others_attacked_meanwhile_is_not_loaded_again(gpu: World) -> None:
    gpu.gate("max_asr='20%', exhaustive=True", "test_fish", "church")
    result = gpu.attack("-n2", "--unlearndiff-device=cuda", "--dist=loadfile")
    result.assert_outcomes(passed=2)
    assert log(gpu) == TURN
    assert any("all 5 from the store" in line for line in section(result))


@pytest.mark.parametrize("arguments", [("--unlearndiff-device=cuda", "--unlearndiff-per-gpu=2"), ()])
def test_nobody_waits_where_there_is_room(gpu: World, arguments: tuple[str, ...]) -> None:
    """Twice as many processes on the GPU, or none at all."""
    result = gpu.attack("-n2", *arguments)
    result.assert_outcomes(passed=2)
    assert "waits" not in result.stderr.str()
    assert {device for what, device in log(gpu) if what == "loads"} == {"cuda:0" if arguments else "cpu"}
    assert bool(list(gpu.path.glob("pytest-unlearndiff-*"))) == bool(arguments)


def test_a_budget_ends_waiting(gpu: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    places = GpuSlots(1, lambda text: None)
    places.take("cuda")
    started = time.monotonic()
    result = gpu.attack("--unlearndiff-device=cuda", "--unlearndiff-time-budget=2s", "test_fish.py")
    places.leave()
    assert time.monotonic() - started > 2
    result.assert_outcomes(failed=1)
    assert "no place on cuda:0 became free within --unlearndiff-time-budget" in result.stdout.str()
    assert not (gpu.path / "log").exists()


def test_who_waits_is_silent_where_progress_is_off(gpu: World) -> None:
    result = gpu.attack("-n2", "--unlearndiff-device=cuda", "--unlearndiff-progress=off")
    result.assert_outcomes(passed=2)
    assert log(gpu) == [*TURN, *TURN]
    assert "waits" not in result.stderr.str()


def test_without_a_choice_every_gpu_that_torch_sees_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert visible_gpus() == ["0", "1"]
