"""Stable Diffusion XL in every format it is published in: bit-equal weights, or one error that names the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_open_clip_checkpoint
from resaved import KV, Tensors, kohya, low_rank, peft, text, unet
from resaved_xl import FORMATS, open_clip, second, single_file
from safetensors.torch import save_file
from tiny import tiny_pipeline, tiny_xl

from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.models.checkpoint import read_checkpoint
from pytest_unlearndiff.models.formats.compvis_names import unet_names
from pytest_unlearndiff.models.loading import Loaded, load_victim, weights_digest, wrap_pipeline
from pytest_unlearndiff.models.pipeline_folders import load_pipeline
from pytest_unlearndiff.sources.base_guess import guess_base


@pytest.fixture(scope="module")
def base() -> StableDiffusionXLPipeline:
    return tiny_xl(0)


@pytest.fixture(scope="module")
def other() -> StableDiffusionXLPipeline:
    return tiny_xl(1)


def load(path: Path, base: StableDiffusionXLPipeline | StableDiffusionPipeline | None) -> Loaded:
    return load_victim(read_checkpoint(path), base)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_loads_to_the_bit(
    name: str, base: StableDiffusionXLPipeline, other: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    how = FORMATS[name]
    how.write(other, tmp_path / "x")
    found = load(tmp_path / "x", base)
    how.assert_loaded(found.pipe, other, base)
    assert {change.component for change in found.changes} == set(how.carries)
    for change in found.changes:
        assert change.given == len(how.tensors(other, change.component)) <= change.total
        assert change.changed > 0


def test_a_pipeline_folder_draws_as_the_pipeline(other: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    other.save_pretrained(tmp_path / "pipe")
    loaded = load(tmp_path / "pipe", None)
    assert weights_digest(loaded.pipe) == weights_digest(other)
    assert loaded.pipe.tokenizer_2.pad_token == "!"
    assert loaded.pipe.watermark is None


def test_a_digest_follows_what_changes_images(other: StableDiffusionXLPipeline) -> None:
    before, pipe = weights_digest(other), tiny_xl(1)
    assert weights_digest(pipe) == before
    pipe.text_encoder_2.text_projection.weight[0, 0] += 1
    changed = weights_digest(pipe)
    pipe.register_to_config(force_zeros_for_empty_prompt=False)
    assert len({before, changed, weights_digest(pipe)}) == 3


def test_compvis_names_are_those_of_stable_diffusion_xl() -> None:
    """The map agrees with diffusers' converter on all 1680 tensors of the real shape."""
    with torch.device("meta"):
        model = UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
    names, known = unet_names(model), model.state_dict()
    assert len(names) == len(set(names.values())) == 1680
    assert names["add_embedding.linear_1.weight"] == "label_emb.0.0.weight"
    tensors = {f"model.diffusion_model.{theirs}": known[ours] for ours, theirs in names.items()}
    converted = convert_ldm_unet_checkpoint(dict(tensors), dict(model.config))
    assert converted.keys() == known.keys()
    assert all(converted[key] is tensors[f"model.diffusion_model.{names[key]}"] for key in known)


def test_open_clip_names_are_those_the_library_knows(base: StableDiffusionXLPipeline) -> None:
    # The library tells widths by the projection, which is square in the real encoder.
    theirs = {key: value for key, value in open_clip(base).items() if key != "text_projection"}
    converted = convert_open_clip_checkpoint(base.text_encoder_2, theirs, prefix="")
    flat = {key.removeprefix("text_model."): value for key, value in converted.items()}
    mine = {key.removeprefix("text_model."): value for key, value in second(base).items()}
    assert flat.keys() == mine.keys() - {"text_projection.weight"}
    for key, value in flat.items():
        assert torch.equal(value, mine[key]), key


