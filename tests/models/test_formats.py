"""Every format that unlearning repositories publish loads to bit-equal weights, and what it does not hold stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from resaved import (
    FORMATS,
    KV,
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
from safetensors.torch import save_file
from tiny import EMOJI, tiny_pipeline

from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.models.checkpoint import read_checkpoint
from pytest_unlearndiff.models.formats.compvis_names import unet_names, vae_names
from pytest_unlearndiff.models.loading import Loaded, load_victim, weights_digest
from pytest_unlearndiff.models.pipeline_folders import load_pipeline

ERASED = EMOJI / "erased"


@pytest.fixture(scope="module")
def emoji() -> StableDiffusionPipeline:
    return load_pipeline(EMOJI / "model")


def load(path: Path, base: StableDiffusionPipeline | None, *, trust: bool = False, partial: bool = False) -> Loaded:
    return load_victim(read_checkpoint(path, trust_pickle=trust), base, partial=partial)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_loads_to_the_bit(
    name: str, base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    how = FORMATS[name]
    how.write(other, tmp_path / "x")
    found = load(tmp_path / "x", base, trust=how.trusted)
    how.assert_loaded(found.pipe, other, base)
    assert {change.component for change in found.changes} == set(how.carries)
    for change in found.changes:
        assert change.given == len(how.tensors(other, change.component)) <= change.total
        assert change.changed > 0


def test_open_clip_names_are_those_the_library_knows(base: StableDiffusionPipeline) -> None:
    converted = convert_open_clip_checkpoint(base.text_encoder, open_clip(base))
    flat = {key.removeprefix("text_model."): value for key, value in converted.items()}
    for key, value in text(base).items():
        assert torch.equal(flat[key], value), key


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
def test_an_erased_emoji_model_saved_anew_is_the_same(
    victim: str, emoji: StableDiffusionPipeline, tmp_path: Path
) -> None:
    original, names = saved_anew(victim, emoji)
    assert_same(original, names[SOME.index(victim) % 3 :: 4], emoji, tmp_path)


@pytest.mark.slow  # minutes: 26 victims in up to 20 formats
@pytest.mark.parametrize("victim", sorted(path.name for path in ERASED.iterdir() if not path.name.startswith(".")))
def test_every_erased_emoji_model_in_every_format_is_the_same(
    victim: str, emoji: StableDiffusionPipeline, tmp_path: Path
) -> None:
    original, names = saved_anew(victim, emoji)
    assert len(names) >= 5
    assert_same(original, names, emoji, tmp_path)


def real_unet(width: int = 768) -> UNet2DConditionModel:
    """Stable Diffusion's own, without numbers."""
    with torch.device("meta"):
        return UNet2DConditionModel(sample_size=64, cross_attention_dim=width, attention_head_dim=8)


def test_compvis_names_are_those_of_stable_diffusion() -> None:
    """The map agrees with diffusers' converter on all 686 tensors, which knows whole checkpoints."""
    model = real_unet()
    names, known = unet_names(model), model.state_dict()
    assert len(names) == len(set(names.values())) == 686
    assert names["down_blocks.0.downsamplers.0.conv.weight"] == "input_blocks.3.0.op.weight"
    assert names["up_blocks.0.upsamplers.0.conv.bias"] == "output_blocks.2.1.conv.bias"
    tensors = {f"model.diffusion_model.{theirs}": known[ours] for ours, theirs in names.items()}
    converted = convert_ldm_unet_checkpoint(dict(tensors), dict(model.config))
    assert converted.keys() == known.keys()
    assert all(converted[key] is tensors[f"model.diffusion_model.{names[key]}"] for key in known)


def test_the_librarys_converter_loses_tensors_of_partial_checkpoints() -> None:
    """Why there is a map of our own; where this fails, diffusers may do it instead."""
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
    found, known = load(path, base), base.unet.state_dict()
    for key, value in found.pipe.unet.state_dict().items():
        wanted = known[key]
        if (pair := pairs.get(key.removesuffix(".weight"))) and key.endswith(".weight"):
            up, down = pair
            wanted = wanted + alpha / rank * torch.einsum("or...,ri...->oi...", up, down)
        torch.testing.assert_close(value, wanted)
    assert found.changes[0].changed == len(pairs)
    assert any("strength 1" in note for note in found.notes)


@pytest.mark.parametrize("layout", ["kohya", "peft"])
def test_lora_is_merged_as_diffusers_fuses_it(layout: str, base: StableDiffusionPipeline, tmp_path: Path) -> None:
    pairs, path = low_rank(base, 5, 2), tmp_path / "lora.safetensors"
    save_file(kohya(pairs, 1.0) if layout == "kohya" else peft(pairs, "unet."), path)
    theirs = tiny_pipeline(0)
    theirs.load_lora_weights(str(path))
    theirs.fuse_lora()
    theirs.unload_lora_weights()
    found = load(path, base).pipe.unet.state_dict()
    for key, value in theirs.unet.state_dict().items():
        torch.testing.assert_close(found[key], value, msg=key)


