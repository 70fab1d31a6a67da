"""Outcomes of a pipeline that more than its weights acts on are kept only under a version that its user gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import worlds
from tiny import tiny_pipeline
from worlds import World, text

from pytest_unlearndiff import VersionedPipeline
from pytest_unlearndiff.core.errors import ModelError

# An eraser that acts as images are drawn: with it they are dark, and the judge takes what is bright for the concept.
MODULE = f"""
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

def versioned(version="2"):
    from pytest_unlearndiff import VersionedPipeline

    return VersionedPipeline(pipe(), version)

def unversioned():
    return versioned("")

def bright(images):
    from PIL import ImageStat

    return [ImageStat.Stat(image.convert("L")).mean[0] > 130 for image in images]
"""
FIXTURE = """
from hooked import *

@pytest.fixture(scope="session")
def unlearned_pipe():
    return pipe(os.environ["HOOK"] == "on")
"""
HOOK = "forward hook on vae.decoder (<hooked.Eraser>)"
UNKEPT = f"outcomes of this pipeline are neither kept nor answered from the store, because no hash stands for {HOOK}"
BASE = "--unlearndiff-base=un-erased"


@pytest.fixture
def steered(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A gate on four prompts, whose images a tiny pipeline draws with or without a hook, and their base's."""
    world.ini("pythonpath = .", "console_output_style = classic")
    world.file("hooked.py", MODULE)
    world.concept(count=4)
    concept = {
        "prompts": "church.csv",
        "judge": {"kind": "function", "call": "hooked:bright"},
        "sampling": {"steps": 1, "scheduler": "own"},
    }
    world.file("concepts/church.yaml", json.dumps(concept))
    world.gate("max_asr='50%', exhaustive=True, attack='none'")
    world.file("conftest.py", FIXTURE)
    tiny_pipeline(0).save_pretrained(world.path / "un-erased")
    monkeypatch.setenv("HOOK", "on")
    monkeypatch.setenv("COLUMNS", "2000")
    return world


