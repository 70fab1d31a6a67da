"""A real local Ray: workers change no outcome, may be killed, and so may the process that hands out prompts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from clusters import SCRIPTED
from tiny import EMOJI
from worlds import World, section

from pytest_unlearndiff.store.files import write_atomically

pytestmark = pytest.mark.slow

COUNT = 24


@pytest.fixture
def scripted(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A gate whose prompts take a tenth of a second each, in workers that need no torch."""
    world.file("site/sitecustomize.py", SCRIPTED)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(world.path / "site"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("BEGUN", str(world.path / "begun"))
    world.concept(count=COUNT)
    world.gate("max_asr='100%', exhaustive=True")
    return world


def told(world: World, store: str = ".unlearndiff") -> list[str]:
    """Every outcome kept, the base's among them, in no order and without times."""
    kept = world.kept(store) + world.kept(store, base=True)
    return sorted(json.dumps({**outcome, "seconds": 0}) for outcome in kept)


WANTED = [("hit-without-attack" if seed % 5 == 1 else "resisted") for seed in range(COUNT)]


def begun(world: World) -> list[list[str]]:
    path = world.path / "begun"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def kill_one(world: World) -> None:
    """Kill a worker; the others end nothing before a third process has begun something, however slowly it starts."""
    write_atomically(world.path / "begun.crowd", "3")
    os.kill(int(begun(world)[-1][0]), signal.SIGKILL)


def until(process: subprocess.Popen[str], ready: Any) -> None:
    while not ready():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def test_kill_of_a_worker(scripted: World) -> None:
    process = scripted.start("--unlearndiff-workers=2")
    until(process, lambda: len(scripted.kept()) >= 4)
    kill_one(scripted)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "24 attacked" in output
    kept = scripted.kept()
    assert len({outcome["prompt"] for outcome in kept}) == len(kept) == COUNT
    assert sorted(outcome["status"] for outcome in kept) == sorted(WANTED)
    assert len({who for who, _ in begun(scripted)}) == 3, "no other worker took its place"


@pytest.mark.parametrize("trouble", ["hang", "memory"])
def test_worker_that_hangs_or_has_no_memory(scripted: World, monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    monkeypatch.setenv("TROUBLE", f"{trouble} 7")
    result = scripted.attack("--unlearndiff-workers=2", "--unlearndiff-worker-timeout=15s")
    result.assert_outcomes(passed=1)
    assert sorted(outcome["status"] for outcome in scripted.kept()) == sorted(WANTED)
    assert (scripted.path / "begun.trouble").exists()
    assert {tries(scripted, prompt) for _, prompt in begun(scripted)} == {1, 2}


def test_prompt_that_kills_every_worker(scripted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROUBLE", "kill 7")
    scripted.attack("--unlearndiff-workers=2")
    kept = scripted.kept()
    [failed] = [outcome for outcome in kept if outcome["status"] == "error"]
    assert failed["seed"] == 7
    assert failed["error"].startswith(
        "3 workers were lost while they attacked this prompt; the last: RuntimeError: its "
    )
    assert tries(scripted, failed["prompt"]) == 3
    assert sorted(outcome["status"] for outcome in kept if outcome is not failed) == sorted([*WANTED[:7], *WANTED[8:]])


def tries(world: World, prompt: str) -> int:
    """How often a prompt was begun."""
    return sum(tried == prompt for _, tried in begun(world))


def test_resume_after_kill_of_the_driver(scripted: World) -> None:
    process = scripted.start("--unlearndiff-workers=2")
    until(process, lambda: len(scripted.kept()) >= 4)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    kept = {outcome["prompt"] for outcome in scripted.kept()}
    workers = {int(who) for who, _ in begun(scripted)}
    deadline = time.monotonic() + 60
    while any(map(alive, workers)):
        assert time.monotonic() < deadline, "workers outlive the process that they work for"
        time.sleep(0.1)
    before = len(begun(scripted))
    again = scripted.attack("--unlearndiff-workers=2")
    assert again.ret == 0
    assert f"{COUNT - len(kept)} attacked" in "".join(section(again))
    assert not kept & {prompt for _, prompt in begun(scripted)[before:]}
    assert sorted(outcome["status"] for outcome in scripted.kept()) == sorted(WANTED)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent to take notice of its end does not."""
    try:
        return re.search(r"^State:\s+[^ZX]", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE) is not None
    except OSError:
        return False


def test_sigterm_with_workers(scripted: World) -> None:
    process = scripted.start("--unlearndiff-workers=1")
    until(process, lambda: len(scripted.kept()) >= 2)
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert f"{len(scripted.kept())} of {COUNT} prompts are kept, the same command goes on" in output


def test_missing_cluster(scripted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not looked for on this machine, where other tests may run one."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    started = time.monotonic()
    result = scripted.attack("--unlearndiff-workers=ray")
    assert time.monotonic() - started < 200, "Ray itself gives up after ten minutes"
    assert result.ret == 1
    result.stdout.fnmatch_lines(["E *AttackUnavailable: --unlearndiff-workers=ray: Ray cannot be started or found: *"])


def test_real_attack_with_and_without_workers(world: World) -> None:
    """The emoji victim, its base and its judge in every worker, the default attack, and prompts that end in every way.

    Case 0 breaks in the first round; 16 needs no attack; 2 withstands all rounds.
    """
    models = (
        f"--unlearndiff-model={EMOJI / 'erased' / 'uce-fish.safetensors'}",
        f"--unlearndiff-base={EMOJI / 'model'}",
        f"--unlearndiff-concepts={EMOJI / 'concepts'}",
        "--unlearndiff-case-numbers=0,2,16",
    )
    world.gate("max_asr='100%', exhaustive=True", concept="fish")
    outcomes = []
    for how in (["--unlearndiff-batch-size=2"], ["--unlearndiff-workers=2", "--unlearndiff-batch-size=1"]):
        store = f"store{len(outcomes)}"
        world.bare(*models, *how, f"--unlearndiff-cache-dir={store}").assert_outcomes(passed=1)
        outcomes.append(told(world, store))
    assert len({json.loads(outcome)["status"] for outcome in outcomes[0]}) == 3
    assert len(outcomes[0]) == 3 + 3, "three prompts, and what the judge saw in the base's images of them"
    assert outcomes[1] == outcomes[0]


def test_judges_and_attacks_of_plugins_reach_workers(scripted: World) -> None:
    """The judge's weights are compared where the worker is, which knows its kind from the order alone."""
    scripted.file(
        "conftest.py",
        """
        from pytest_unlearndiff import AttackInfo, JudgeInfo

        def pytest_unlearndiff_register(config):
            return [
                JudgeInfo("red", "nowhere:Red", version="1", required={"model": str}, files=("model",)),
                AttackInfo("echo", "nowhere:Echo", version="1", needs_targets=True),
            ]
        """.replace("\n        ", "\n"),
    )
    judge = {"kind": "red", "model": "../judge"}
    scripted.file("concepts/church.yaml", json.dumps({"prompts": "church.csv", "judge": judge}))
    result = scripted.attack("--unlearndiff-workers=2", "--unlearndiff-attack=echo")
    assert result.ret == 0
    assert sorted(outcome["status"] for outcome in scripted.kept()) == sorted(WANTED)
