"""The contract of model families, over all rows of the registry."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tiny import PROMPTS, tiny_pipeline, tiny_xl
from tiny_transformers import BUILDERS, tiny_transformer

from examples import WITH_EXAMPLES, tiny_lcm
from pytest_unlearndiff.attacks.losses import denoising_losses
from pytest_unlearndiff.attacks.schedules import TokenSwapSchedule
from pytest_unlearndiff.attacks.token_swaps import TokenSwapAttack
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Prompt, Sampling
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.core.outcome import computed_forwards
from pytest_unlearndiff.models.device import BATCH
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.families.base import Conditioning
from pytest_unlearndiff.models.families.flow_matching import FlowMatching
from pytest_unlearndiff.models.families.lookup import components_of, family_named, family_of
from pytest_unlearndiff.models.families.typed_text import TypedText, lookup_of
from pytest_unlearndiff.models.families.vocabulary import FilledPrompt, embedded_prompt
from pytest_unlearndiff.models.libraries import library_warnings_ignored
from pytest_unlearndiff.models.pipeline_folders import load_pipeline
from pytest_unlearndiff.models.target_images import Targets
from pytest_unlearndiff.models.tensor_text import pack
from pytest_unlearndiff.runs.model_family import family_of_folders, family_of_object

TEXTS = ["a church in noto style", "", "wow!? church! a#?!b", " ".join(["church"] * 40)]
# The padding of XL's second tokenizer is "!", which makes words that hold it other tokens than the first's.
MARKED = ["wow!? !!! church! a#?!b", " ".join(["church!!!"] * 20), "church!!! on red", "!"]
OWN = Sampling(2, "own")
PIPELINES: Mapping[str, Callable[..., Any]] = {
    "stable-diffusion": tiny_pipeline,
    "stable-diffusion-xl": tiny_xl,
    "latent-consistency": tiny_lcm,
    **{name: partial(tiny_transformer, name) for name in BUILDERS},
}
"""A tiny pipeline of each family, and of those that lack a part: a new row needs one, or its test says so."""


@pytest.fixture(params=[*WITH_EXAMPLES.families, "stable-diffusion-3-without-t5", "flux-schnell"])
def pipe(request: pytest.FixtureRequest) -> Any:
    assert request.param in PIPELINES, f"add a tiny pipeline of the family {request.param} to PIPELINES"
    return PIPELINES[request.param](1)


class _FirstStep(Exception):
    """Raised where a network would begin to compute."""


@contextmanager
def arguments_of(network: Any, step: int = 1) -> Iterator[dict[str, torch.Tensor]]:
    """Collect all tensors of the first or another call of a network, by dotted name, and go no further."""
    names, seen = list(inspect.signature(type(network).forward).parameters)[1:], dict[str, torch.Tensor]()
    steps = iter(range(step, 0, -1))

    def note(_: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        if next(steps) > 1:
            return
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
        match value:
            case torch.Tensor():
                yield f"{prefix}{name}", value
            case Mapping():
                yield from _tensors(f"{prefix}{name}.", value)
            case list() | tuple():
                yield from _tensors(f"{prefix}{name}.", {str(n): each for n, each in enumerate(value)})


def call_arguments(model: DiffusionModel, count: int) -> dict[str, Any]:
    """Arguments of a call of the pipeline that draws its own noise, without guidance."""
    unguided = next(scale for scale in (1.0, 0.0) if model._family.forwards_per_step(scale) == 1)
    generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
    return {**model._family.call_arguments(unguided, 2), "generator": generators}


def noise_of(model: DiffusionModel, count: int) -> torch.Tensor:
    """The noise (B, C, h, w) that such a call begins with."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
    return torch.cat([torch.randn(1, *model.latent_shape, generator=generator) for generator in generators])


def network_inputs(
    pipe: Any, texts: Sequence[str], steps: int, step: int
) -> Iterator[tuple[dict[str, torch.Tensor], ...]]:
    """Yield what a network is given at a step of its pipeline's own call, and by ``predict``, for each batch."""
    family, model = family_of(pipe), DiffusionModel(pipe, OWN)
    network = getattr(pipe, family.network)
    for batch in [[text] for text in texts] if family.ragged_texts else [list(texts)]:
        count = len(batch)
        with arguments_of(network, step) as called:
            pipe(prompt=list(batch), **{**call_arguments(model, count), "num_inference_steps": steps})
        t = pipe.scheduler.timesteps[step - 1]
        if called["t" if "t" in called else "timestep"].ndim:
            t = t.expand(count)
        with arguments_of(network) as predicted, torch.no_grad():
            model.predict(noise_of(model, count), t, model.encode_prompts(batch))
        yield called, predicted