def test_hook_that_is_taken_off_is_noticed(steered: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With it, the gate passes; without it, nothing that was drawn with it may answer."""
    kinds = "--unlearndiff-report=json:report.json,html:r.html,md:r.md"
    for _ in range(2):  # it is drawn each time
        result = steered.bare(BASE, kinds, "--junitxml=r.xml")
        result.assert_outcomes(passed=1)
        assert "4 drawn" in text(result)
        assert UNKEPT in text(result)
    assert steered.kept() == [], "nothing of the victim"
    assert len(steered.kept(base=True)) == 4, "the positive control is the base's"
    for name in ("r.html", "r.xml"):
        assert "forward hook on vae.decoder (&lt;hooked.Eraser&gt;)" in steered.read(name), name
    assert steered.gates()[0]["unkept"].startswith(UNKEPT)
    assert "no hash stands for forward hook on vae.decoder" in steered.read("r.md")

    monkeypatch.setenv("HOOK", "off")
    bare = steered.bare(BASE)
    bare.assert_outcomes(failed=1)
    assert "4/4 = 100.0%" in text(bare)
    assert "4 drawn" in text(bare)
    assert len(steered.kept()) == 4, "weights say all of this one"

    monkeypatch.setenv("HOOK", "on")
    back = steered.bare(BASE, "--unlearndiff-cache=require")
    back.assert_outcomes(failed=1)
    assert f"--unlearndiff-cache=require answers from the store alone, and {UNKEPT}" in text(back)
    assert "4 of 4 prompts are missing" in back.stdout.str()


def test_version_of_the_session(steered: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for version, source in (("1", "4 drawn"), ("1", "all 4 from the store"), ("2", "4 drawn")):
        result = steered.bare("-v", f"--unlearndiff-model-version={version}")
        result.assert_outcomes(passed=1)
        assert "neither kept" not in text(result)
        assert f"acts at inference: {HOOK}" in text(result)
        assert f"model version: {version}" in text(result)
        assert source in text(result)
    monkeypatch.setenv("HOOK", "off")
    result = steered.bare("--unlearndiff-model-version=1")
    result.assert_outcomes(failed=1)
    assert "4 drawn" in text(result), "a version never stands for other weights or for what has no name"
    assert "--unlearndiff-model-version=1" in text(result), "the replay says it"


def test_version_of_a_callable(steered: World) -> None:
    (steered.path / "conftest.py").unlink()
    for arguments, source in (
        ((), "4 drawn"),
        ((), "all 4 from the store"),
        (("--unlearndiff-model-version=2",), "all 4 from the store"),
    ):
        result = steered.bare("--unlearndiff-model=hooked:versioned", *arguments)
        result.assert_outcomes(passed=1)
        assert source in text(result)
    for arguments, reason in (
        (
            ("--unlearndiff-model=hooked:versioned", "--unlearndiff-model-version=3"),
            "hooked:versioned gave a pipeline of version '2', and --unlearndiff-model-version says '3'",
        ),
        (
            ("--unlearndiff-model=hooked:unversioned",),
            "VersionedPipeline: version='' must be text that is not empty",
        ),
    ):
        result = steered.bare(*arguments)
        result.assert_outcomes(failed=1)
        assert reason in result.stdout.str()


def test_version_of_the_session_is_not_that_of_a_gates_own_model(steered: World) -> None:
    """Two pipelines of the same weights and hooks, of which one is weaker, look alike."""
    steered.gate("max_asr='50%', exhaustive=True, attack='none', model='hooked:pipe'")
    result = steered.bare("--unlearndiff-model-version=1")
    result.assert_outcomes(passed=1)
    assert UNKEPT in text(result)
    assert steered.kept() == []


def test_retention_gate_keeps_only_outcomes_of_the_base(steered: World) -> None:
    steered.retain("'church', min_rate='50%'", "test_gate")
    result = steered.bare(BASE, "--unlearndiff-report=json:report.json")
    result.assert_outcomes(failed=1)
    assert UNKEPT in result.stdout.str()
    assert steered.gates()[0]["unkept"].startswith(UNKEPT)
    assert steered.kept() == []
    assert len(steered.kept(base=True)) == 4


@pytest.mark.parametrize("hook", ["on", "off"])
def test_pipeline_with_the_weights_of_its_base(steered: World, monkeypatch: pytest.MonkeyPatch, hook: str) -> None:
    monkeypatch.setenv("HOOK", hook)
    tiny_pipeline(1).save_pretrained(steered.path / "un-erased")
    result = steered.bare(BASE, "-v")
    if hook == "on":
        result.assert_outcomes(passed=1)
        assert f"its weights are the base's: all that is tested is {HOOK}" in text(result)
    else:
        result.assert_outcomes(failed=1)
        why = "every tensor equals the base's, so nothing was unlearned in this checkpoint"
        assert f"the StableDiffusionPipeline of unlearned_pipe (pipeline object): {why}" in result.stdout.str()


def test_inspect(steered: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(steered.path))
    result = steered.command("inspect", "hooked:pipe", "--base", "un-erased")
    assert result.ret == 0
    for part in (f"acts:    {HOOK}", UNKEPT, "tensors changed"):
        assert part in result.stdout.str()
    result = steered.command("inspect", "hooked:versioned")
    assert result.ret == 0
    assert "version: 2" in result.stdout.str()
    assert "neither kept" not in result.stdout.str()
    tiny_pipeline(1).save_pretrained(steered.path / "un-erased")
    result = steered.command("inspect", "hooked:weak", "--base", "un-erased")
    assert result.ret == 1
    assert "every tensor equals the base's" in result.stderr.str()


@pytest.mark.parametrize("version", ["", "  ", "a\nb", "\x1b[31m", "x" * 201, 3, None, b"1"])
def test_malformed_version(world: World, version: object) -> None:
    with pytest.raises(ModelError, match="must be text that is not empty, of at most 200 printable characters") as told:
        VersionedPipeline(None, version)  # type: ignore[arg-type]
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 300
    if isinstance(version, str):
        result = world.ask(f"--unlearndiff-model-version={version}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "--unlearndiff-model-version: " in result.stderr.str()
