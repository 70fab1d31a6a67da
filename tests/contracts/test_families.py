"""The contract of model families, over all rows of the registry."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import torch
from tiny import tiny_pipeline, tiny_xl

from examples import WITH_EXAMPLES, tiny_lcm
from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.families import components_of, family_named, family_of
from pytest_unlearndiff.models.families.vocabulary import FilledPrompt
from pytest_unlearndiff.models.libraries import library_warnings_ignored

TEXTS = ["a church in noto style", "", "wow!? church! a#?!b", " ".join(["church"] * 40)]
# The padding of XL's second tokenizer is "!", which makes words that hold it other tokens than the first's.
MARKED = ["wow!? !!! church! a#?!b", " ".join(["church!!!"] * 20), "church!!! on red", "!"]
OWN = Sampling(2, "own")
PIPELINES: Mapping[str, Callable[..., Any]] = {
    "stable-diffusion": tiny_pipeline,
    "stable-diffusion-xl": tiny_xl,
    "latent-consistency": tiny_lcm,
}
"""A tiny pipeline of each family: a new row needs one here, or its test says so."""


UNBOUND = ("stable-diffusion-3", "flux")


@pytest.fixture(params=[name for name in WITH_EXAMPLES.families if name not in UNBOUND])
def pipe(request: pytest.FixtureRequest) -> Any:
    assert request.param in PIPELINES, f"add a tiny pipeline of the family {request.param} to PIPELINES"
    return PIPELINES[request.param](1)


class _FirstStep(Exception):
    """Raised where a network would begin to compute."""


@contextmanager
def arguments_of(network: Any) -> Iterator[dict[str, torch.Tensor]]:
    """Collect all tensors of the first call of a network, by dotted name, and go no further."""
    names, seen = list(inspect.signature(type(network).forward).parameters)[1:], dict[str, torch.Tensor]()

    def note(_: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.update(_tensors("", {**dict(zip(names, positional, strict=False)), **named}))
        raise _FirstStep

    hook = network.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with suppress(_FirstStep), library_warnings_ignored():
            yield seen
    finally:
        hook.remove()


def _tensors(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, Mapping):
            yield from _tensors(f"{prefix}{name}.", value)


@pytest.mark.parametrize("texts", [TEXTS, MARKED], ids=["plain", "marked"])
def test_network_is_given_what_the_pipelines_own_call_gives_it(texts: list[str], pipe: Any) -> None:
    """All tensors, to the bit, at the pipeline's first step."""
    network, model = getattr(pipe, family_of(pipe).network), DiffusionModel(pipe, OWN)
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(texts))]
    with arguments_of(network) as theirs:
        pipe(texts, **model._family.call_arguments(1.0, 2), generator=generators)
    latents, t = theirs["sample"], theirs["timestep"]
    with arguments_of(network) as ours, torch.no_grad():
        model.predict(latents, t, model.encode_prompts(texts))
    assert set(ours) == set(theirs)
    assert len(theirs) >= 3
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def test_prompts_change_what_the_network_is_given(pipe: Any) -> None:
    model = DiffusionModel(pipe, OWN)
    conditioning = model.encode_prompts(TEXTS)
    vectors = conditioning.vectors()
    assert vectors.dtype == torch.float32
    assert len({tuple(row) for row in vectors.tolist()}) == len(conditioning) == len(TEXTS)
    assert torch.equal(conditioning[[2, 0]].vectors(), vectors[[2, 0]])
    joined = type(conditioning).join([conditioning[:1], conditioning[1:]])
    assert torch.equal(joined.vectors(), vectors)


def test_gradients_reach_the_embeddings_of_every_encoder(pipe: Any) -> None:
    model = DiffusionModel(pipe, OWN)
    vocabulary = model.vocabulary
    prompt = FilledPrompt(vocabulary.slots("a church", 2, "prefix"), tuple(vocabulary.typeable[[5, 80]].tolist()))
    embeddings = vocabulary.embeddings[list(prompt.tokens)][None].requires_grad_(True)
    x0 = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([model.timestep(0.5)])
    (slope,) = torch.autograd.grad(
        model.denoising_error(x0, x0.flip(-1), t, model.encode([prompt], embeddings)).sum(), embeddings
    )
    assert (slope[0].abs() > 0).all()
    encoders = [getattr(pipe, name) for name in components_of(pipe) if name.startswith("text_encoder")]
    assert not any(encoder.get_input_embeddings()._forward_hooks for encoder in encoders)


def test_latents_and_images_have_the_shapes_that_it_says(pipe: Any) -> None:
    model = DiffusionModel(pipe, OWN)
    (drawn,) = model.generate([GenerationRequest("a church", 1, 5.0)])
    assert drawn.image.size == model.image_size
    assert model.encode_images([drawn.image]).shape == (1, *model.latent_shape)


def test_noise_grows_with_the_share(pipe: Any) -> None:
    model = DiffusionModel(pipe, OWN)
    x0 = torch.ones(1, *model.latent_shape)
    noise = -x0
    distances = []
    for share in (0.02, 0.3, 0.6, 0.98):
        t = model.timestep(share)
        assert 0 <= t < model.timesteps
        x_t, target = model.add_noise(x0, noise, torch.tensor([t]))
        assert target.shape == x0.shape
        distances.append(float((x_t - x0).norm()))
    assert distances == sorted(distances)


def test_rows_name_classes_and_components_that_exist(pipe: Any) -> None:
    family = family_of(pipe)
    assert family_named(type(pipe).__name__) is family
    assert set(components_of(pipe)) == set(family.components)
    assert family.network in family.components
    for component, classes in family.components.items():
        assert type(getattr(pipe, component)).__name__ in classes