@pytest.mark.parametrize("texts", [TEXTS, MARKED], ids=["plain", "marked"])
def test_network_is_given_what_the_pipelines_own_call_gives_it(texts: list[str], pipe: Any) -> None:
    """All tensors, to the bit, at the pipeline's first step."""
    for called, predicted in network_inputs(pipe, texts, 2, 1):
        assert set(predicted) == set(called)
        assert len(called) >= 3
        assert [name for name in called if not torch.equal(predicted[name], called[name])] == []


def test_nor_does_a_free_embedding_make_a_difference(pipe: Any) -> None:
    """The pipeline's own call encodes it as ``encode`` does, to the bit, and other embeddings otherwise."""
    model, texts = DiffusionModel(pipe, OWN), ["a church in noto style", "a church in noto style", "wow church"]
    prompts, table = [embedded_prompt(text, model.vocabulary) for text in texts], model.vocabulary.embeddings
    free = table[[3, 5, 7]].float().unsqueeze(1) * 1.5
    rows = [slice(n, n + 1) for n in range(3)] if family_of(pipe).ragged_texts else [slice(3)]
    for row in rows:
        with torch.no_grad():
            conditioning = model.encode(prompts[row], free[row])
        ours = model._family.network_arguments(conditioning, noise_of(model, len(prompts[row])))
        with (
            arguments_of(getattr(pipe, family_of(pipe).network)) as theirs,
            model._family.embedded(prompts[row], free[row]),
        ):
            typed = [model.vocabulary.text(prompt.pieces) for prompt in prompts[row]]
            pipe(prompt=typed, **call_arguments(model, len(typed)))
        encoded = [name for name, each in _tensors("", ours) if not torch.equal(each, theirs[name])]
        assert encoded == []
    requests = [GenerationRequest(texts[0], 0, 5.0, pack(each[0])) for each in free[:2]]
    images = model.generate([GenerationRequest(texts[0], 0, 5.0), *requests, requests[0]])
    assert len({image.digest for image in images}) == 3
    assert images[1].digest == images[3].digest


def test_and_in_bfloat16_at_a_later_step(pipe: Any) -> None:
    """All but the latents, also to the bit, and in the same type."""
    pipe = copy.copy(pipe)
    for component in components_of(pipe):
        setattr(pipe, component, copy.deepcopy(getattr(pipe, component)).to(torch.bfloat16))
    for called, predicted in network_inputs(pipe, TEXTS, 3, 2):
        names = [name for name in called if name.split(".")[0] not in ("sample", "hidden_states", "x")]
        assert len(names) >= 2
        assert [name for name in names if predicted[name].dtype != called[name].dtype] == []
        assert [name for name in names if not torch.equal(predicted[name], called[name])] == []


