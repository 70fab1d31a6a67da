"""A pipeline object that keeps its weights off the device between calls draws and is hashed as one that does not.

The device is the CPU here, which shows that hooks are kept and run, and no speed or memory of a GPU.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import tiny_pipeline
from tiny_transformers import tiny_transformer

from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.families.lookup import components_of
from pytest_unlearndiff.models.families.vocabulary import FilledPrompt
from pytest_unlearndiff.models.inference_behavior import inference_behavior
from pytest_unlearndiff.models.loading import wrap_pipeline


def own_copy(pipe: Any) -> Any:
    """A pipeline with networks of its own; not its tokenizers, whose copies decode differently (transformers 5.24)."""
    copied = copy.copy(pipe)
    for name in components_of(pipe):
        setattr(copied, name, copy.deepcopy(getattr(pipe, name)))
    return copied


MAKERS: dict[str, Callable[[], Any]] = {
    "stable-diffusion": lambda: tiny_pipeline(1),
    "flux": lambda: own_copy(tiny_transformer("flux", 1)),
    "stable-diffusion-3": lambda: own_copy(tiny_transformer("stable-diffusion-3", 1)),
}


@pytest.fixture(params=MAKERS)
def plain(request: pytest.FixtureRequest) -> Any:
    return MAKERS[request.param]()


def offloaded(pipe: Any) -> Any:
    pipe = own_copy(pipe)
    pipe.enable_model_cpu_offload(device="cpu")
    return pipe


def test_offloading_changes_no_hash(plain: Any) -> None:
    assert inference_behavior(offloaded(plain)) == inference_behavior(plain)


def test_what_a_user_put_under_the_hook_is_seen(plain: Any) -> None:
    forward = plain.vae.forward
    plain.vae.forward = lambda *inputs, **options: forward(*inputs, **options)
    (reason,) = inference_behavior(offloaded(plain)).reasons
    assert reason.startswith("replaced method vae.forward")


def test_hooks_are_kept_and_images_and_errors_are_the_same(plain: Any) -> None:
    results = []
    for pipe in (plain, offloaded(plain)):
        loaded = wrap_pipeline(pipe)
        model = DiffusionModel(loaded.pipe, Sampling(1, "own"))
        (drawn,) = model.generate([GenerationRequest("a church", 1, 5.0)])
        x0, t = model.encode_images([drawn.image]), torch.tensor([model.timestep(0.5)])
        error = model.denoising_error(x0, x0.flip(-1), t, model.encode_prompts(["a church"]))
        results.append((drawn.image.tobytes(), error.tolist(), model.device.type))
    assert results[0] == results[1]
    hooked = [
        type(getattr(module, "_hf_hook", None)).__name__ for module in (loaded.pipe.vae, loaded.pipe.text_encoder)
    ]
    assert hooked == ["CpuOffload", "CpuOffload"]


def test_weights_are_on_the_device_for_a_backward_pass(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = offloaded(plain)
    model = DiffusionModel(wrap_pipeline(pipe).pipe, Sampling(1, "own"))
    vocabulary = model.vocabulary
    prompt = FilledPrompt(vocabulary.slots("a church", 1, "prefix"), (int(vocabulary.typeable[0]),))
    embeddings = vocabulary.embeddings[torch.tensor([prompt.tokens])].float().requires_grad_(True)
    x0 = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    moved: list[tuple[str, Any]] = []
    for name in components_of(pipe):
        module = getattr(pipe, name)
        monkeypatch.setattr(module, "to", lambda device, name=name: moved.append((name, torch.device(device))))
    conditioning = model.encode([prompt], embeddings)
    error = model.denoising_error(x0, x0.flip(-1), torch.tensor([model.timestep(0.5)]), conditioning)
    needed = [name for name in components_of(pipe) if name != "vae"]
    assert moved[-len(needed) :] == [(name, pipe._offload_device) for name in needed]
    (slope,) = torch.autograd.grad(error.sum(), embeddings)
    assert slope.abs().sum() > 0


def test_weights_that_are_not_in_memory_are_refused(plain: Any) -> None:
    plain.enable_sequential_cpu_offload(device="cpu")
    with pytest.raises(ModelError, match=r"is not in memory .*: use enable_model_cpu_offload"):
        wrap_pipeline(plain)
