"""Where the pipeline under test comes from: a callable, a fixture or the option; only the judge is scripted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import worlds
from safetensors.torch import save_file
from tiny import tiny_pipeline
from worlds import World, section

MINE = f"""
import sys

sys.path.append({str(Path(worlds.__file__).parent)!r})

def pipe():
    from tiny import tiny_pipeline

    return tiny_pipeline(1)

def nothing(images):
    return [False] * len(images)
"""


@pytest.fixture
def drawn(world: World) -> World:
    """A gate on two prompts, whose images are drawn by a tiny pipeline."""
    world.ini("pythonpath = .")
    world.file("mine.py", MINE)
    world.concept(count=2)
    concept = {
        "prompts": "church.csv",
        "judge": {"kind": "function", "call": "mine:nothing"},
        "sampling": {"steps": 1, "scheduler": "own"},
    }
    world.file("concepts/church.yaml", json.dumps(concept))
    world.gate("max_asr='50%', exhaustive=True, attack='none'")
    return world


@pytest.mark.parametrize("way", ["option", "marker"])
def test_a_callable_makes_it(drawn: World, way: str) -> None:
    arguments = ["--unlearndiff-model=mine:pipe"] if way == "option" else []
    if way == "marker":
        drawn.gate("max_asr='50%', exhaustive=True, attack='none', model='mine:pipe'")
    first = drawn.bare(*arguments)
    first.assert_outcomes(passed=1)
    assert "2 drawn" in "".join(section(first))
    assert [outcome["status"] for outcome in drawn.kept()] == ["resisted"] * 2
    assert "all 2 from the store" in "".join(section(drawn.bare(*arguments)))


def test_workers_cannot_have_what_a_callable_made(drawn: World) -> None:
    result = drawn.bare("--unlearndiff-model=mine:pipe", "--unlearndiff-workers=1")
    result.assert_outcomes(failed=1)
    assert "cannot be sent to workers: give the model by path" in result.stdout.str()


def test_a_plan_does_not_make_it(drawn: World) -> None:
    result = drawn.bare("--unlearndiff-model=mine:pipe", "--unlearndiff-base=base", "--unlearndiff-plan")
    why = "its model is made by mine:pipe"
    (line,) = (line for line in result.outlines if line.startswith(f"test_gate.py::test_gate: {why}"))
    assert "kept only with --unlearndiff-model-version or a VersionedPipeline" in line
    result = drawn.bare("--unlearndiff-model=mine:pipe", "--unlearndiff-model-version=1", "--unlearndiff-plan")
    assert f"test_gate.py::test_gate: {why}" in result.outlines


ASKS = "def test_pipe(unlearned_pipe): assert type(unlearned_pipe).__name__ == 'StableDiffusionPipeline'"


def test_a_test_may_ask_for_it(drawn: World) -> None:
    tiny_pipeline(1).save_pretrained(drawn.path / "pipeline")
    drawn.tests(ASKS)
    drawn.bare("--unlearndiff-model=pipeline").assert_outcomes(passed=1)


def test_without_a_model_it_is_skipped(drawn: World) -> None:
    drawn.tests(ASKS)
    result = drawn.bare("-rs")
    result.assert_outcomes(skipped=1)
    assert "no model under test: add --unlearndiff-model=PATH" in result.stdout.str()


@pytest.fixture
def hub(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What of the Hub is on this machine: a folder by the id of Stable Diffusion 1.4."""
    cached = world.path / "hub" / "models--CompVis--stable-diffusion-v1-4"
    snapshot = cached / "snapshots" / ("0" * 40)
    world.file(str(snapshot / "model_index.json"), "{}")
    world.file(str(cached / "refs" / "main"), "0" * 40)
    monkeypatch.setenv("HF_HUB_CACHE", str(world.path / "hub"))
    world.apart = True  # the Hub's library reads that when it is imported
    return snapshot


def test_the_base_that_a_checkpoint_tells_of_is_used(world: World, hub: Path) -> None:
    key = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    save_file({key: torch.ones(320, 768)}, world.path / "esd.safetensors")
    world.concept()
    world.scripted("r" * 10)
    world.gate("max_asr='10%', exhaustive=True")
    world.bare("--unlearndiff-model=esd.safetensors", f"--unlearndiff-base={hub}").assert_outcomes(passed=1)
    result = world.bare("--unlearndiff-model=esd.safetensors", "-v")
    result.assert_outcomes(passed=1)
    assert "all 10 from the store" in "".join(section(result))


def test_a_marker_may_name_a_model_of_the_hub(world: World, hub: Path) -> None:
    world.concept()
    world.scripted("r" * 10)
    world.gate("max_asr='10%', exhaustive=True, model='CompVis/stable-diffusion-v1-4'")
    world.bare("--unlearndiff-base=base").assert_outcomes(passed=1)
    world.gate(f"max_asr='10%', exhaustive=True, model={str(hub)!r}")
    assert "all 10 from the store" in "".join(section(world.bare("--unlearndiff-base=base")))


@pytest.mark.parametrize("given", ["None", "7"])
def test_a_fixture_that_gives_no_pipeline_is_told(drawn: World, given: str) -> None:
    drawn.file(
        "conftest.py", f"import pytest\n\n@pytest.fixture(scope='session')\ndef unlearned_pipe():\n    return {given}\n"
    )
    result = drawn.bare()
    result.assert_outcomes(failed=1)
    assert f"the unlearned_pipe fixture gave {given}, which is no pipeline" in result.stdout.str()


def test_a_callable_that_makes_no_pipeline_is_told(drawn: World) -> None:
    drawn.file("other.py", "def seven():\n    return 7\n")
    result = drawn.bare("--unlearndiff-model=other:seven")
    result.assert_outcomes(failed=1)
    assert "other:seven gave 7, which is no pipeline" in result.stdout.str()
