"""The files under examples/ci can be read, name only options that exist, and their shell is shell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_unlearndiff.plugin.options import OPTIONS

CI = Path(__file__).resolve().parents[1] / "examples" / "ci"
FILES = sorted(CI.iterdir())
FLAGS = {option.flag for option in OPTIONS}


def shells(path: Path) -> list[str]:
    """The scripts in a file."""
    if path.suffix == ".sh":
        return [path.read_text(encoding="utf-8")]
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "jobs" in content:
        return [step["run"] for job in content["jobs"].values() for step in job["steps"] if "run" in step]
    return [content["spec"]["entrypoint"]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_shell_is_shell(path: Path) -> None:
    found = shells(path)
    assert found
    for script in found:
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_options_are_the_plugins(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    flags = set(re.findall(r"--unlearndiff-[a-z-]+", text))
    assert flags
    assert flags <= FLAGS


def test_a_pull_request_attacks_nothing_and_installs_no_torch() -> None:
    jobs: dict[str, Any] = yaml.safe_load((CI / "github-actions.yml").read_text(encoding="utf-8"))["jobs"]
    [script] = [step["run"] for step in jobs["pull-request"]["steps"] if "run" in step]
    assert "--unlearndiff-cache=require" in script
    assert "torch" not in script
