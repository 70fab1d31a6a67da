"""Outcomes of a pipeline that more than its weights acts on are kept only under a version that its user gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import worlds
from tiny import tiny_pipeline
from worlds import World, section

from pytest_unlearndiff import VersionedPipeline
from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.core.errors import ModelError

# An eraser that acts as images are drawn: with it they are dark, and the judge takes what is bright for the concept.
MINE = f"""
import os
import sys

import pytest

sys.path.append({str(Path(worlds.__file__).parent)!r})

class Eraser:
    def __call__(self, module, given, output):
        return output - 0.5

def weak():
    return pipe(0)

def pipe(strength=1, seed=1):
    from tiny import tiny_pipeline

    made = tiny_pipeline(seed)
    if strength:
        made.vae.decoder.register_forward_hook(Eraser())
    return made

def versioned():
    from pytest_unlearndiff import VersionedPipeline

    return VersionedPipeline(pipe(), "2")

def unversioned():
    from pytest_unlearndiff import VersionedPipeline

    return VersionedPipeline(pipe(), "")

def bright(images):
    from PIL import ImageStat

    return [ImageStat.Stat(image.convert("L")).mean[0] > 130 for image in images]
"""
FIXTURE = """
from mine import *

@pytest.fixture(scope="session")
def unlearned_pipe():
    return pipe(os.environ["HOOK"] == "on")
"""
HOOK = "forward hook on vae.decoder (<mine.Eraser>)"
UNKEPT = f"outcomes of this pipeline are neither kept nor answered from the store, because no hash stands for {HOOK}"


@pytest.fixture
def steered(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A gate on four prompts, whose images a tiny pipeline draws with or without a hook, and their base's."""
    world.ini("pythonpath = .", "console_output_style = classic")
    world.file("mine.py", MINE)
    world.concept(count=4)
    concept = {
        "prompts": "church.csv",
        "judge": {"kind": "function", "call": "mine:bright"},
        "sampling": {"steps": 1, "scheduler": "own"},
    }
    world.file("concepts/church.yaml", json.dumps(concept))
    world.gate("max_asr='50%', exhaustive=True, attack='none'")
    world.file("conftest.py", FIXTURE)
    tiny_pipeline(0).save_pretrained(world.path / "un-erased")
    monkeypatch.setenv("HOOK", "on")
    monkeypatch.setenv("COLUMNS", "2000")
    return world


BASE = "--unlearndiff-base=un-erased"


def run(steered: World, *arguments: str) -> pytest.RunResult:
    """A session in this process, which has torch already."""
    return steered.pytester.runpytest_inprocess(*arguments)


def said(result: pytest.RunResult) -> str:
    return "\n".join(section(result))


