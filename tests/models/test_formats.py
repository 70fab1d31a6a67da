"""Every published format of every family loads to bit-equal weights, or is one error that names the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import resaved_xl
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from resaved import (
    FORMATS,
    KV,
    Pairs,
    compvis,
    erasers,
    kohya,
    latent_diffusion,
    low_rank,
    open_clip,
    peft,
    save_receler,
    text,
    unet,
)
from resaved_xl import second, single_file
from safetensors.torch import save_file
from tiny import EMOJI, tiny_pipeline, tiny_xl

from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.models.checkpoint import read_checkpoint
from pytest_unlearndiff.models.formats.compvis_names import unet_names, vae_names
from pytest_unlearndiff.models.loading import Loaded, load_victim, weights_digest
from pytest_unlearndiff.models.pipeline_folders import load_pipeline

ERASED = EMOJI / "erased"


@pytest.fixture(scope="module")
def emoji() -> StableDiffusionPipeline:
    return load_pipeline(EMOJI / "model")


@pytest.fixture(scope="module")
def base_xl() -> StableDiffusionXLPipeline:
    return tiny_xl(0)


@pytest.fixture(scope="module")
def other_xl() -> StableDiffusionXLPipeline:
    return tiny_xl(1)


@pytest.fixture(params=["sd", "xl"])
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A base and other weights, of each family."""
    names = {"sd": ("base", "other"), "xl": ("base_xl", "other_xl")}[request.param]
    return request.getfixturevalue(names[0]), request.getfixturevalue(names[1])


def load(path: Path, base: Any, *, trust: bool = False, partial: bool = False) -> Loaded:
    return load_victim(read_checkpoint(path, trust_pickle=trust), base, partial=partial)


