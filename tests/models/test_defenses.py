"""Unlearning at inference time: images are those of the authors' own pipeline, and reports and keys say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LMSDiscreteScheduler, StableDiffusionPipelineSafe
from PIL import Image
from safetensors.torch import save_file
from tiny import shown, tiny_pipeline, tiny_xl

from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.core.images import GenerationRequest, SamplerChange
from pytest_unlearndiff.core.model_options import DefenseConfig, defense, describe_defenses, parse_defense
from pytest_unlearndiff.core.registry import registry
from pytest_unlearndiff.models.defenses.safe_latent_diffusion import STRENGTHS, Momentum
from pytest_unlearndiff.models.diffusion_model import DiffusionModel

STEPS = 12
FINAL_NORM = "text_encoder.text_model.final_layer_norm"
DRAWINGS = [GenerationRequest("a church", 1, 7.5), GenerationRequest("a truck in noto style", 2, 7.5)]


def sld(strength: str, warmup: str = "steps") -> tuple[DefenseConfig, ...]:
    return (defense("safe-latent-diffusion", strength=strength, concept="church", warmup=warmup),)


def images(defenses: Sequence[DefenseConfig], *, steps: int = STEPS) -> list[Image.Image]:
    return shown(DiffusionModel(tiny_pipeline(1), Sampling(steps=steps), defenses).generate(DRAWINGS))


def same(left: list[Image.Image], right: list[Image.Image]) -> bool:
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(left, right, strict=True))


def near(left: Image.Image, right: Image.Image) -> bool:
    """Up to rounding: batches of another size sum in another order."""
    return int(np.abs(np.asarray(left).astype(int) - np.asarray(right).astype(int)).max()) <= 1


def safe_pipeline() -> StableDiffusionPipelineSafe:
    """The authors' pipeline, as diffusers keeps it, around the same networks."""
    pipe = tiny_pipeline(1)
    parts = {name: getattr(pipe, name) for name in ("vae", "text_encoder", "tokenizer", "unet")}
    safe = StableDiffusionPipelineSafe(
        **parts,
        scheduler=LMSDiscreteScheduler.from_config(pipe.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    safe.set_progress_bar_config(disable=True)
    safe.safety_concept = "church"
    return safe


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("strength", STRENGTHS)
def test_safe_latent_diffusion_draws_as_the_authors_pipeline(strength: str) -> None:
    settings, safe = STRENGTHS[strength], safe_pipeline()
    drawn = images(sld(strength))
    for drawing, image in zip(DRAWINGS, drawn, strict=True):
        wanted = safe(
            drawing.text,
            guidance_scale=drawing.guidance,
            num_inference_steps=STEPS,
            generator=torch.Generator("cpu").manual_seed(drawing.seed),
            sld_guidance_scale=settings.scale,
            sld_warmup_steps=settings.warmup,
            sld_threshold=settings.threshold,
            sld_momentum_scale=settings.momentum,
            sld_mom_beta=settings.beta,
        ).images[0]
        assert near(image, wanted)


def test_warm_up_in_steps_outlasts_a_short_image() -> None:
    weak = sld("weak")
    assert same(images(weak, steps=10), images((), steps=10))
    assert not same(images(sld("weak", "timesteps"), steps=10), images((), steps=10))


def test_warm_up_by_timestep_ends_guidance() -> None:
    predictions = torch.stack([torch.zeros(4), torch.ones(4), torch.full((4,), 1.5)])
    for timestep, guided in ((999, True), (10, True), (9, False)):
        momentum = Momentum(STRENGTHS["medium"], by_timestep=True)
        corrected = momentum.outputs(predictions, torch.tensor(timestep))
        assert bool((corrected[1] != 1).any()) is guided


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl])
def test_negative_prompt_is_the_pipelines_own(make: Callable[[int], Any]) -> None:
    pipe, chosen = make(1), (defense("negative-prompt", prompt="church"),)
    drawn = shown(DiffusionModel(pipe, Sampling(2, "own"), chosen).generate(DRAWINGS))
    wanted = pipe(
        DRAWINGS[0].text,
        negative_prompt="church",
        guidance_scale=7.5,
        num_inference_steps=2,
        generator=torch.Generator("cpu").manual_seed(1),
    ).images[0]
    assert near(drawn[0], wanted)