def low_rank_text(component: torch.nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Small random changes for the attention of a text encoder, by its layers' names."""
    generator = torch.Generator().manual_seed(4)
    found = {}
    for name, layer in component.named_modules():
        if name.endswith((".q_proj", ".k_proj", ".v_proj", ".out_proj")):
            rows, columns = layer.weight.shape
            up = torch.randn((rows, 2), generator=generator) * 0.1
            found[name.removeprefix("text_model.")] = up, torch.randn((2, columns), generator=generator) * 0.1
    return found


@pytest.mark.parametrize("layout", ["kohya", "kohya, compvis names", "diffusers"])
def test_lora_of_unet_and_both_encoders_is_merged_as_diffusers_fuses_it(
    layout: str, base: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    pairs, path = low_rank(base, 5, 2), tmp_path / "lora.safetensors"
    texts = {name: low_rank_text(getattr(base, name)) for name in ("text_encoder", "text_encoder_2")}
    tensors: Tensors = {}
    if layout == "diffusers":
        tensors = peft(pairs, "unet.")
        for name, some in texts.items():
            tensors |= peft(some, f"{name}.text_model.")
    else:
        theirs = unet_names(base.unet)
        named = {theirs[f"{name}.weight"].removesuffix(".weight"): pair for name, pair in pairs.items()}
        tensors = kohya(named if "compvis" in layout else pairs, 1.0)
        for prefix, some in zip(("lora_te1_text_model_", "lora_te2_text_model_"), texts.values(), strict=True):
            tensors |= {key.replace("lora_unet_", prefix, 1): value for key, value in kohya(some, 1.0).items()}
    save_file(tensors, path)
    found, fused = load(path, base), tiny_xl(0)
    assert [change.component for change in found.changes] == ["unet", "text_encoder", "text_encoder_2"]
    assert all(change.changed == change.given for change in found.changes)
    if "compvis" not in layout:  # the library knows only the real network's numbers of those
        fused.load_lora_weights(str(path))
        fused.fuse_lora()
        fused.unload_lora_weights()
        for component in ("unet", "text_encoder", "text_encoder_2"):
            mine = getattr(found.pipe, component).state_dict()
            for key, value in getattr(fused, component).state_dict().items():
                torch.testing.assert_close(mine[key], value, msg=f"{component}.{key}")


@pytest.mark.parametrize("mark", ["v_pred", "ztsnr"])
def test_a_checkpoint_marked_as_trained_otherwise_is_noticed(
    mark: str, base: StableDiffusionXLPipeline, other: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    save_file({**single_file(other), mark: torch.ones(0)}, tmp_path / "x")
    with pytest.raises(ModelError, match="is marked as trained with"):
        load(tmp_path / "x", base)
    fitting = tiny_xl(0, prediction_type="v_prediction")
    fitting.scheduler.register_to_config(rescale_betas_zero_snr=True)
    assert len(load(tmp_path / "x", fitting).changes) == 4


def test_another_kind_of_base_is_noticed(other: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    save_file(second(other), tmp_path / "second")
    save_file(unet(other, KV), tmp_path / "part")
    save_file(unet(other), tmp_path / "unet")
    other.save_pretrained(tmp_path / "pipe")
    save_file(
        {
            "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.ones(48, 1),
            "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(1, 24),
        },
        tmp_path / "lora",
    )
    reasons = {
        "second": "is of a text_encoder_2, which the base",
        "part": "is this the right base|is this its base",
        "unet": "is this the right base",
        "lora": "no place in the base",
        "pipe": "StableDiffusionXLPipeline and its base a StableDiffusionPipeline",
    }
    for name, reason in reasons.items():
        with pytest.raises(ModelError, match=reason):
            load(tmp_path / name, tiny_pipeline(0))


def test_a_gap_in_the_second_encoder_is_noticed(
    base: StableDiffusionXLPipeline, other: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    tensors = single_file(other)
    tensors.pop("conditioner.embedders.1.model.ln_final.bias")
    save_file(tensors, tmp_path / "x")
    with pytest.raises(ModelError, match="1 of the text_encoder_2's"):
        load(tmp_path / "x", base)
    other.save_pretrained(tmp_path / "pipe")
    weights = {key: value for key, value in second(other).items() if "text_projection" not in key}
    save_file(weights, tmp_path / "pipe" / "text_encoder_2" / "model.safetensors")
    with pytest.raises(ModelError, match="random numbers"):
        load_pipeline(tmp_path / "pipe")


def test_an_incomplete_pipeline_folder_is_refused_by_name(other: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    other.save_pretrained(tmp_path / "pipe")
    index = tmp_path / "pipe" / "model_index.json"
    named = json.loads(index.read_text())
    for change, reason in (
        ({"_class_name": "StableDiffusionXLImg2ImgPipeline"}, "is a StableDiffusionXLImg2ImgPipeline; only pipelines"),
        ({"text_encoder": [None, None]}, "its text_encoder is None, not CLIPTextModel"),
        ({"text_encoder_2": ["transformers", "T5EncoderModel"]}, "its text_encoder_2 is T5EncoderModel"),
    ):
        index.write_text(json.dumps(named | change))
        with pytest.raises(ModelError, match=reason):
            load_pipeline(tmp_path / "pipe")


def test_the_refiner_is_refused_by_name(tmp_path: Path) -> None:
    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    save_file({layer: torch.ones(8, 1280)}, tmp_path / "unet")
    save_file({"conditioner.embedders.0.model.ln_final.bias": torch.ones(8)}, tmp_path / "file")
    for name in ("unet", "file"):
        with pytest.raises(ModelError, match="Stable Diffusion XL's refiner"):
            read_checkpoint(tmp_path / name)


def test_a_pipeline_of_mixed_types_is_cast_to_the_unets() -> None:
    pipe = tiny_xl(2)
    pipe.text_encoder_2.half()
    loaded = wrap_pipeline(pipe)
    assert loaded.notes == ("text_encoder_2 cast from float16 to float32, the UNet's type",)
    assert loaded.pipe.text_encoder_2.dtype == torch.float32
    assert pipe.text_encoder_2.dtype == torch.float16


TABLE = "token_embedding.weight"
LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"


@pytest.mark.parametrize(
    "shapes",
    [
        {LAYER: (8, 2048)},
        {f"text_model.embeddings.{TABLE}": (8, 1280)},
        {f"conditioner.embedders.0.transformer.text_model.embeddings.{TABLE}": (8, 768),
         "conditioner.embedders.1.model.ln_final.bias": (8,)},
        {"lora_te1_x.lora_up.weight": (8, 1), "lora_te2_x.lora_up.weight": (8, 1)},
        {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": (4, 2048)},
        {f"text_encoder.embeddings.{TABLE}": (8, 768), "text_encoder_2.text_projection.weight": (8, 8)},
    ],
)  # fmt: skip
@pytest.mark.parametrize("save", [save_file, torch.save])
def test_its_base_is_told_by_shapes(shapes: dict[str, tuple[int, ...]], save: object, tmp_path: Path) -> None:
    assert callable(save)
    save({key: torch.ones(shape) for key, shape in shapes.items()}, tmp_path / "x")
    family = guess_base(tmp_path / "x")
    assert family is not None
    assert family.base == "stabilityai/stable-diffusion-xl-base-1.0"


def test_the_refiners_shapes_tell_no_base(tmp_path: Path) -> None:
    save_file({LAYER: torch.ones(8, 1280)}, tmp_path / "x")
    assert guess_base(tmp_path / "x") is None


def test_text_of_one_encoder_is_never_taken_for_the_others(base: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    """The first has no projection; by its names alone it is a text encoder like any."""
    save_file(text(base), tmp_path / "first")
    with pytest.raises(ModelError, match="nothing was unlearned"):
        load(tmp_path / "first", base)
