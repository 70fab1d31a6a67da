"""The pull-request lane of examples/release_gate, run as GitHub would run it, with a full store and with none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from worlds import World, section

PROJECT = Path(__file__).resolve().parents[2] / "examples" / "release_gate"
WORKFLOW = PROJECT / ".github" / "workflows" / "unlearning-gates.yml"
MODEL = ("--unlearndiff-model=models/release.safetensors", "--unlearndiff-base=models/base")

# Stands for python: it makes an environment of itself, notes what it should install, and else is the test's own.
PYTHON = f"""#!/usr/bin/env bash
case "$1 $2" in
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip") echo "${{@:3}}" >> installed ;;
  *) exec {sys.executable} "$@" ;;
esac
"""


@pytest.fixture
def repository(world: World) -> World:
    """A repository as the workflow expects it, and a shared store in which ten outcomes of its gate are."""
    world.concept()
    world.scripted("rrrrrrrrrr")
    (world.path / "gates").mkdir()
    (world.path / "concepts").rename(world.path / "gates" / "concepts")
    world.file("judge/model.safetensors", "judge weights")
    (world.path / "judge").rename(world.path / "gates" / "judge")
    world.file("models/release.safetensors", "weights:{unlearned}")
    world.file("models/base/model_index.json", "{}")
    world.file("models/base/unet.safetensors", "un-erased weights")
    (world.path / "gates" / "test_gate.py").write_text(
        "import pytest\n\n\n@pytest.mark.unlearndiff('church', max_asr='10%', exhaustive=True)\n"
        "def test_gate(unlearndiff_attack):\n    unlearndiff_attack()\n"
    )
    filled = world.bare(
        "gates",
        f"--unlearndiff-cache-dir=file://{world.path / 'store'}",
        *MODEL,
    )
    assert "10 attacked" in "".join(section(filled))
    shutil.rmtree(world.path / ".unlearndiff")
    world.without_torch()
    python = world.file("bin/python", PYTHON)
    python.chmod(0o755)
    return world


def script_of(lane: str) -> str:
    """Return the commands of a lane."""
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    [script] = [step["run"] for step in workflow["jobs"][lane]["steps"] if "run" in step]
    return str(script)


def pull_request(world: World, store: str) -> subprocess.CompletedProcess[str]:
    """Run the lane's step with the workflow's environment."""
    workflow, script = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8")), script_of("pull-request")
    options = workflow["env"]["PYTEST_ADDOPTS"].replace("${{ vars.UNLEARNDIFF_STORE }}", f"file://{world.path / store}")
    variables = {"PYTEST_ADDOPTS": " ".join([options, *MODEL])}
    found = os.pathsep.join([str(world.path / "bin"), os.environ["PATH"]])
    summary = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(world.path / "summary.md")}
    return subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=world.path,
        env={**os.environ, **variables, **summary, "PATH": found},
        capture_output=True,
        text=True,
    )


def test_a_pull_request_reads_what_the_night_has_attacked(repository: World) -> None:
    ran = pull_request(repository, "store")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "all 10 from the store" in ran.stdout
    assert "PASS" in (repository.path / "summary.md").read_text()
    installed = (repository.path / "installed").read_text().splitlines()
    assert installed == ["install pip>=25.1", "install --group read"]


def test_a_pull_request_whose_model_was_never_attacked_fails(repository: World) -> None:
    ran = pull_request(repository, "empty")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "INCOMPLETE" in ran.stdout


@pytest.mark.parametrize("lane", ["attack", "pull-request"])
def test_pip_of_a_new_environment_learns_groups_first(lane: str) -> None:
    installs = re.findall(r"pip install (.*)", script_of(lane))
    assert [install.split()[0] for install in installs] == ['"pip>=25.1"', "--group"]