def test_defenses_in_words() -> None:
    assert describe_defenses(()) == ""
    both = (defense("negative-prompt", prompt="blur"), *sld("medium"))
    assert describe_defenses(both) == (
        "negative prompt 'blur' and safe latent diffusion (medium, warm-up in steps) away from 'church'"
    )
    assert parse_defense("safe-latent-diffusion:strength=medium, concept=church,warmup=steps") == both[1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("unknown", "'unknown' is no defense; there are negative-prompt, safe-latent-diffusion"),
        ("negative-prompt", "needs prompt: negative-prompt:prompt=VALUE"),
        ("negative-prompt:prompt", "gives an option no value"),
        ("negative-prompt:prompt=x,more=1", "has no option 'more'"),
        ("safe-latent-diffusion:strength=huge,concept=x,warmup=steps", "strength='huge' is none of weak, medium"),
        ("trasce:concept=x,sigma=0", "sigma='0' is not above 0"),
    ],
)
def test_malformed_defenses_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_defense(text)


def test_row_names_every_strength() -> None:
    assert registry().defenses["safe-latent-diffusion"].choices["strength"] == tuple(STRENGTHS)


def steered(vector: torch.Tensor, tmp_path: Path, pipe: Any, **options: str) -> DiffusionModel:
    save_file({"vector": vector}, tmp_path / "vector.safetensors")
    config = defense("steering-vector", file=str(tmp_path / "vector.safetensors"), **options)
    return DiffusionModel(pipe, Sampling(steps=2), (config,))


def test_projected_text_states_have_nothing_of_the_vector(tmp_path: Path) -> None:
    pipe, vector = tiny_pipeline(1), torch.arange(32.0) - 10
    model = steered(vector, tmp_path, pipe, module=FINAL_NORM, mode="project")
    states = model.encode_prompts(["a church"]).tensor("encoder_hidden_states")
    assert (states @ vector).abs().max() < 1e-3 * states.norm()
    plain = DiffusionModel(pipe, Sampling(steps=2)).encode_prompts(["a church"]).tensor("encoder_hidden_states")
    moved = plain - states
    torch.testing.assert_close(
        moved, (moved @ vector).unsqueeze(-1) * vector / vector.dot(vector), atol=1e-5, rtol=1e-4
    )


def test_small_vectors_are_projected_in_half_precision(tmp_path: Path) -> None:
    pipe = tiny_pipeline(1)
    pipe.text_encoder.half()
    model = steered(1e-8 * torch.ones(32), tmp_path, pipe, module=FINAL_NORM, mode="project")
    states = model.encode_prompts(["a church"]).tensor("encoder_hidden_states").float()
    assert states.mean(-1).abs().max() < 1e-2 * states.abs().max()


def test_the_order_of_defenses_changes_no_image(tmp_path: Path) -> None:
    """Safe latent diffusion's concept is encoded under the vector once."""
    save_file({"vector": torch.arange(32.0)}, tmp_path / "v.safetensors")
    vector = defense("steering-vector", file=str(tmp_path / "v.safetensors"), module=FINAL_NORM)
    assert same(images([vector, *sld("max")], steps=2), images([*sld("max"), vector], steps=2))


def test_compiled_networks_meet_the_vector_of_their_own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the same network was compiled before without one, or with another."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    pipe, conditioning = tiny_pipeline(1), DiffusionModel(tiny_pipeline(1), Sampling(2)).encode_prompts(["a church"])
    save_file({"unet.mid_block": torch.ones(32)}, tmp_path / "v.safetensors")
    for strength in ("0", "1", "2"):
        config = defense("steering-vector", file=str(tmp_path / "v.safetensors"), strength=strength)
        plain, compiled = (
            DiffusionModel(pipe, Sampling(2), (config,) if float(strength) else (), compiled=each)
            for each in (False, True)
        )
        x, t = torch.zeros(1, *plain.latent_shape), torch.tensor([3])
        with torch.no_grad():
            torch.testing.assert_close(compiled.predict(x, t, conditioning), plain.predict(x, t, conditioning))


