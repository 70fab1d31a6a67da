"""What files tell before anything is loaded is said at collection: no model, no room, a rootdir that moved."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import save_file
from worlds import MODEL, REQUIRE, World

from pytest_unlearndiff.plugin import model_under_test


@pytest.fixture
def gate(world: World) -> World:
    world.know("rrrrrrrrrr")
    world.gate("max_asr='10%'")
    return world


@pytest.mark.parametrize(("content", "reason"), [("", "it is empty"), ("# a note\n", "begins neither as safetensors")])
def test_file_that_is_no_model(gate: World, content: str, reason: str) -> None:
    """Also beside a retention marker; sessions without gates do not look."""
    gate.file("model.safetensors", content)
    gate.retain("'church', min_rate=0.5")
    result = gate.ask()
    assert result.ret == 2
    result.assert_outcomes(errors=2)
    assert result.stdout.str().count(reason) >= 2
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    gate.tests("def test_other(): pass", "test_other")
    gate.ask("test_other.py").assert_outcomes(passed=1)


def test_folder_that_is_no_pipeline(gate: World) -> None:
    (gate.path / "base/model_index.json").unlink()
    result = gate.ask()
    result.assert_outcomes(errors=1)
    assert "base is no pipeline folder: it has no model_index.json" in result.stdout.str()
    gate.file("erased/README.md", "weights elsewhere")
    result = gate.ask("--unlearndiff-model=erased")
    assert "erased is a folder without model_index.json, and there is no other model in it" in result.stdout.str()


@pytest.mark.parametrize("likely", ["", "=CompVis/stable-diffusion-v1-4. It seems to be of Stable Diffusion 1.x"])
def test_checkpoint_without_a_base(gate: World, likely: str) -> None:
    """Also where the likely base is not on this machine."""
    key = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    save_file({key: torch.ones(2, 768 if likely else 7)}, gate.path / "model.safetensors")
    result = gate.bare(MODEL[0])
    result.assert_outcomes(errors=1)
    assert (
        f"model.safetensors is a part of a pipeline: give its base with --unlearndiff-base{likely}"
        in result.stdout.str()
    )


def test_base_that_is_a_file(gate: World) -> None:
    result = gate.bare(MODEL[0], "--unlearndiff-base=model.safetensors")
    result.assert_outcomes(errors=1)
    assert "model.safetensors is no pipeline folder: it is a file" in result.stdout.str()


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x80\x02"])
def test_file_of_torch(gate: World, start: bytes) -> None:
    (gate.path / "model.safetensors").write_bytes(start + b" and so on")
    gate.ask("--collect-only").assert_outcomes()


def test_overridden_fixture(gate: World) -> None:
    gate.file("model.safetensors", "")
    gate.conftest("import pytest\n\n@pytest.fixture\ndef unlearned_pipe(): return None")
    assert gate.ask("--collect-only").ret == 0


def test_unreadable_file(gate: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr(model_under_test, "inspect_model", refuse)
    result = gate.ask()
    result.assert_outcomes(errors=1)
    assert "model.safetensors cannot be read: not yours" in result.stdout.str()


@pytest.mark.parametrize(
    ("slots", "attack", "refused"),
    [(31, "unlearndiff", True), (30, "unlearndiff", False), (31, "seed-search", False), (31, "random", True)],
)
def test_too_many_slots(gate: World, slots: int, attack: str, refused: bool) -> None:
    gate.file("base/tokenizer/tokenizer_config.json", json.dumps({"model_max_length": 32}))
    gate.gate(f"max_asr='10%', slots={slots}, attack={attack!r}")
    result = gate.ask("--collect-only")
    assert (result.ret != 0) == refused
    assert (f"slots={slots} do not fit: the model's tokenizer takes 30" in result.stdout.str()) == refused


@pytest.mark.parametrize("config", ["{", "[]", "{}", '{"model_max_length": 1e30}', '{"model_max_length": "x"}'])
def test_unknown_token_limit(gate: World, config: str) -> None:
    gate.file("base/tokenizer/tokenizer_config.json", config)
    gate.gate("max_asr='10%', slots=1000")
    assert gate.ask("--collect-only").ret == 0


def test_moved_rootdir(gate: World) -> None:
    """A model elsewhere, and a session that is started in a project beside it."""
    project = gate.path / "project"
    project.mkdir()
    for name in ("pytest.ini", "test_gate.py", "concepts", "base"):
        (gate.path / name).rename(project / name)
    gate.file("models/x.safetensors", "weights:{unlearned}")
    os.chdir(project)
    spaced = ("--unlearndiff-model", "../models/x.safetensors")
    refused = gate.pytester.runpytest_subprocess(*spaced)
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    assert "Write --unlearndiff-model=../models/x.safetensors" in refused.stderr.str()
    assert not list(gate.path.glob("**/.unlearndiff/*/*/lock"))
    right = gate.pytester.runpytest_subprocess("=".join(spaced), REQUIRE, "--unlearndiff-base=base")
    assert f"rootdir: {project}" in right.stdout.str()
    elsewhere = gate.pytester.runpytest_subprocess("../models", "=".join(spaced))
    assert elsewhere.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert f"rootdir: {gate.path}" in elsewhere.outlines


def test_space_without_effect(gate: World) -> None:
    words = [word for option in MODEL for word in option.split("=")]
    gate.pytester.runpytest_subprocess(*words, REQUIRE).assert_outcomes(passed=1)


@pytest.mark.parametrize(("changed", "status"), [({"conv.weight": (2, 3), "more": (9,)}, 0), ({"conv.bias": (4,)}, 2)])
def test_model_of_another_base(gate: World, changed: dict[str, tuple[int, ...]], status: int) -> None:
    """Its tensors have other sizes than those of the base; a vocabulary may have grown."""

    def save(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
        save_file({key: torch.ones(shape) for key, shape in shapes.items()}, gate.path / name)

    shapes: dict[str, tuple[int, ...]] = {"conv.weight": (2, 3, 1, 1), "conv.bias": (2,)}
    gate.file("base/unet/config.json", "{}")
    save("base/unet/diffusion_pytorch_model.safetensors", {**shapes, "token_embedding.weight": (5, 4)})
    save("model.safetensors", {**shapes, **changed, "token_embedding.weight": (6, 4)})
    result = gate.ask("--collect-only")
    assert result.ret == status
    assert ("conv.bias is [4], in the base [2]; is this its base?" in result.stdout.str()) is bool(status)


def test_judge_folder_without_a_model(gate: World) -> None:
    (gate.path / "judge/config.json").unlink()
    result = gate.ask("--unlearndiff-plan")
    assert result.ret == 2
    assert "judge holds no model: it has neither config.json nor model_index.json" in result.stdout.str()
