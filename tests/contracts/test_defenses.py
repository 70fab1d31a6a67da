"""The contract of defenses, over all rows of the registry and all families."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from sparse_autoencoders import sae_tensors
from tiny import shown, tiny_pipeline, tiny_xl

from examples import WITH_EXAMPLES
from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.core.model_options import DefenseConfig, defense, describe_defenses
from pytest_unlearndiff.core.outcome import computed_forwards
from pytest_unlearndiff.core.registry import registry
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.families.lookup import family_of
from pytest_unlearndiff.models.families.vocabulary import FilledPrompt

OPTIONS: Mapping[str, Mapping[str, str]] = {
    "negative-prompt": {"prompt": "church"},
    "guidance-cap": {"scale": "2"},
    "safe-latent-diffusion": {"strength": "max", "concept": "church", "warmup": "steps"},
    "steering-vector": {"file": "vector.safetensors", "module": "unet.mid_block", "mode": "add", "strength": "3"},
    "safree": {"concepts": "church; truck"},
    "trasce": {"concept": "truck", "scale": "3", "sigma": "4"},
    "sparse-autoencoder": {
        "file": "sae.safetensors",
        "module": "unet.mid_block",
        "features": "0;2",
        "concept": "",
        "strength": "-9",
        "k": "4",
    },
}
"""Options of each defense: a new row needs some here, or its test says so. Files are in the folder of a test."""
REQUESTS = [GenerationRequest(f"a church, {n}", n, 5.0) for n in range(4)]
SAMPLING = Sampling(2, "own")
WIDTH = 32
"""Channels of the tiny pipelines' middle block."""


@pytest.fixture(params=list(WITH_EXAMPLES.defenses))
def config(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DefenseConfig:
    assert request.param in OPTIONS, f"add options of the defense {request.param} to OPTIONS"
    monkeypatch.chdir(tmp_path)
    for name, seed in (("vector.safetensors", 0), ("another", 1)):
        vector = torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed))
        save_file({"vector": vector}, name)
    save_file(sae_tensors(WIDTH), "sae.safetensors")
    return defense(request.param, **OPTIONS[request.param])


@pytest.fixture(params=[tiny_pipeline, tiny_xl])
def pipe(request: pytest.FixtureRequest, config: DefenseConfig) -> Any:
    """Return a pipeline that the defense acts on."""
    pipe = request.param(1)
    if (only := WITH_EXAMPLES.defenses[config.name].families) and family_of(pipe).name not in only:
        with pytest.raises(ModelError, match=f"{config.name} cannot act on images of .*: it is only for"):
            DiffusionModel(pipe, SAMPLING, (config,))
        pytest.skip("which the defense refuses")
    return pipe


def denoising_error(pipe: Any, *defenses: DefenseConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one prompt's denoising error, and its gradients for the tokens of its slots."""
    model = DiffusionModel(pipe, SAMPLING, defenses)
    tokens = (1500, 1501)
    prompt = FilledPrompt(model.vocabulary.slots("church", 2, "prefix"), tokens)
    slots = model.vocabulary.embeddings[list(tokens)].float().unsqueeze(0).requires_grad_()
    noise = torch.randn(2, 1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    error = model.denoising_error(*noise, torch.tensor([500]), model.encode([prompt], slots))
    error.sum().backward()
    assert slots.grad is not None
    return error.detach(), slots.grad


def test_images_change_and_nothing_stays_behind(config: DefenseConfig, pipe: Any) -> None:
    plain = [image.tobytes() for image in shown(DiffusionModel(pipe, SAMPLING).generate(REQUESTS))]
    model = DiffusionModel(pipe, SAMPLING, (config,))
    before = computed_forwards()
    drawn = [image.tobytes() for image in shown(model.generate(REQUESTS))]
    assert computed_forwards() - before == len(REQUESTS) * model.forwards_per_image
    assert all(one != other for one, other in zip(plain, drawn, strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pipe.unet.modules())
    assert "step" not in vars(pipe.scheduler)
    assert [image.tobytes() for image in shown(DiffusionModel(pipe, SAMPLING).generate(REQUESTS))] == plain


def test_attacks_search_through_it_where_its_row_says_so(config: DefenseConfig, pipe: Any) -> None:
    """Loss and gradient are those of the defended model; otherwise those of the weights alone, to the bit."""
    for defended, plain in zip(denoising_error(pipe, config), denoising_error(pipe), strict=True):
        assert defended.isfinite().all()
        assert defended.abs().sum() > 0
        assert torch.equal(defended, plain) != WITH_EXAMPLES.defenses[config.name].attacked_through
    assert not any(module._forward_hooks for module in pipe.unet.modules())


def test_every_option_enters_the_description(config: DefenseConfig) -> None:
    """Its description enters the key, so that two settings must never share one."""
    row = registry().defenses[config.name]
    for option, value in config.options:
        others = row.choices.get(option, (value, "2.5" if option in row.numbers else "another"))
        other = next(each for each in others if each != value)
        assert describe_defenses([defense(config.name, **{**dict(config.options), option: other})]) != str(config)
