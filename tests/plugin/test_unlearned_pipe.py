"""Where the pipeline under test comes from: a callable, a fixture or the option; only the judge is scripted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import worlds
from safetensors.torch import save_file
from tiny import tiny_pipeline
from worlds import World, text

MODULE = f"""
import sys

sys.path.append({str(Path(worlds.__file__).parent)!r})

def pipe():
    from tiny import tiny_pipeline

    return tiny_pipeline(1)

def seven():
    return 7

def nothing(images):
    return [False] * len(images)
"""


@pytest.fixture
def drawn(world: World) -> World:
    """A gate on two prompts, whose images are drawn by a tiny pipeline."""
    world.ini("pythonpath = .")
    world.file("factories.py", MODULE)
    world.concept(count=2)
    concept = {
        "prompts": "church.csv",
        "judge": {"kind": "function", "call": "factories:nothing"},
        "sampling": {"steps": 1, "scheduler": "own"},
    }
    world.file("concepts/church.yaml", json.dumps(concept))
    world.gate("max_asr='50%', exhaustive=True, attack='none'")
    return world


@pytest.mark.parametrize("way", ["option", "marker"])
def test_callable(drawn: World, way: str) -> None:
    arguments = ["--unlearndiff-model=factories:pipe"] if way == "option" else []
    if way == "marker":
        drawn.gate("max_asr='50%', exhaustive=True, attack='none', model='factories:pipe'")
    first = drawn.bare(*arguments)
    first.assert_outcomes(passed=1)
    assert "2 drawn" in text(first)
    assert [outcome["status"] for outcome in drawn.kept()] == ["resisted"] * 2
    assert "all 2 from the store" in text(drawn.bare(*arguments))


def test_workers_cannot_have_a_callables_pipeline(drawn: World) -> None:
    result = drawn.bare("--unlearndiff-model=factories:pipe", "--unlearndiff-workers=1")
    result.assert_outcomes(failed=1)
    assert "cannot be sent to workers: give the model by path" in result.stdout.str()


def test_plan_calls_nothing(drawn: World) -> None:
    start = "test_gate.py::test_gate: its model is made by factories:pipe"
    result = drawn.bare("--unlearndiff-model=factories:pipe", "--unlearndiff-base=base", "--unlearndiff-plan")
    (line,) = (line for line in result.outlines if line.startswith(start))
    assert "kept only with --unlearndiff-model-version or a VersionedPipeline" in line
    result = drawn.bare("--unlearndiff-model=factories:pipe", "--unlearndiff-model-version=1", "--unlearndiff-plan")
    assert start in result.outlines


def test_fixture_of_the_plugin(drawn: World) -> None:
    tiny_pipeline(1).save_pretrained(drawn.path / "pipeline")
    drawn.tests("def test_pipe(unlearned_pipe): assert type(unlearned_pipe).__name__ == 'StableDiffusionPipeline'")
    drawn.bare("--unlearndiff-model=pipeline").assert_outcomes(passed=1)
    without = drawn.bare("-rs")
    without.assert_outcomes(skipped=1)
    assert "no model under test: add --unlearndiff-model=PATH" in without.stdout.str()


@pytest.mark.parametrize("value", ["None", "7", "callable"])
def test_no_pipeline(drawn: World, value: str) -> None:
    if value == "callable":
        result, origin = drawn.bare("--unlearndiff-model=factories:seven"), "factories:seven gave 7"
    else:
        fixture = f"@pytest.fixture(scope='session')\ndef unlearned_pipe():\n    return {value}\n"
        drawn.file("conftest.py", f"import pytest\n\n{fixture}")
        result, origin = drawn.bare(), f"the unlearned_pipe fixture gave {value}"
    result.assert_outcomes(failed=1)
    assert f"{origin}, which is no pipeline" in result.stdout.str()


@pytest.fixture
def hub(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What of the Hub is on this machine: a folder by the id of Stable Diffusion 1.4."""
    cached = world.path / "hub" / "models--CompVis--stable-diffusion-v1-4"
    snapshot = cached / "snapshots" / ("0" * 40)
    world.file(str(snapshot / "model_index.json"), "{}")
    world.file(str(cached / "refs" / "main"), "0" * 40)
    monkeypatch.setenv("HF_HUB_CACHE", str(world.path / "hub"))
    world.apart = True  # the Hub's library reads that when it is imported
    world.concept()
    world.scripted("r" * 10)
    return snapshot


def test_base_guessed_from_a_checkpoint(world: World, hub: Path) -> None:
    key = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    save_file({key: torch.ones(320, 768)}, world.path / "esd.safetensors")
    world.gate("max_asr='10%', exhaustive=True")
    world.bare("--unlearndiff-model=esd.safetensors", f"--unlearndiff-base={hub}").assert_outcomes(passed=1)
    result = world.bare("--unlearndiff-model=esd.safetensors", "-v")
    result.assert_outcomes(passed=1)
    assert "all 10 from the store" in text(result)


def test_hub_id_in_a_marker(world: World, hub: Path) -> None:
    world.gate("max_asr='10%', exhaustive=True, model='CompVis/stable-diffusion-v1-4'")
    world.bare("--unlearndiff-base=base").assert_outcomes(passed=1)
    world.gate(f"max_asr='10%', exhaustive=True, model={str(hub)!r}")
    assert "all 10 from the store" in text(world.bare("--unlearndiff-base=base"))