def test_pipelines_scheduler_is_given_what_is_predicted(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a step along the regression target leads towards the image."""
    model, count = DiffusionModel(pipe, OWN), 2
    outputs: list[torch.Tensor] = []
    step = type(pipe.scheduler).step

    def note(scheduler: Any, output: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        outputs.append(output)
        return step(scheduler, output, *arguments, **options)

    monkeypatch.setattr(type(pipe.scheduler), "step", note)
    with library_warnings_ignored():
        pipe(prompt=TEXTS[:count], **call_arguments(model, count))
    t, noise = pipe.scheduler.timesteps[0], noise_of(model, count)
    with torch.no_grad():
        predicted = model.predict(noise, t.expand(count), model.encode(unattacked(model, TEXTS[:count])))
    # Whatever patches it is cut into.
    torch.testing.assert_close(*(each.float().flatten(1).sort().values for each in (predicted, outputs[0])))
    x0 = torch.ones_like(noise)
    x_t, target = model.add_noise(x0, noise, t.long().expand(count).clamp(max=model.timesteps - 1))
    pipe.scheduler._step_index = None
    nearer = step(pipe.scheduler, target, t, x_t, return_dict=False)[0]
    assert (nearer - x0).norm() < (x_t - x0).norm()


def unattacked(model: DiffusionModel, texts: Sequence[str]) -> list[FilledPrompt]:
    return [FilledPrompt(model.vocabulary.unattacked(text)) for text in texts]


def rows_of(conditioning: Conditioning) -> list[list[float]]:
    """All numbers of each row, which may differ in length."""
    values = conditioning.tensors.values()
    return [torch.cat([each[row].float().flatten() for each in values]).tolist() for row in range(len(conditioning))]


def test_prompts_change_what_the_network_is_given(pipe: Any) -> None:
    model = DiffusionModel(pipe, OWN)
    conditioning = model.encode_prompts(TEXTS)
    rows = rows_of(conditioning)
    assert len({tuple(row) for row in rows}) == len(conditioning) == len(TEXTS)
    assert rows_of(conditioning[[2, 0]]) == [rows[2], rows[0]]
    assert rows_of(type(conditioning).join([conditioning[:1], conditioning[1:]])) == rows


@torch.no_grad()
def test_vectors_hold_what_the_network_reads(pipe: Any) -> None:
    """Other states in the last position change them where they change predictions, and only there."""
    model = DiffusionModel(pipe, OWN)
    conditioning = model.encode_prompts(TEXTS[:2])
    if family_of(pipe).ragged_texts:
        with pytest.raises(ValueError, match="several lengths"):
            conditioning.vectors()
        return
    x_t, t = noise_of(model, 2), torch.tensor([model.timestep(0.5)] * 2)
    before = model.predict(x_t, t, conditioning)
    for name in set(conditioning.tensors) - set(conditioning.masks):
        states = conditioning.tensor(name).clone()
        states[:, -1] += torch.randn(states[:, -1].shape, generator=torch.Generator().manual_seed(0))
        changed = replace(conditioning, tensors={**conditioning.tensors, name: states})
        read = not torch.equal(model.predict(x_t, t, changed), before)
        assert torch.equal(changed.vectors(), conditioning.vectors()) is not read, name


def filled(model: DiffusionModel, text: str = "a church") -> FilledPrompt:
    vocabulary = model.vocabulary
    return FilledPrompt(vocabulary.slots(text, 2, "prefix"), tuple(vocabulary.typeable[[5, -5]].tolist()))


def errors(model: DiffusionModel, prompts: Sequence[FilledPrompt], slots: torch.Tensor | None = None) -> torch.Tensor:
    """Denoising errors of prompts, each on latents, noise and a timestep of its own."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, len(prompts), *model.latent_shape, generator=generator)
    t = torch.tensor([model.timestep(0.3 + 0.2 * n) for n in range(len(prompts))])
    return model.denoising_error(x0, noise, t, model.encode(prompts, slots))


def encoders_of(pipe: Any) -> list[Any]:
    """Text encoders in the order of their embeddings in a row of the vocabulary."""
    family = DiffusionModel(pipe, OWN)._family
    names = [name for name in components_of(pipe) if name.startswith("text_encoder")]
    names = [encoder for _, encoder in family.encoders] if isinstance(family, TypedText) else names
    return [getattr(pipe, name) for name in names]


def test_gradients_are_finite_differences_through_every_encoder(pipe: Any) -> None:
    model, encoders = DiffusionModel(pipe, OWN), encoders_of(pipe)
    prompt = filled(model)
    embeddings = model.vocabulary.embeddings[list(prompt.tokens)][None].float().requires_grad_(True)
    (slope,) = torch.autograd.grad(errors(model, [prompt], embeddings).sum(), embeddings)
    assert (slope[0].abs() > 0).all()
    widths = [int(lookup_of(encoder).weight.shape[1]) for encoder in encoders]
    assert sum(widths) == slope.shape[-1]
    begin = 0
    for width in widths:
        part = slice(begin, begin := begin + width)
        step = torch.zeros_like(slope)
        step[..., part] = 0.01 * slope[..., part] * embeddings.detach()[..., part].norm() / slope[..., part].norm()
        with torch.no_grad():
            higher, lower = (errors(model, [prompt], embeddings + sign * step).double() for sign in (1, -1))
        torch.testing.assert_close((higher - lower).item(), 2 * float((step * slope).sum()), rtol=0.1, atol=0)
    assert not any(lookup_of(encoder)._forward_hooks for encoder in encoders)


@torch.no_grad()
def test_encoders_look_up_the_tokens_of_typed_words(pipe: Any) -> None:
    """Also of words in capitals, where the vocabulary has any."""
    model, encoders = DiffusionModel(pipe, OWN), encoders_of(pipe)
    vocabulary, count = model.vocabulary, len(model.vocabulary.typeable)
    tokens: list[int] = vocabulary.typeable.tolist()
    capitals = [token for token in tokens if vocabulary.text([token]) != vocabulary.text([token]).lower()]
    tokens = [*capitals[:6], *tokens[:: count // 6]]
    looked_up: dict[Any, torch.Tensor] = {}
    lookups = [lookup_of(encoder) for encoder in encoders]
    hooks = [each.register_forward_hook(lambda module, _, rows: looked_up.update({module: rows})) for each in lookups]
    model.encode_prompts([vocabulary.text([*tokens[:1], *tokens])])
    for hook in hooks:
        hook.remove()
    parts = vocabulary.embeddings[tokens].split([int(each.weight.shape[1]) for each in lookups], -1)
    for lookup, part in zip(lookups, parts, strict=True):
        assert all(bool((looked_up[lookup][0] == row).all(-1).any()) for row in part)


@torch.no_grad()
def test_embeddings_of_the_tokens_in_the_slots_change_nothing(pipe: Any) -> None:
    model = DiffusionModel(pipe, OWN)
    prompt = filled(model)
    embeddings = model.vocabulary.embeddings[list(prompt.tokens)][None].float()
    slots = embeddings.expand(BATCH, -1, -1)
    (typed,) = rows_of(model.encode_prompts([model.vocabulary.text(prompt.pieces)]))
    assert rows_of(model.encode([prompt] * BATCH))[0] == typed
    assert rows_of(model.encode([prompt] * BATCH, slots))[0] == typed
    assert rows_of(model.encode([prompt] * BATCH, 2 * slots))[0] != typed


@torch.no_grad()
def test_prompts_of_a_batch_do_not_mix(pipe: Any) -> None:
    model = DiffusionModel(pipe, OWN)
    prompts = [filled(model, text) for text in TEXTS]
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, len(TEXTS), *model.latent_shape, generator=generator)
    t = torch.tensor([model.timestep(share) for share in (0.2, 0.4, 0.6, 0.8)])
    together = model.denoising_error(x0, noise, t, model.encode(prompts))
    alone = [
        model.denoising_error(x0[n : n + 1], noise[n : n + 1], t[n : n + 1], model.encode([prompt]))
        for n, prompt in enumerate(prompts)
    ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_what_stands_beside_a_prompt_changes_no_bit(pipe: Any) -> None:
    model = DiffusionModel(pipe, OWN)
    seen = []
    for beside in ([TEXTS[0]] * (BATCH - 1), [TEXTS[3], "", *[TEXTS[2]] * (BATCH - 3)]):
        prompts = [filled(model, text) for text in (TEXTS[0], *beside)]
        slots = model.vocabulary.embeddings[list(prompts[0].tokens)].float().expand(BATCH, -1, -1)
        slots = slots.clone().requires_grad_(True)
        error = errors(model, prompts, slots)
        (slope,) = torch.autograd.grad(error.sum(), slots)
        images = model.generate([GenerationRequest(text, 1, 5.0) for text in (TEXTS[0], *beside)])
        seen.append((error[0].item(), slope[0].tolist(), images[0].digest))
    assert seen[0] == seen[1]


class RandomLatents:
    """Target images of a model, as far as a search needs them."""

    def latents(self, prompts: Sequence[Prompt], model: DiffusionModel) -> torch.Tensor:
        return torch.randn(len(prompts), *model.latent_shape, generator=torch.Generator().manual_seed(1))


def test_three_rounds_of_token_swaps_lower_the_error(pipe: Any) -> None:
    model, schedule = DiffusionModel(pipe, OWN), TokenSwapSchedule((0.35, 0.65), rounds=3, screened=12, measured=4)
    search = TokenSwapAttack(AttackConfig(), model, schedule)
    (state,) = search.start(PROMPTS[:1], cast(Targets, RandomLatents()), 0)
    means = []
    for _ in range(4):
        means.append(float(denoising_losses(search._queries(state, state.choice, range(2)), model).mean()))
        search.advance([state])
    assert min(means[1:]) < means[0]


def test_forward_passes_of_an_image_are_those_counted(pipe: Any) -> None:
    model = DiffusionModel(pipe, OWN)
    before = computed_forwards()
    model.generate([GenerationRequest("a church", 1, 5.0)])
    drawn = 1 if family_of(pipe).ragged_texts else BATCH
    assert computed_forwards() - before == drawn * model.forwards_per_image


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
    assert set(components_of(pipe)) | set(family.optional) == set(family.components)
    assert family.network in family.components
    model = DiffusionModel(pipe, OWN)
    texts = model.encode_prompts(TEXTS).tensors
    assert any(isinstance(rows, tuple) for rows in texts.values()) is family.ragged_texts
    assert isinstance(model._family, FlowMatching) is family.flow
    for component in components_of(pipe):
        assert type(getattr(pipe, component)).__name__ in family.components[component]


def test_a_pipeline_folder_is_read_whole(pipe: Any, tmp_path: Path) -> None:
    with library_warnings_ignored():
        pipe.save_pretrained(tmp_path)
    loaded = load_pipeline(tmp_path)
    family = family_of_folders(tmp_path)
    assert family is not None
    assert family.info is family_of(loaded) is family_of(pipe)
    same = family_of_object(pipe)
    assert same is not None
    assert family.defaults == same.defaults
    for component in components_of(pipe):
        predicted, called = (getattr(each, component).state_dict() for each in (loaded, pipe))
        assert all(torch.equal(predicted[name], tensor) for name, tensor in called.items())