def test_added_vectors_move_every_position_and_channel(tmp_path: Path) -> None:
    pipe = tiny_pipeline(1)
    model = steered(torch.arange(16.0), tmp_path, pipe, module="unet.conv_in", strength="-2")
    seen: list[torch.Tensor] = []
    x, t = torch.zeros(1, *model.latent_shape), torch.tensor([3])
    conditioning = model.encode_prompts(["a church"])
    for each in (model, DiffusionModel(pipe, Sampling(steps=2))):
        block = pipe.unet.down_blocks[0].register_forward_pre_hook(
            lambda _, positional, named: seen.append(named["hidden_states"]), with_kwargs=True
        )
        each.predict(x, t, conditioning)
        block.remove()
    difference = seen[0] - seen[1]
    torch.testing.assert_close(difference, (-2 * torch.arange(16.0)).reshape(1, -1, 1, 1).expand_as(difference))


def test_modules_are_named_by_the_file(tmp_path: Path) -> None:
    pipe, file = tiny_pipeline(1), tmp_path / "vectors.safetensors"
    tensors = {"unet.conv_in": torch.ones(16), "unet.mid_block": torch.ones(32)}
    save_file(tensors, file)
    config = defense("steering-vector", file=str(file))
    with DiffusionModel(pipe, Sampling(steps=2), (config,))._defended():
        assert [len(pipe.unet.get_submodule(name)._forward_hooks) for name in ("conv_in", "mid_block")] == [1, 1]
    save_file({"vector": torch.ones(32)}, file, {"module": "unet.mid_block"})
    with DiffusionModel(pipe, Sampling(steps=2), (config,))._defended():
        assert len(pipe.unet.mid_block._forward_hooks) == 1


def test_a_vector_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    pipe = tiny_pipeline(1)
    with pytest.raises(ModelError, match="StableDiffusionPipeline has no module 'vector'"):
        steered(torch.ones(16), tmp_path, pipe)
    for module in ("unet.middle", "unet.mid block"):
        with pytest.raises(ModelError, match=f"UNet2DConditionModel has no module '{module}'"):
            steered(torch.ones(16), tmp_path, pipe, module=module)
    with pytest.raises(ModelError, match="'vector' is no steering vector"):
        steered(torch.ones(4, 4), tmp_path, pipe, module="unet.conv_in")
    with pytest.raises(ModelError, match=r"unet\.conv_in has 5 numbers, and hidden states there 16"):
        steered(torch.ones(5), tmp_path, pipe, module="unet.conv_in").generate(DRAWINGS)
    with pytest.raises(ModelError, match=r"returns .* and no hidden states"):
        steered(torch.ones(5), tmp_path, pipe, module="text_encoder").encode_prompts(["a church"])


def test_the_content_of_a_file_is_described(tmp_path: Path) -> None:
    """It enters the key, so that outcomes of one vector never stand for another's."""
    file = tmp_path / "v.safetensors"
    texts = []
    for content in (b"one", b"another"):
        file.write_bytes(content)
        texts.append(str(parse_defense("steering-vector:file=v.safetensors,module=unet.mid_block", tmp_path)))
    assert texts[0] != texts[1]
    assert texts[0].startswith("steering vector v.safetensors (sha256 7692c3ad3540bb80) (module unet.mid_block, add")
    with pytest.raises(ValueError, match="is no file"):
        parse_defense("steering-vector:file=absent.safetensors", tmp_path)
    with pytest.raises(ValueError, match="strength='much' is no finite number"):
        parse_defense("steering-vector:file=v.safetensors,strength=much", tmp_path)


def text_states(pipe: Any, texts: Sequence[str], defenses: Sequence[DefenseConfig] = ()) -> torch.Tensor:
    return DiffusionModel(pipe, Sampling(steps=2), defenses).encode_prompts(texts).tensor("encoder_hidden_states")


