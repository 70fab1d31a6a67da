"""Kill -9 in the middle of a real campaign, run again: no finished prompt is repeated, the outcomes are the same."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import EMOJI

pytestmark = pytest.mark.slow

GATE = f"""
import pytest

@pytest.mark.unlearndiff("church", prompts=4, exhaustive=True, model=r"{EMOJI / "erased" / "uce-church.safetensors"}",
                         base=r"{EMOJI / "model"}")
def test_church(unlearndiff_attack):
    unlearndiff_attack()
"""


def session(folder: Path, *, wait: bool) -> subprocess.Popen[str]:
    """A pytest session on the gate, in a process group of its own."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--unlearndiff-batch-size=2",
            f"--unlearndiff-concepts={EMOJI / 'concepts'}",
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell's background jobs ignore SIGINT, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    if wait:
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
    return process


def journal(folder: Path) -> list[dict[str, object]]:
    """Outcomes in the store, in the order they were written, without what differs between any two runs."""
    keys = [path for path in folder.glob(".unlearndiff/campaigns/*/key.json") if '"unlearndiff"' in path.read_text()]
    file = keys[0].with_name("journal.jsonl") if keys else None  # beside it is what the base drew, as positive control
    lines = file.read_text().splitlines() if file and file.exists() else []
    outcomes = [json.loads(line)["outcome"] for line in lines if line.endswith("}")]
    return [{key: value for key, value in outcome.items() if key != "seconds"} for outcome in outcomes]


def in_progress(folder: Path) -> list[Path]:
    """Checkpoints of prompts whose attack has begun."""
    return list(folder.glob(".unlearndiff/campaigns/*/in-progress/*.safetensors"))


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_gate.py").write_text(GATE)
    process = session(tmp_path, wait=False)
    while len(journal(tmp_path)) < 2:
        assert process.poll() is None, "the campaign ended before it could be interrupted"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    kept = len(journal(tmp_path))
    rounds = r"(, and the rounds of \d more)?"  # whether a round had ended is a matter of milliseconds
    line = rf"interrupted in test_gate\.py::test_church: {kept} of 4 prompts are kept{rounds}, the same command goes on"
    assert re.search(f"^{line}$", output, re.MULTILINE), output


def test_killed_and_run_again_equals_undisturbed(tmp_path: Path) -> None:
    folders = [tmp_path / "undisturbed", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_gate.py").write_text(GATE)
    session(folders[0], wait=True)

    process = session(folders[1], wait=False)
    while not journal(folders[1]) or not in_progress(folders[1]):
        assert process.poll() is None, "the campaign ended before it could be killed"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = journal(folders[1])
    begun = in_progress(folders[1])
    session(folders[1], wait=True)
    assert begun
    assert not in_progress(folders[1])

    undisturbed, resumed = journal(folders[0]), journal(folders[1])
    assert len(undisturbed) == 4
    assert resumed[: len(kept)] == kept
    assert len({outcome["prompt"] for outcome in resumed}) == len(resumed)
    assert sorted(resumed, key=lambda o: str(o["prompt"])) == sorted(undisturbed, key=lambda o: str(o["prompt"]))