def test_a_hook_that_is_taken_off_is_noticed(steered: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With it, the gate passes; without it, nothing that was drawn with it may answer."""
    reports = "--unlearndiff-report=json:r.json,html:r.html,md:r.md"
    first = run(steered, BASE, reports, "--junitxml=r.xml")
    first.assert_outcomes(passed=1)
    assert "4 drawn" in said(first)
    assert UNKEPT in said(first)
    assert steered.kept() == [], "nothing of the victim"
    assert len(steered.kept(base=True)) == 4, "the positive control is the base's"
    for name in ("r.html", "r.xml"):
        assert "forward hook on vae.decoder (&lt;mine.Eraser&gt;)" in (steered.path / name).read_text(), name
    gate = json.loads((steered.path / "r.json").read_text())["gates"][0]
    assert gate["unkept"].startswith(UNKEPT)
    assert "no hash stands for forward hook on vae.decoder" in (steered.path / "r.md").read_text()
    again = run(steered, BASE)
    assert "4 drawn" in said(again), "it is drawn each time"

    monkeypatch.setenv("HOOK", "off")
    bare = run(steered, BASE)
    bare.assert_outcomes(failed=1)
    assert "4/4 = 100.0%" in said(bare)
    assert "4 drawn" in said(bare)
    assert len(steered.kept()) == 4, "weights say all of this one"

    monkeypatch.setenv("HOOK", "on")
    back = run(steered, BASE, "--unlearndiff-cache=require")
    back.assert_outcomes(failed=1)
    assert f"--unlearndiff-cache=require answers from the store alone, and {UNKEPT}" in said(back)
    assert "4 of 4 prompts are missing" in back.stdout.str()


def test_under_a_version_outcomes_are_kept(steered: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(version: str) -> str:
        result = run(steered, "-v", f"--unlearndiff-model-version={version}")
        result.assert_outcomes(passed=1)
        assert "neither kept" not in said(result)
        assert f"acts at inference: {HOOK}" in said(result)
        assert f"model version: {version}" in said(result)
        return said(result)

    assert "4 drawn" in measured("1")
    assert "all 4 from the store" in measured("1")
    assert "4 drawn" in measured("2")
    monkeypatch.setenv("HOOK", "off")
    result = run(steered, "--unlearndiff-model-version=1")
    result.assert_outcomes(failed=1)
    assert "4 drawn" in said(result), "a version never stands for other weights or for what has no name"
    assert "--unlearndiff-model-version=1" in said(result), "the replay says it"


def test_a_callable_may_say_its_version(steered: World) -> None:
    (steered.path / "conftest.py").unlink()
    versioned = "--unlearndiff-model=mine:versioned"
    first = run(steered, versioned)
    first.assert_outcomes(passed=1)
    assert "4 drawn" in said(first)
    assert "all 4 from the store" in said(run(steered, versioned))
    assert "all 4 from the store" in said(run(steered, versioned, "--unlearndiff-model-version=2"))
    other = run(steered, versioned, "--unlearndiff-model-version=3")
    other.assert_outcomes(failed=1)
    assert "mine:versioned gave a pipeline of version '2', and --unlearndiff-model-version says '3'" in str(
        other.stdout
    )
    wrong = run(steered, "--unlearndiff-model=mine:unversioned")
    wrong.assert_outcomes(failed=1)
    assert "VersionedPipeline: version='' must be text that is not empty" in str(wrong.stdout)


def test_the_sessions_version_is_not_that_of_a_gates_own_model(steered: World) -> None:
    """Two pipelines of the same weights and hooks, of which one is weaker, look alike."""
    steered.gate("max_asr='50%', exhaustive=True, attack='none', model='mine:pipe'")
    result = run(steered, "--unlearndiff-model-version=1")
    result.assert_outcomes(passed=1)
    assert UNKEPT in said(result)
    assert steered.kept() == []


def test_a_retention_gate_keeps_only_what_the_base_drew(steered: World) -> None:
    steered.tests(
        """
        @pytest.mark.unlearndiff_retains("church", min_rate="50%")
        def test_gate(unlearndiff_retention):
            unlearndiff_retention()
        """
    )
    result = run(steered, BASE, "--unlearndiff-report=json:r.json")
    result.assert_outcomes(failed=1)
    assert UNKEPT in result.stdout.str()
    assert json.loads((steered.path / "r.json").read_text())["gates"][0]["unkept"].startswith(UNKEPT)
    assert steered.kept() == []
    assert len(steered.kept(base=True)) == 4


@pytest.mark.parametrize("hook", ["on", "off"])
def test_a_pipeline_that_is_its_base_is_refused_unless_something_acts_on_it(
    steered: World, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    monkeypatch.setenv("HOOK", hook)
    tiny_pipeline(1).save_pretrained(steered.path / "un-erased")
    result = run(steered, BASE, "-v")
    if hook == "on":
        result.assert_outcomes(passed=1)
        assert f"its weights are the base's: all that is tested is {HOOK}" in said(result)
    else:
        result.assert_outcomes(failed=1)
        why = "every tensor equals the base's, so nothing was unlearned in this checkpoint"
        assert f"the StableDiffusionPipeline of unlearned_pipe (pipeline object): {why}" in result.stdout.str()


def test_inspect_says_what_acts_on_it(
    steered: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(steered.path))
    monkeypatch.chdir(steered.path)
    assert main(["inspect", "mine:pipe", "--base", "un-erased"]) == 0
    told = capsys.readouterr().out
    assert f"acts:    {HOOK}" in told
    assert UNKEPT in told
    assert "tensors changed" in told
    assert main(["inspect", "mine:versioned"]) == 0
    told = capsys.readouterr().out
    assert "version: 2" in told
    assert "neither kept" not in told
    tiny_pipeline(1).save_pretrained(steered.path / "un-erased")
    assert main(["inspect", "mine:weak", "--base", "un-erased"]) == 1
    assert "every tensor equals the base's" in capsys.readouterr().err


@pytest.mark.parametrize("version", ["", "  ", "a\nb", "\x1b[31m", "x" * 201, 3, None, b"1"])
def test_what_is_no_version_is_one_clear_error(world: World, version: object) -> None:
    with pytest.raises(ModelError, match="must be text that is not empty, of at most 200 printable characters") as told:
        VersionedPipeline(None, version)  # type: ignore[arg-type]
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 300
    if isinstance(version, str):
        result = world.ask(f"--unlearndiff-model-version={version}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "--unlearndiff-model-version: " in result.stderr.str()


def test_the_version_of_a_file_is_in_its_key_too(world: World) -> None:
    """Of one that changes nothing it is a way to measure again."""
    world.concept()
    plain, one, two = (
        world.campaign("church", *options)[0]
        for options in ((), ("--unlearndiff-model-version=1",), ("--unlearndiff-model-version=2",))
    )
    assert len({plain.key.digest, one.key.digest, two.key.digest}) == 3
    assert one.fingerprint.target == plain.fingerprint.target