def test_safree_replaces_the_tokens_without_which_the_prompt_is_furthest_from_the_concept() -> None:
    """Written out for one prompt (arXiv 2410.12761, sections 3.1 and 3.2); the concept itself is one of its tokens."""
    pipe, text = tiny_pipeline(1), "an emoji of a church"
    ids = pipe.tokenizer([text, "church"], padding="max_length", return_tensors="pt").input_ids
    concept = pipe.text_encoder(ids[1:]).pooler_output.T
    outside = torch.eye(32) - concept @ concept.T / concept.square().sum()
    masked = []
    for place in range(1, 6):
        mask = torch.ones(1, ids.shape[1], dtype=torch.int64)
        mask[0, place] = 0
        masked.append(pipe.text_encoder(ids[:1], attention_mask=mask).pooler_output[0])
    distances = [float((outside @ pooled).norm()) for pooled in masked]
    near = [
        place + 1
        for place, distance in enumerate(distances)
        if distance > 1.01 * (sum(distances) - distance) / (len(distances) - 1)
    ]
    basis = torch.linalg.qr(torch.stack(masked, 1)).Q
    expected = text_states(pipe, [text])
    for place in near:
        expected[0, place] = basis @ basis.T @ outside @ expected[0, place]
    assert 0 < len(near) < 5
    filtered = text_states(pipe, [text], [defense("safree", concepts="church")])
    torch.testing.assert_close(filtered, expected, atol=2e-3, rtol=1e-3)


def test_safree_filters_each_prompt_by_itself_and_no_empty_one() -> None:
    """Classifier-free guidance keeps its empty prompt, and a verdict does not depend on the batch."""
    pipe, texts = tiny_pipeline(1), ["a church", "", "an emoji of a church in noto style"]
    config = [defense("safree", concepts="church; tree")]
    together = text_states(pipe, texts, config)
    torch.testing.assert_close(together, torch.cat([text_states(pipe, [text], config) for text in texts]))
    assert torch.equal(together[1:2], text_states(pipe, [""]))
    with pytest.raises(ModelError, match="concepts must name one phrase"):
        text_states(pipe, texts, [defense("safree", concepts=" ; ")])


def trasce(concept: str, scale: float) -> list[DefenseConfig]:
    return [defense("trasce", concept=concept, scale=str(scale), sigma="8")]


def drawn_by_trasce(model: DiffusionModel, request: GenerationRequest, concept: str, scale: float) -> Image.Image:
    """Draw one image by a loop of the authors' equations, latents being moved as the network is given them."""
    pipe, scheduler = model._pipe, model.scheduler
    states = model.encode_prompts(["", request.text, concept]).tensor("encoder_hidden_states")
    scheduler.set_timesteps(STEPS)
    noise = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(request.seed))
    latents = noise * scheduler.init_noise_sigma
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.scale_model_input(latents, t).detach().clone().requires_grad_()
        free, text, away = pipe.unet(torch.cat([x] * 3), t, encoder_hidden_states=states).sample.chunk(3)
        loss = -scale * torch.exp(-torch.linalg.vector_norm(text - away) / 8)
        (gradient,) = torch.autograd.grad(loss, x)
        unscaled = (scheduler.sigmas[i] ** 2 + 1) ** 0.5 if isinstance(scheduler, LMSDiscreteScheduler) else 1.0
        guided = (free + request.guidance * (text - away)).detach()
        latents = scheduler.step(guided, t, latents - unscaled * gradient).prev_sample
    with torch.no_grad():
        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    image: Image.Image = pipe.image_processor.postprocess(decoded)[0]
    return image


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("scheduler", ["own", "lms"])
def test_trasce_draws_as_its_equations_say(scheduler: str) -> None:
    """Each image of a batch by itself, by samplers that scale latents and by those that do not."""
    sampling = Sampling(STEPS, scheduler)
    still, moved = (
        shown(DiffusionModel(tiny_pipeline(1), sampling, trasce("church", scale)).generate(DRAWINGS))
        for scale in (0, 300)
    )
    model = DiffusionModel(tiny_pipeline(1), sampling)
    for i, drawing in enumerate(DRAWINGS):
        assert not near(still[i], moved[i])
        assert near(still[i], drawn_by_trasce(model, drawing, "church", 0))
        assert near(moved[i], drawn_by_trasce(model, drawing, "church", 300))


def test_trasce_moves_latents_of_probes_samplers_too() -> None:
    probe = [replace(DRAWINGS[0], sampler=SamplerChange(eta=1.2))]
    still, moved = (
        shown(DiffusionModel(tiny_pipeline(1), Sampling(4, "own"), trasce("church", scale)).generate(probe))[0]
        for scale in (0, 300)
    )
    assert not near(still, moved)


def test_trasce_without_concept_and_strength_is_classifier_free_guidance() -> None:
    assert all(map(near, images(trasce("", 0)), images(())))
    assert not any(map(near, images(trasce("church", 0)), images(())))