def test_lora_of_a_text_encoder(base: StableDiffusionPipeline, tmp_path: Path) -> None:
    up, down = torch.ones(32, 1), torch.ones(1, 32)
    layer = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    save_file({f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}, tmp_path / "lora")
    found = load(tmp_path / "lora", base)
    key = next(key for key in base.text_encoder.state_dict() if key.endswith("layers.0.self_attn.q_proj.weight"))
    torch.testing.assert_close(found.pipe.text_encoder.state_dict()[key], base.text_encoder.state_dict()[key] + 1)


@pytest.mark.parametrize("layout", ["folder", "file", "in place"])
def test_receler_corrects_what_cross_attention_gives(
    layout: str, base: StableDiffusionPipeline, tmp_path: Path
) -> None:
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
    found = load(path, base)
    place, given = next(iter(parts.items()))
    states, context = torch.randn(1, 4, 32), torch.randn(1, 5, 32)
    before = base.unet.get_submodule(f"{place}.transformer_blocks.0").attn2
    plain = before(states, encoder_hidden_states=context)
    hidden = torch.nn.functional.gelu(plain @ given["down.weight"].T + given["down.bias"])
    wanted = plain + hidden @ given["up.weight"].T + given["up.bias"]
    after = found.pipe.unet.get_submodule(f"{place}.transformer_blocks.0").attn2
    torch.testing.assert_close(after(states, encoder_hidden_states=context), wanted)
    assert "erasers behind cross-attention" in str(found.changes[-1])
    images = found.pipe("a church", num_inference_steps=1).images
    assert len(images) == 1


def test_an_old_autoencoder_in_a_pipeline_folder(other: StableDiffusionPipeline, tmp_path: Path) -> None:
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


def test_a_lost_tensor_of_a_partial_checkpoint_is_noticed(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    tensors = compvis(other, KV)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, tmp_path / "x")
    with pytest.raises(ModelError, match="--unlearndiff-partial"):
        load(tmp_path / "x", base)
    found = load(tmp_path / "x", base, partial=True)
    assert found.changes[0].given == len(tensors)


def test_a_text_encoder_with_a_gap_is_noticed(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    save_file({key: value for key, value in text(other).items() if "token_embedding" not in key}, tmp_path / "x")
    with pytest.raises(ModelError, match="1 of the text_encoder's"):
        load(tmp_path / "x", base)
    assert load(tmp_path / "x", base, partial=True).changes[0].component == "text_encoder"


def test_another_noise_schedule_is_noticed(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    tensors = latent_diffusion(other)
    tensors["alphas_cumprod"] = tensors["alphas_cumprod"].flip(0)
    torch.save(tensors, tmp_path / "x")
    with pytest.raises(ModelError, match="noise schedule"):
        load(tmp_path / "x", base)


def test_a_folder_that_computes_otherwise_is_noticed(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    other.text_encoder.save_pretrained(tmp_path / "x")
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    (tmp_path / "x" / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}))
    with pytest.raises(ModelError, match="hidden_act='gelu', the base's 'quick_gelu'"):
        load(tmp_path / "x", base)


FOREIGN = {
    "FLUX": {"single_transformer_blocks.0.attn.to_q.weight": torch.ones(1, 1)},
    "a diffusion transformer": {"transformer_blocks.0.attn.to_q.weight": torch.ones(1, 1)},
    "Stable Diffusion 3": {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": torch.ones(1, 1)},
    "LoHa": {"lora_unet_mid_block.hada_w1_a": torch.ones(1, 1)},
}


@pytest.mark.parametrize("family", FOREIGN)
def test_other_families_are_refused_by_name(family: str, tmp_path: Path) -> None:
    save_file(FOREIGN[family], tmp_path / "x")
    with pytest.raises(ModelError, match=family):
        read_checkpoint(tmp_path / "x")


def test_a_family_in_the_metadata_is_believed(tmp_path: Path) -> None:
    save_file({"mid_block.x": torch.ones(1)}, tmp_path / "x", metadata={"family": "sd3"})
    with pytest.raises(ModelError, match="as its metadata says"):
        read_checkpoint(tmp_path / "x")


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ({"_class_name": "StableDiffusion3Pipeline"}, "is a StableDiffusion3Pipeline; only pipelines"),
        ({"_class_name": ["mine", "MyPipeline"]}, "never run"),
        ({"unet": ["my_unet", "MyUNet"]}, "never run"),
        ({"unet": ["diffusers", "SD3Transformer2DModel"]}, "its unet is SD3Transformer2DModel"),
        ({"_class_name": None}, "never run"),
    ],
)
def test_pipelines_of_other_classes_are_refused_by_name(
    index: dict[str, object], reason: str, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    other.save_pretrained(tmp_path / "x")
    file = tmp_path / "x" / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | index))
    for name in ("mine.py", "my_unet.py", "unet/my_unet.py"):
        (tmp_path / "x" / name).write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    with pytest.raises(ModelError, match=reason):
        read_checkpoint(tmp_path / "x")
    with pytest.raises(ModelError, match=reason):
        load_pipeline(tmp_path / "x")
    assert not (tmp_path / "ran").exists()
