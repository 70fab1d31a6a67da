"""A campaign killed with kill -9 at fifty random points ends as an undisturbed one, and repeats no finished prompt."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

KILLS = 50

# The real campaign, store and journal; only the engine is a script, which notes what it begins.
SCRIPT = """
import sys, time, types
from pathlib import Path
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.engine_state import EngineState
from pytest_unlearndiff.runs.local_backend import LocalBackend
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.runs.runner import Runner
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Concept, JudgeConfig, Prompt
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.store.store import Store

sys.modules["pytest_unlearndiff.models.loading"] = types.ModuleType("loading")
root = Path(sys.argv[1])


class Engine:
    active = 1
    state = EngineState()
    worker_count = 0

    def take_checkpoints(self):
        return {}

    def run(self, prompts, checkpoints):
        for prompt in prompts:
            with (root / "begun").open("a") as log:
                log.write(prompt.digest + "\\n")
            time.sleep(0.002)
            status = Status.HIT_UNDER_ATTACK if prompt.seed % 3 == 0 else Status.RESISTED
            yield Outcome(prompt.digest, status, detail="x" * (prompt.seed * 37 % 9000))


LocalBackend.build = lambda *_: (Engine(), {})
prompts = tuple(Prompt(f"a church, number {i}", i, 7.5, i) for i in range(COUNT))
concept = Concept("church", prompts, JudgeConfig("image-classifier", {"label": "church"}))
campaign = Campaign(concept, AttackConfig(), Fingerprint("victim", "base"), "judge")
print("ready", flush=True)
Runner(Store(root / "store"), ModelCache(), LocalBackend(), batch_size=1).run(campaign, ModelSpec)
""".replace("COUNT", str(30 * KILLS))


def begin(root: Path) -> subprocess.Popen[str]:
    root.mkdir(exist_ok=True)
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == "ready\n"
    return process


def kept(root: Path) -> list[str]:
    """Outcomes in the journal; a line without its end is none."""
    lines = [line for path in root.glob("store/campaigns/*/journal.jsonl") for line in path.read_bytes().split(b"\n")]
    return [json.dumps(json.loads(line)["outcome"]) for line in lines if line.endswith(b"}")]


def begun(root: Path) -> list[str]:
    return (root / "begun").read_text().split() if (root / "begun").exists() else []


def test_fifty_kills_change_nothing(tmp_path: Path) -> None:
    random, root = Random(0), tmp_path / "killed"
    for _ in range(KILLS):
        finished, before = {json.loads(outcome)["prompt"] for outcome in kept(root)}, len(begun(root))
        process = begin(root)
        try:
            process.wait(random.uniform(0, 0.2))
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        assert process.returncode == -9, "the campaign ended before it could be killed; give it more prompts"
        assert not finished & set(begun(root)[before:])
    assert begin(root).wait() == 0
    assert begin(tmp_path / "undisturbed").wait() == 0
    assert sorted(kept(root)) == sorted(kept(tmp_path / "undisturbed"))
