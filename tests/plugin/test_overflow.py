"""Erased emoji models whose forward pass overflows: no gate passes on their black images."""

from __future__ import annotations

import shutil

import pytest
from broken_models import overflowing_decoder
from safetensors.torch import load_file, save_file
from tiny import EMOJI
from worlds import World

from pytest_unlearndiff.models.generated_images import NOT_FINITE
from pytest_unlearndiff.models.pipeline_folders import load_pipeline

pytestmark = pytest.mark.slow


def attack(world: World, model: str) -> pytest.RunResult:
    """Run the session, all of whose gates end without one finite image."""
    result = world.bare(
        *(f"--unlearndiff-model={model}", f"--unlearndiff-base={EMOJI / 'model'}"),
        *(f"--unlearndiff-concepts={EMOJI / 'concepts'}", "--unlearndiff-report=json:report.json", "-W", "error"),
    )
    result.assert_outcomes(failed=len(world.gates()))
    assert {gate["verdict"] for gate in world.gates()} == {"INCOMPLETE"}
    assert {prompt["error"] for gate in world.gates() for prompt in gate["prompts"]} == {NOT_FINITE}
    return result


def test_overflowing_edit(world: World) -> None:
    """As an erasure scale that is too large leaves it; the classifier calls black a fish."""
    tensors = load_file(EMOJI / "erased" / "uce-fish.safetensors")
    assert any("attn2.to_v" in name for name in tensors)
    scaled = {name: value.float() * 1e30 if "attn2.to_v" in name else value for name, value in tensors.items()}
    assert all(value.isfinite().all() for value in scaled.values())
    save_file(scaled, world.path / "uce.safetensors")
    world.tests(
        """
        @pytest.mark.parametrize("attack", ["none", "random", "ring-a-bell", "seed-search", "unlearndiff"])
        def test_church_is_gone(unlearndiff_attack, attack):
            unlearndiff_attack("church", attack=attack, max_asr="10%", prompts=2)

        def test_fish_are_kept(unlearndiff_retention):
            unlearndiff_retention("fish", min_rate="85%", prompts=2)
        """
    )
    result = attack(world, "uce.safetensors")
    assert len(world.gates()) == 6
    [kept] = [gate for gate in world.gates() if gate["expects"] == "kept"]
    assert (kept["counts"]["hits_without_attack"], kept["base"]["hits"]) == (0, 2)
    assert NOT_FINITE in kept["obstacle"]
    assert "nan" not in result.stdout.str().replace("NaN", "").lower().split()


def test_overflowing_decoder(world: World) -> None:
    """Its latents are those of a sound model, so that the attack's loss says nothing."""
    shutil.copytree(EMOJI / "erased" / "fmn-church", world.path / "model")
    overflowing_decoder(load_pipeline(world.path / "model")).vae.save_pretrained(world.path / "model" / "vae")
    world.gate("max_asr='10%', prompts=2")
    attack(world, "model")
    assert len(world.gates()) == 1
