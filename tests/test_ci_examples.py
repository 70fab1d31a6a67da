"""Examples for CI can be read, name only options that exist, and their shell is shell; example projects run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_unlearndiff.plugin.options import OPTIONS

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
WORKFLOW = EXAMPLES / "release_gate" / ".github" / "workflows" / "unlearning-gates.yml"
FILES = [*sorted((EXAMPLES / "ci").iterdir()), WORKFLOW]
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
    scripts = shells(path)
    assert scripts
    for script in scripts:
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_options_are_the_plugins(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    flags = set(re.findall(r"--unlearndiff-[a-z-]+", text))
    assert flags
    assert flags <= FLAGS


def jobs() -> dict[str, Any]:
    return dict(yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"])


def test_a_pull_request_attacks_nothing_and_installs_no_torch() -> None:
    [script] = [step["run"] for step in jobs()["pull-request"]["steps"] if "run" in step]
    assert "--unlearndiff-cache=require" in script
    assert "--group read" in script
    groups = re.findall(r"^read = (.*)$", (EXAMPLES / "release_gate" / "pyproject.toml").read_text(), re.MULTILINE)
    assert [("remote" in group, "torch" in group) for group in groups] == [(True, False)]


def test_both_lanes_keep_the_reports_and_nothing_of_an_input_is_code() -> None:
    for job in jobs().values():
        assert [step for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
        assert not [step for step in job["steps"] if "${{" in step.get("run", "")]


@pytest.fixture
def project(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> Path:
    """A copy of an example project, from where it finds the emoji model as the original does."""
    (pytester.path / "emoji").symlink_to(EXAMPLES / "emoji")
    return Path(shutil.copytree(EXAMPLES / request.param, pytester.path / request.param))


def run(pytester: pytest.Pytester, project: Path, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:randomly", f"--rootdir={project}", str(project), *arguments)


@pytest.mark.parametrize("project", ["release_gate"], indirect=True)
def test_release_gate_plans(pytester: pytest.Pytester, project: Path) -> None:
    result = run(pytester, project, f"-c={project / 'pyproject.toml'}", "--unlearndiff-plan")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["church *unlearndiff/fast*", "guitar (victim)*", "*50 prompts to attack and 50 images to draw*"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("project", ["release_gate"], indirect=True)
def test_release_gate_runs_and_writes_its_reports(pytester: pytest.Pytester, project: Path) -> None:
    run(pytester, project, f"-c={project / 'pyproject.toml'}", "-k=without_attack").assert_outcomes(passed=1)
    assert {path.name for path in (project / "reports").iterdir()} == {"gates.html", "gates.json"}


@pytest.mark.slow
@pytest.mark.parametrize("project", ["custom_concept"], indirect=True)
def test_custom_concepts_are_drawn_and_judged(
    pytester: pytest.Pytester, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(project)
    run(pytester, project, f"-c={project / 'pytest.ini'}").assert_outcomes(passed=2)