@pytest.mark.parametrize(
    ("family", "name"), [*(("", name) for name in FORMATS), *(("_xl", name) for name in resaved_xl.FORMATS)]
)
def test_format_is_loaded_to_the_bit(family: str, name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    base, other = (request.getfixturevalue(f"{fixture}{family}") for fixture in ("base", "other"))
    how = (resaved_xl.FORMATS if family else FORMATS)[name]
    how.write(other, tmp_path / "x")
    loaded = load(tmp_path / "x", base, trust=how.trusted)
    how.assert_loaded(loaded.pipe, other, base)
    assert {change.component for change in loaded.changes} == set(how.carries)
    for change in loaded.changes:
        assert change.given == len(how.tensors(other, change.component)) <= change.total
        assert change.changed > 0


def test_pipeline_folder_of_xl_needs_no_base(other_xl: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    other_xl.save_pretrained(tmp_path / "pipe")
    loaded = load(tmp_path / "pipe", None)
    assert weights_digest(loaded.pipe) == weights_digest(other_xl)
    assert loaded.pipe.tokenizer_2.pad_token == "!"
    assert loaded.pipe.watermark is None


def test_digest_follows_what_changes_images(other_xl: StableDiffusionXLPipeline) -> None:
    before, pipe = weights_digest(other_xl), tiny_xl(1)
    assert weights_digest(pipe) == before
    pipe.text_encoder_2.text_projection.weight[0, 0] += 1
    changed = weights_digest(pipe)
    pipe.register_to_config(force_zeros_for_empty_prompt=False)
    assert len({before, changed, weights_digest(pipe)}) == 3


def test_open_clip_names_are_the_librarys(base: StableDiffusionPipeline, base_xl: StableDiffusionXLPipeline) -> None:
    converted = convert_open_clip_checkpoint(base.text_encoder, open_clip(base))
    flat = {key.removeprefix("text_model."): value for key, value in converted.items()}
    for key, value in text(base).items():
        assert torch.equal(flat[key], value), key
    # The library tells widths by the projection, which is square in the real encoder.
    theirs = {key: value for key, value in resaved_xl.open_clip(base_xl).items() if key != "text_projection"}
    converted = convert_open_clip_checkpoint(base_xl.text_encoder_2, theirs, prefix="")
    flat = {key.removeprefix("text_model."): value for key, value in converted.items()}
    ours = {key.removeprefix("text_model."): value for key, value in second(base_xl).items()}
    assert flat.keys() == ours.keys() - {"text_projection.weight"}
    for key, value in flat.items():
        assert torch.equal(value, ours[key]), key


def saved_anew(victim: str, emoji: StableDiffusionPipeline) -> tuple[Loaded, list[str]]:
    """An erased emoji model, and the formats that can carry it: what UCE and AC edit fits their own formats too."""
    original = load(ERASED / victim, emoji)
    changed = {change.component for change in original.changes if change.changed}
    whole = [name for name, how in FORMATS.items() if changed <= set(how.carries) and not how.part]
    edited = [name for name, how in FORMATS.items() if how.part == KV and victim.startswith(("uce", "ac"))]
    return original, whole + edited


def assert_same(original: Loaded, names: list[str], emoji: StableDiffusionPipeline, folder: Path) -> None:
    wanted = weights_digest(original.pipe)
    for number, name in enumerate(names):
        path = folder / str(number)
        FORMATS[name].write(original.pipe, path)
        again = load(path, emoji, trust=FORMATS[name].trusted)
        assert weights_digest(again.pipe) == wanted, name


# One victim a method, each in another third of the formats.
SOME = ["esd-x-church.safetensors", "uce-fish.safetensors", "ac-truck", "advunlearn-parachute", "fmn-church"]


@pytest.mark.parametrize("victim", SOME)
def test_erased_emoji_model_in_other_formats(victim: str, emoji: StableDiffusionPipeline, tmp_path: Path) -> None:
    original, names = saved_anew(victim, emoji)
    assert_same(original, names[SOME.index(victim) % 3 :: 4], emoji, tmp_path)


@pytest.mark.slow  # minutes: 26 victims in up to 20 formats
@pytest.mark.parametrize("victim", sorted(path.name for path in ERASED.iterdir() if not path.name.startswith(".")))
def test_every_erased_emoji_model_in_every_format(victim: str, emoji: StableDiffusionPipeline, tmp_path: Path) -> None:
    original, names = saved_anew(victim, emoji)
    assert len(names) >= 5
    assert_same(original, names, emoji, tmp_path)


XL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def real_unet(**config: Any) -> UNet2DConditionModel:
    """Stable Diffusion's own network, or another, without numbers."""
    with torch.device("meta"):
        return UNet2DConditionModel(sample_size=64, **{"cross_attention_dim": 768, "attention_head_dim": 8, **config})


@pytest.mark.parametrize(
    ("config", "count", "some"),
    [
        (
            {},
            686,
            {
                "down_blocks.0.downsamplers.0.conv.weight": "input_blocks.3.0.op.weight",
                "up_blocks.0.upsamplers.0.conv.bias": "output_blocks.2.1.conv.bias",
            },
        ),
        (XL, 1680, {"add_embedding.linear_1.weight": "label_emb.0.0.weight"}),
    ],
    ids=["sd", "xl"],
)
def test_compvis_names_are_the_librarys(config: dict[str, Any], count: int, some: dict[str, str]) -> None:
    """The map agrees with diffusers' converter, which knows whole checkpoints, on all tensors of the real shape."""
    model = real_unet(**config)
    names, known = unet_names(model), model.state_dict()
    assert len(names) == len(set(names.values())) == count
    assert some.items() <= names.items()
    tensors = {f"model.diffusion_model.{theirs}": known[ours] for ours, theirs in names.items()}
    converted = convert_ldm_unet_checkpoint(dict(tensors), dict(model.config))
    assert converted.keys() == known.keys()
    assert all(converted[key] is tensors[f"model.diffusion_model.{names[key]}"] for key in known)


def test_librarys_converter_loses_tensors_of_partial_checkpoints() -> None:
    """The reason for a map of our own; where this fails, diffusers may do it instead."""
    model = real_unet()
    names, known = unet_names(model), model.state_dict()
    part = {f"model.diffusion_model.{names[key]}": known[key] for key in known if ".attn2.to_k." in key}
    assert len(convert_ldm_unet_checkpoint(dict(part), dict(model.config))) < len(part) == 16


def test_compvis_names_of_the_autoencoder() -> None:
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
    names, known = vae_names(vae), vae.state_dict()
    tensors = {f"first_stage_model.{theirs}": known[ours] for ours, theirs in names.items()}
    converted = convert_ldm_vae_checkpoint(dict(tensors), dict(vae.config))
    assert converted.keys() == known.keys()
    assert all(converted[key] is tensors[f"first_stage_model.{names[key]}"] for key in known)


@pytest.mark.parametrize("layout", ["kohya", "compvis", "diffusers", "processors", "noted", "peft folder"])
def test_lora_is_merged(layout: str, base: StableDiffusionPipeline, tmp_path: Path) -> None:
    rank, alpha = 2, 2.0
    pairs, path, theirs = low_rank(base, 5, rank), tmp_path / "lora", unet_names(base.unet)
    if layout == "kohya":
        alpha = 1.0
        save_file(kohya(pairs, alpha), path, metadata={"prompts": "church"})
    elif layout == "compvis":
        named = {theirs[f"{name}.weight"].removesuffix(".weight"): pair for name, pair in pairs.items()}
        save_file(kohya(named, alpha), path)
    elif layout == "diffusers":
        save_file(peft(pairs, "unet."), path)
    elif layout == "processors":
        pairs = {name: pair for name, pair in pairs.items() if name.endswith((".to_q", ".to_out.0"))}
        named = {name.replace(".to_", ".processor.to_").removesuffix(".0") + "_lora": p for name, p in pairs.items()}
        tensors = {f"unet.{name}.up.weight": up for name, (up, _) in named.items()}
        save_file(tensors | {f"unet.{name}.down.weight": down for name, (_, down) in named.items()}, path)
    elif layout == "noted":
        alpha = 4.0
        noted = json.dumps({"unet.r": rank, "unet.lora_alpha": 4})
        save_file(peft(pairs, "unet."), path, metadata={"lora_adapter_metadata": noted})
    else:
        alpha = 8.0
        path.mkdir()
        (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": 8}))
        save_file(peft(pairs, "base_model.model."), path / "adapter_model.safetensors")
    loaded, known = load(path, base), base.unet.state_dict()
    for key, value in loaded.pipe.unet.state_dict().items():
        wanted = known[key]
        if (pair := pairs.get(key.removesuffix(".weight"))) and key.endswith(".weight"):
            up, down = pair
            wanted = wanted + alpha / rank * torch.einsum("or...,ri...->oi...", up, down)
        torch.testing.assert_close(value, wanted)
    assert loaded.changes[0].changed == len(pairs)
    assert any("strength 1" in note for note in loaded.notes)


def low_rank_text(encoder: torch.nn.Module) -> Pairs:
    """Small random changes for the attention of a text encoder, by its layers' names."""
    generator, pairs = torch.Generator().manual_seed(4), {}
    for name, layer in encoder.named_modules():
        if name.endswith((".q_proj", ".k_proj", ".v_proj", ".out_proj")):
            rows, columns = layer.weight.shape
            up = torch.randn((rows, 2), generator=generator) * 0.1
            pairs[name.removeprefix("text_model.")] = up, torch.randn((2, columns), generator=generator) * 0.1
    return pairs


@pytest.mark.parametrize("layout", ["kohya", "kohya, compvis names", "diffusers"])
@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl])
def test_lora_of_every_component_is_merged_as_diffusers_fuses_it(make: Any, layout: str, tmp_path: Path) -> None:
    base, fused, path = make(0), make(0), tmp_path / "lora.safetensors"
    encoders = [name for name in ("text_encoder", "text_encoder_2") if hasattr(base, name)]
    pairs, texts = low_rank(base, 5, 2), {name: low_rank_text(getattr(base, name)) for name in encoders}
    if layout == "diffusers":
        tensors = peft(pairs, "unet.")
        for name, some in texts.items():
            tensors |= peft(some, f"{name}.text_model.")
    else:
        theirs = unet_names(base.unet)
        named = {theirs[f"{name}.weight"].removesuffix(".weight"): pair for name, pair in pairs.items()}
        tensors = kohya(named if "compvis" in layout else pairs, 1.0)
        prefixes = ("lora_te1_", "lora_te2_") if len(encoders) == 2 else ("lora_te_",)
        for prefix, some in zip(prefixes, texts.values(), strict=True):
            renamed = kohya(some, 1.0).items()
            tensors |= {key.replace("lora_unet_", f"{prefix}text_model_", 1): value for key, value in renamed}
    save_file(tensors, path)
    loaded = load(path, base)
    assert [change.component for change in loaded.changes] == ["unet", *encoders]
    assert all(change.changed == change.given for change in loaded.changes)
    if "compvis" not in layout:  # the library knows only the real network's numbers of those
        fused.load_lora_weights(str(path))
        fused.fuse_lora()
        fused.unload_lora_weights()
        for component in ("unet", *encoders):
            merged = getattr(loaded.pipe, component).state_dict()
            for key, value in getattr(fused, component).state_dict().items():
                torch.testing.assert_close(merged[key], value, msg=f"{component}.{key}")


@pytest.mark.parametrize("layout", ["folder", "file", "in place"])
def test_receler_corrects_cross_attention(layout: str, base: StableDiffusionPipeline, tmp_path: Path) -> None:
    parts, path = erasers(base), tmp_path / "x"
    if layout == "folder":
        save_receler(path, parts, 3)
    elif layout == "file":
        torch.save(parts, path)
    else:
        adapters = {
            f"{place}.transformer_blocks.0.attn2.adapter.{part}": value
            for place, tensors in parts.items()
            for part, value in tensors.items()
        }
        save_file({k.replace(".attn2.", ".attn2.attn."): v for k, v in unet(base).items()} | adapters, path)
    loaded = load(path, base)
    place, given = next(iter(parts.items()))
    states, context = torch.randn(1, 4, 32), torch.randn(1, 5, 32)
    before = base.unet.get_submodule(f"{place}.transformer_blocks.0").attn2
    plain = before(states, encoder_hidden_states=context)
    hidden = torch.nn.functional.gelu(plain @ given["down.weight"].T + given["down.bias"])
    wanted = plain + hidden @ given["up.weight"].T + given["up.bias"]
    after = loaded.pipe.unet.get_submodule(f"{place}.transformer_blocks.0").attn2
    torch.testing.assert_close(after(states, encoder_hidden_states=context), wanted)
    assert "erasers behind cross-attention" in str(loaded.changes[-1])
    images = loaded.pipe("a church", num_inference_steps=1).images
    assert len(images) == 1


def test_old_autoencoder_in_a_pipeline_folder(other: StableDiffusionPipeline, tmp_path: Path) -> None:
    """Stable Diffusion 1.x folders have its attention under names of 2022."""
    other.save_pretrained(tmp_path / "pipe")
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    tensors = {}
    for key, value in other.vae.state_dict().items():
        name = next((key.replace(new, was) for new, was in old.items() if new in key), key)
        tensors[name] = value
    assert tensors.keys() != other.vae.state_dict().keys()
    save_file(tensors, tmp_path / "pipe" / "vae" / "diffusion_pytorch_model.safetensors")
    assert weights_digest(load_pipeline(tmp_path / "pipe")) == weights_digest(other)


def test_pipelines_of_both_prediction_types(tmp_path: Path) -> None:
    for kind in ("epsilon", "v_prediction"):
        tiny_pipeline(2, prediction_type=kind).save_pretrained(tmp_path / kind)
        assert load_pipeline(tmp_path / kind).scheduler.config.prediction_type == kind


def test_lost_tensor_of_a_partial_checkpoint_is_refused(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    tensors = compvis(other, KV)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, tmp_path / "x")
    with pytest.raises(ModelError, match="--unlearndiff-partial"):
        load(tmp_path / "x", base)
    loaded = load(tmp_path / "x", base, partial=True)
    assert loaded.changes[0].given == len(tensors)


def test_gap_in_a_text_encoder_is_refused(pair: tuple[Any, Any], tmp_path: Path) -> None:
    base, other = pair
    save_file({key: value for key, value in text(other).items() if "token_embedding" not in key}, tmp_path / "x")
    with pytest.raises(ModelError, match="1 of the text_encoder's"):
        load(tmp_path / "x", base)
    assert load(tmp_path / "x", base, partial=True).changes[0].component == "text_encoder"


def test_gap_in_the_second_text_encoder_is_refused(
    base_xl: StableDiffusionXLPipeline, other_xl: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    tensors = single_file(other_xl)
    tensors.pop("conditioner.embedders.1.model.ln_final.bias")
    save_file(tensors, tmp_path / "x")
    with pytest.raises(ModelError, match="1 of the text_encoder_2's"):
        load(tmp_path / "x", base_xl)
    other_xl.save_pretrained(tmp_path / "pipe")
    weights = {key: value for key, value in second(other_xl).items() if "text_projection" not in key}
    save_file(weights, tmp_path / "pipe" / "text_encoder_2" / "model.safetensors")
    with pytest.raises(ModelError, match="random numbers"):
        load_pipeline(tmp_path / "pipe")


def test_first_text_encoder_is_not_taken_for_the_second(base_xl: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    """The first has no projection; by its names alone it is a text encoder like any."""
    save_file(text(base_xl), tmp_path / "first")
    with pytest.raises(ModelError, match="nothing was unlearned"):
        load(tmp_path / "first", base_xl)


@pytest.mark.parametrize("mark", ["v_pred", "ztsnr"])
def test_checkpoint_marked_as_trained_otherwise_is_refused(
    mark: str, base_xl: StableDiffusionXLPipeline, other_xl: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    save_file({**single_file(other_xl), mark: torch.ones(0)}, tmp_path / "x")
    with pytest.raises(ModelError, match="is marked as trained with"):
        load(tmp_path / "x", base_xl)
    fitting = tiny_xl(0, prediction_type="v_prediction")
    fitting.scheduler.register_to_config(rescale_betas_zero_snr=True)
    assert len(load(tmp_path / "x", fitting).changes) == 4


def test_base_of_another_family_is_refused(
    base: StableDiffusionPipeline, other_xl: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    layer = "lora_te2_text_model_encoder_layers_0_mlp_fc1"
    save_file(second(other_xl), tmp_path / "second")
    save_file(unet(other_xl, KV), tmp_path / "part")
    save_file(unet(other_xl), tmp_path / "unet")
    save_file(
        {f"{layer}.lora_up.weight": torch.ones(48, 1), f"{layer}.lora_down.weight": torch.ones(1, 24)},
        tmp_path / "lora",
    )
    other_xl.save_pretrained(tmp_path / "pipe")
    for name, reason in {
        "second": "no place in the base's text_encoder, .* is this the right base",
        "part": "is this the right base|is this its base",
        "unet": "is this the right base",
        "lora": "no place in the base",
        "pipe": "StableDiffusionXLPipeline and its base a StableDiffusionPipeline",
    }.items():
        with pytest.raises(ModelError, match=reason):
            load(tmp_path / name, base)


def test_other_noise_schedule_is_refused(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    tensors = latent_diffusion(other)
    tensors["alphas_cumprod"] = tensors["alphas_cumprod"].flip(0)
    torch.save(tensors, tmp_path / "x")
    with pytest.raises(ModelError, match="noise schedule"):
        load(tmp_path / "x", base)


def test_folder_that_computes_otherwise_is_refused(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    other.text_encoder.save_pretrained(tmp_path / "x")
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    (tmp_path / "x" / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}))
    with pytest.raises(ModelError, match="hidden_act='gelu', the base's 'quick_gelu'"):
        load(tmp_path / "x", base)


FOREIGN = {
    "LoHa": {"lora_unet_mid_block.hada_w1_a": torch.ones(1, 1)},
    "Stable Diffusion XL's refiner \\(its": {
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": torch.ones(8, 1280)
    },
    "Stable Diffusion XL's refiner": {"conditioner.embedders.0.model.ln_final.bias": torch.ones(8)},
}


@pytest.mark.parametrize("family", FOREIGN)
def test_other_families_are_refused_by_name(family: str, tmp_path: Path) -> None:
    save_file(FOREIGN[family], tmp_path / "x")
    with pytest.raises(ModelError, match=family):
        read_checkpoint(tmp_path / "x")


def test_family_in_the_metadata_is_refused(tmp_path: Path) -> None:
    save_file({"mid_block.x": torch.ones(1)}, tmp_path / "x", metadata={"family": "hidream"})
    with pytest.raises(ModelError, match="as its metadata says"):
        read_checkpoint(tmp_path / "x")


@pytest.mark.parametrize(
    ("make", "index", "reason"),
    [
        (tiny_pipeline, {"_class_name": "KandinskyPipeline"}, "is a KandinskyPipeline; only pipelines"),
        (tiny_pipeline, {"_class_name": ["mine", "MyPipeline"]}, "never run"),
        (tiny_pipeline, {"unet": ["my_unet", "MyUNet"]}, "never run"),
        (tiny_pipeline, {"unet": ["diffusers", "SD3Transformer2DModel"]}, "its unet is SD3Transformer2DModel"),
        (tiny_pipeline, {"_class_name": None}, "never run"),
        (
            tiny_xl,
            {"_class_name": "StableDiffusionXLImg2ImgPipeline"},
            "with an image; gates draw from text alone. Save .* StableDiffusionXLPipeline.from_pipe",
        ),
        (tiny_pipeline, {"_class_name": "StableDiffusionInpaintPipeline"}, "Give the StableDiffusionPipeline that"),
        (tiny_xl, {"text_encoder": [None, None]}, "its text_encoder is None, not CLIPTextModel"),
        (tiny_xl, {"text_encoder_2": ["transformers", "T5EncoderModel"]}, "its text_encoder_2 is T5EncoderModel"),
    ],
)
def test_pipelines_of_other_classes_are_refused_by_name(
    make: Any, index: dict[str, object], reason: str, tmp_path: Path
) -> None:
    make(1).save_pretrained(tmp_path / "x")
    file = tmp_path / "x" / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | index))
    for name in ("mine.py", "my_unet.py", "unet/my_unet.py"):
        (tmp_path / "x" / name).write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    with pytest.raises(ModelError, match=reason):
        read_checkpoint(tmp_path / "x")
    with pytest.raises(ModelError, match=reason):
        load_pipeline(tmp_path / "x")
    assert not (tmp_path / "ran").exists()
