"""Sparse autoencoders on hidden states, held against the published methods' formulas written out."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from sparse_autoencoders import LATENTS, sae_tensors, steerers_tensors
from tiny import tiny_pipeline

from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.core.model_options import defense
from pytest_unlearndiff.models.diffusion_model import DiffusionModel

LAYER = "text_encoder.text_model.encoder.layers.0"
CHANNELS, WIDTH = 16, 32
"""Of ``unet.conv_in``, and of the text encoder."""


def saeuron(folder: Path, width: int) -> Path:
    save_file(sae_tensors(width), folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"k": 4, "d_in": width, "input_unit_norm": False}))
    return folder / "sae.safetensors"


def steerers(folder: Path, width: int) -> Path:
    torch.save({"state_dict": steerers_tensors(width)}, folder / "state_dict.pth")
    (folder / "config.json").write_text(json.dumps({"k": 4, "d_model": width, "n_dirs_local": LATENTS}))
    return folder / "state_dict.pth"


def defended(pipe: Any, file: Path, module: str, **options: str) -> DiffusionModel:
    config = defense("sparse-autoencoder", file=str(file), module=module, **{"strength": "-1", "k": "4", **options})
    return DiffusionModel(pipe, Sampling(steps=2), (config,))


@pytest.mark.parametrize("save", [saeuron, steerers])
@pytest.mark.parametrize("strength", [0.0, 1.0, -3.0])
def test_latents_are_scaled_where_they_are_kept(
    save: Callable[[Path, int], Path], strength: float, tmp_path: Path
) -> None:
    """States are moved by the difference of two reconstructions, so by nothing where no latent changes."""
    pipe, sae, chosen = tiny_pipeline(1), sae_tensors(CHANNELS), [0, 7]
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    model = defended(pipe, save(tmp_path, CHANNELS), "unet.conv_in", features="7; 0", strength=str(strength))
    with torch.no_grad():
        states = pipe.unet.conv_in(x).movedim(1, -1)
        with model._defended():
            changed = pipe.unet.conv_in(x).movedim(1, -1)
    values, kept = torch.topk(((states - sae["b_dec"]) @ sae["encoder.weight"].T + sae["encoder.bias"]).relu(), 4)
    latents = torch.zeros(*states.shape[:-1], LATENTS).scatter(-1, kept, values)
    scaled = latents.clone()
    scaled[..., chosen] *= strength
    assert 0 < (latents[..., 7] > 0).float().mean() < 1
    torch.testing.assert_close(changed, states + (scaled - latents) @ sae["W_dec"], atol=1e-5, rtol=1e-5)
    assert torch.equal(changed[(scaled == latents).all(-1)], states[(scaled == latents).all(-1)])


def layer_states(pipe: Any, ids: torch.Tensor, times: int, model: DiffusionModel | None = None) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    with model._defended() if model else nullcontext(), torch.no_grad():
        hook = pipe.text_encoder.get_submodule(LAYER.removeprefix("text_encoder.text_model.")).register_forward_hook(
            lambda _, inputs, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
        for _ in range(times):
            pipe.text_encoder(ids)
        hook.remove()
    return seen


@pytest.mark.parametrize("save", [saeuron, steerers])
def test_a_concepts_latents_are_added_to_prompts_and_subtracted_from_the_text_after_them(
    save: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    pipe, sae = tiny_pipeline(1), sae_tensors(WIDTH)
    ids = pipe.tokenizer(["a church", "a truck", "church"], padding="max_length", return_tensors="pt").input_ids
    *prompts, concept = layer_states(pipe, ids, 1)[0]
    latents = ((concept - sae["b_dec"]) @ sae["encoder.weight"].T + sae["encoder.bias"]).relu()
    change = -0.5 * latents @ sae["W_dec"]
    model = defended(pipe, save(tmp_path, WIDTH), LAYER, concept="church", strength="-0.5")
    for _ in range(2):  # counted anew each time
        first, second = layer_states(pipe, ids[:2], 2, model)
        torch.testing.assert_close(first, torch.stack(prompts) + change, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(second, torch.stack(prompts) - change, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"features": " ; "}, "give features=0;1;2, latents to scale, or concept=TEXT"),
        ({"features": "0", "concept": "church"}, "give features=0;1;2, latents to scale, or concept=TEXT"),
        ({"features": "0;12"}, "'12' of features is no latent: they are numbers from 0 to 11"),
        ({"features": "0", "k": "13"}, "k='13' must be a whole number from 1 to 12"),
        ({"features": "0", "k": "5"}, r"cfg\.json says k=4: give k=4"),
        ({"concept": "church"}, r"concept acts on a layer of the text encoder, and unet\.conv_in is none"),
        ({"concept": "church", "module": LAYER}, "for hidden states of 16 numbers, and those there have 32"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=reason):
        defended(tiny_pipeline(1), saeuron(tmp_path, CHANNELS), **{"module": "unet.conv_in", **options})


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"extra": torch.ones(1)}, "is no sparse autoencoder: it must hold encoder.weight, encoder.bias, W_dec, b_dec"),
        ({"W_dec": torch.ones(CHANNELS, LATENTS)}, r"W_dec must be finite numbers \(12, 16\)"),
        ({"b_dec": torch.full((CHANNELS,), torch.nan)}, r"b_dec must be finite numbers \(16,\)"),
        ({"encoder.weight": torch.ones(LATENTS)}, "encoder.weight must be finite numbers"),
    ],
)
def test_a_file_with_other_tensors_is_refused(changed: dict[str, torch.Tensor], reason: str, tmp_path: Path) -> None:
    save_file({**sae_tensors(CHANNELS), **changed}, tmp_path / "sae.safetensors")
    with pytest.raises(ModelError, match=reason):
        defended(tiny_pipeline(1), tmp_path / "sae.safetensors", "unet.conv_in", features="0")


def test_an_autoencoder_of_normalized_states_is_refused(tmp_path: Path) -> None:
    file = saeuron(tmp_path, CHANNELS)
    (tmp_path / "cfg.json").write_text(json.dumps({"k": 4, "input_unit_norm": True}))
    with pytest.raises(ModelError, match="says input_unit_norm, which is not built"):
        defended(tiny_pipeline(1), file, "unet.conv_in", features="0")
