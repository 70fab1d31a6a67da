"""Published formats of diffusion transformers load to the bit, or are one error that names the reason."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.lora_conversion_utils import (
    _convert_kohya_flux_lora_to_diffusers,
    _convert_xlabs_flux_lora_to_diffusers,
)
from diffusers.loaders.single_file_utils import (
    convert_flux_transformer_checkpoint_to_diffusers,
    convert_sd3_transformer_checkpoint_to_diffusers,
)
from resaved import Pairs, Tensors, kohya, peft
from resaved_transformers import ESD, FAMILIES, FORMATS, low_rank, original, transformer
from safetensors.torch import save_file
from tiny import tiny_pipeline
from tiny_transformers import BUILDERS, tiny_transformer

from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.models.checkpoint import read_checkpoint
from pytest_unlearndiff.models.formats.original_names import original_layers
from pytest_unlearndiff.models.loading import Loaded, load_victim


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def base(family: str) -> Any:
    return tiny_transformer(family, 0)


@pytest.fixture
def other(family: str) -> Any:
    return tiny_transformer(family, 1)


def load(path: Path, base: Any, *, partial: bool = False) -> Loaded:
    return load_victim(read_checkpoint(path), base, partial=partial)


def saved(tensors: Tensors, path: Path) -> Path:
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_format_is_loaded_to_the_bit(name: str, base: Any, other: Any, tmp_path: Path) -> None:
    how = FORMATS[name]
    how.write(other, tmp_path / "x")
    loaded = load(tmp_path / "x", base)
    how.assert_loaded(loaded.pipe, other, base)
    assert {change.component for change in loaded.changes} == {name for name in how.carries if hasattr(base, name)}
    for change in loaded.changes:
        assert change.given == len(how.tensors(other, change.component)) <= change.total
        assert change.changed > 0


def test_pipeline_with_t5_has_no_base_without_it(tmp_path: Path) -> None:
    """Nor the other way round, since one of them would be drawn with other states than its own."""
    folders = {name: tmp_path / name for name in ("stable-diffusion-3", "stable-diffusion-3-without-t5")}
    for name, folder in folders.items():
        tiny_transformer(name).save_pretrained(folder)
    for one, other in zip(folders, [*folders][::-1], strict=True):
        with pytest.raises(ModelError, match="or its base has no text_encoder_3; is this its base"):
            load(folders[one], tiny_transformer(other))


@pytest.mark.parametrize("name", BUILDERS)
def test_every_transformer_is_read_whole_and_in_part(name: str, tmp_path: Path) -> None:
    base, other = (tiny_transformer(name, seed) for seed in (0, 1))
    attention = r"\.(attn\d?|attention)\."
    for tensors in (transformer(other), transformer(other, attention)):
        loaded = load(saved(tensors, tmp_path / "x"), base)
        (change,) = loaded.changes
        assert change.given == len(tensors)
        state = loaded.pipe.transformer.state_dict()
        assert all(torch.equal(state[key], tensor) for key, tensor in tensors.items())
    pairs = low_rank(other, f"{attention}.*to_[qkv]")
    (change,) = load(saved(peft(pairs, "transformer."), tmp_path / "y"), base).changes
    assert change.changed == len(pairs) > 0


def test_lost_tensor_of_a_part_is_refused(base: Any, other: Any, tmp_path: Path) -> None:
    tensors = transformer(other, ESD)
    del tensors[min(tensors)]
    path = saved(tensors, tmp_path / "x")
    with pytest.raises(ModelError, match="--unlearndiff-partial"):
        load(path, base)
    assert load(path, base, partial=True).changes[0].given == len(tensors)


def test_transformer_needs_a_base_that_has_one(base: Any, other: Any, tmp_path: Path) -> None:
    path = saved(transformer(other, ESD), tmp_path / "x")
    with pytest.raises(ModelError, match=r"is of a transformer, which the base \(StableDiffusionPipeline\) has not"):
        load(path, tiny_pipeline(0))


def test_base_of_another_family_is_refused(tmp_path: Path) -> None:
    sd3, flux = (tiny_transformer(name, 1) for name in FAMILIES)
    for tensors, base in ((transformer(flux, ESD), sd3), (original(sd3), flux), (original(flux, ESD), sd3)):
        with pytest.raises(ModelError, match=r"is this (its|the right) base\?"):
            load(saved(tensors, tmp_path / "x"), base)


def flux_of_real_rows() -> Any:
    """A FLUX transformer of two blocks with FLUX.1's widths, which diffusers' converters take for granted."""
    with torch.device("meta"):
        return FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)


def thin(model: Any) -> Tensors:
    """Random tensors with a model's names and rows, two columns each: converters do not look at columns."""
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.randn((len(value), 2) if value.dim() == 2 else value.shape, generator=generator)
        for key, value in model.state_dict().items()
    }


def joined(tensors: Tensors) -> Tensors:
    """The same with their publisher's names, by the map that is tested."""

    class Pipe:
        class transformer:
            @staticmethod
            def state_dict() -> Tensors:
                return tensors

    return original(Pipe)


def test_publishers_names_are_the_librarys() -> None:
    flux, sd3 = thin(flux_of_real_rows()), tiny_transformer("stable-diffusion-3", 1).transformer.state_dict()
    for tensors, convert in (
        (flux, convert_flux_transformer_checkpoint_to_diffusers),
        (sd3, convert_sd3_transformer_checkpoint_to_diffusers),
    ):
        theirs = joined(tensors)
        converted = convert(theirs)
        assert not theirs
        assert converted.keys() == tensors.keys()
        assert [key for key, value in converted.items() if not torch.equal(value, tensors[key])] == []


def merged(base: Any, pairs: Pairs, scale: float) -> Tensors:
    """The base's transformer with these changes, in the formula's words."""
    return {
        key: value + scale * pairs[key.removesuffix(".weight")][0] @ pairs[key.removesuffix(".weight")][1]
        if key.endswith(".weight") and key.removesuffix(".weight") in pairs
        else value
        for key, value in base.transformer.state_dict().items()
    }


LAYERS = r"(attn2?\.(to_|add_)|ff(_context)?\.net\.|context_embedder|norm1\.linear|proj_mlp|norm_out\.linear)"


@pytest.mark.parametrize("layout", ["diffusers", "diffusers with alpha", "peft folder", "kohya", "kohya, publisher's"])
def test_lora_is_merged(layout: str, base: Any, tmp_path: Path) -> None:
    path, scale, pairs = tmp_path / "x", 1.0, low_rank(base, LAYERS)
    if layout == "diffusers":
        saved(peft(pairs, "transformer."), path)
    elif layout == "diffusers with alpha":
        scale, noted = 2.0, json.dumps({"transformer.r": 2, "transformer.lora_alpha": 4})
        save_file(peft(pairs, "transformer."), path, metadata={"lora_adapter_metadata": noted})
    elif layout == "peft folder":
        scale = 4.0
        path.mkdir()
        (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 8}))
        saved(peft(pairs, "base_model.model."), path / "adapter_model.safetensors")
    else:
        scale = 0.5
        named = {name.replace("lora_unet_", "lora_transformer_"): v for name, v in kohya(pairs, 1.0).items()}
        saved(kohya(fused(base, pairs), 1.0) if "publisher" in layout else named, path)
    loaded = load(path, base)
    for key, value in merged(base, pairs, scale).items():
        torch.testing.assert_close(loaded.pipe.transformer.state_dict()[key], value, msg=key)
    assert [change.component for change in loaded.changes] == ["transformer"]
    assert loaded.changes[0].changed == len(pairs)


def fused(base: Any, pairs: Pairs) -> Pairs:
    """The same changes for the publisher's layers: those of several of diffusers' below each other, and no others."""
    layers, ranks = original_layers(base.transformer.state_dict()), Pairs()
    for name, each in layers.items():
        if "processor" in name or not set(each.names) & set(pairs):
            continue
        rows = [len(base.transformer.get_submodule(layer).weight) for layer in each.names]
        columns = base.transformer.get_submodule(each.names[0]).weight.shape[1]
        empty = [(torch.zeros(count, 2), torch.zeros(2, columns)) for count in rows]
        parts = [pairs.get(layer, none) for layer, none in zip(each.names, empty, strict=True)]
        # Of rank 2 for each layer, so that scales stay: alpha is divided by the rank of all.
        up = torch.block_diag(*(up for up, _ in parts)) * len(parts)
        if each.swapped:
            up = torch.cat(up.chunk(2)[::-1])
        ranks[name] = up, torch.cat([down for _, down in parts])
    return ranks


def flux_lora(layers: tuple[str, ...], sizes: tuple[int, ...]) -> Tensors:
    """Kohya's for these layers of FLUX, with FLUX.1's rows."""
    generator = torch.Generator().manual_seed(2)
    pairs = {
        name: (torch.randn((rows, 4), generator=generator), torch.randn((4, 3072), generator=generator))
        for name, rows in zip(layers, sizes, strict=True)
    }
    return kohya(pairs, 2.0)


def as_deltas(tensors: Tensors) -> Tensors:
    downs = {key: value for key, value in tensors.items() if key.endswith("lora_A.weight")}
    return {
        key.removesuffix(".lora_A.weight"): tensors[key.replace("lora_A", "lora_B")] @ down
        for key, down in downs.items()
    }


def test_fused_layers_of_a_lora_are_the_librarys() -> None:
    """Fused queries, keys and values, and those with the MLP of a single block; also of XLabs' trainer."""
    rows = {
        "double_blocks.0.img_attn.qkv": 9216,
        "double_blocks.0.txt_attn.qkv": 9216,
        "single_blocks.0.linear1": 21504,
    }
    tensors = flux_lora(tuple(rows), tuple(rows.values()))
    layers = original_layers(flux_of_real_rows().state_dict())
    theirs = as_deltas(_convert_kohya_flux_lora_to_diffusers(dict(tensors)))
    counts = {key.removesuffix(".weight"): len(v) for key, v in flux_of_real_rows().state_dict().items()}
    for name in rows:
        prefix = f"lora_unet_{name.replace('.', '_')}"
        delta = 0.5 * tensors[f"{prefix}.lora_up.weight"] @ tensors[f"{prefix}.lora_down.weight"]
        for layer, part in layers[name].split(name, delta, counts).items():
            torch.testing.assert_close(part, theirs.pop(f"transformer.{layer}"), rtol=1e-4, atol=1e-4)
    assert not theirs
    processors = {
        "double_blocks.0.processor.qkv_lora1": 9216,
        "double_blocks.0.processor.proj_lora2": 3072,
        "single_blocks.0.processor.qkv_lora": 9216,
        "single_blocks.0.processor.proj_lora": 3072,
    }
    xlabs = {}
    for name, count in processors.items():
        xlabs |= {f"{name}.down.weight": torch.randn(2, 8), f"{name}.up.weight": torch.randn(count, 2)}
    theirs = as_deltas(_convert_xlabs_flux_lora_to_diffusers(dict(xlabs)))
    for name in processors:
        delta = xlabs[f"{name}.up.weight"] @ xlabs[f"{name}.down.weight"]
        for layer, part in layers[name].split(name, delta, counts).items():
            assert torch.equal(part, theirs.pop(f"transformer.{layer}")), layer
    assert not theirs


def test_lora_as_eraseanything_publishes_it(tmp_path: Path) -> None:
    """Rank 8, bf16, ``transformer.`` prefix, no alpha, the text's keys and queries of every block (the real file)."""
    base = tiny_transformer("flux", 0)
    pairs = low_rank(base, r"^transformer_blocks\.\d+\.attn\.add_[kq]_proj$", rank=8)
    tensors = {key: value.to(torch.bfloat16) for key, value in peft(pairs, "transformer.").items()}
    loaded = load(saved(tensors, tmp_path / "pytorch_lora_weights.safetensors"), base)
    coarse = {name: (up.bfloat16().float(), down.bfloat16().float()) for name, (up, down) in pairs.items()}
    for key, value in merged(base, coarse, 1.0).items():
        torch.testing.assert_close(loaded.pipe.transformer.state_dict()[key], value, msg=key)
    assert str(loaded.changes[0]).startswith(f"transformer: {len(pairs)} of {len(pairs)} given tensors changed")
    assert "merged from LoRA of rank 8" in str(loaded.changes[0])


def test_lora_equals_the_pipelines_own_loading(base: Any, family: str, tmp_path: Path) -> None:
    """Of the transformer and the first text encoder, as diffusers fuses it."""
    pairs, fusing = low_rank(base, r"attn\.to_[qv]$"), copy.copy(base)
    fusing.transformer, fusing.text_encoder = copy.deepcopy(base.transformer), copy.deepcopy(base.text_encoder)
    width = base.text_encoder.config.hidden_size
    text = {"encoder.layers.0.self_attn.q_proj": (torch.randn(width, 2) * 0.1, torch.randn(2, width) * 0.1)}
    path = saved(peft(pairs, "transformer.") | peft(text, "text_encoder.text_model."), tmp_path / "x.safetensors")
    fusing.load_lora_weights(str(path))
    fusing.fuse_lora(components=["transformer", "text_encoder"])
    fusing.unload_lora_weights()
    loaded = load(path, base)
    assert [change.component for change in loaded.changes] == ["transformer", "text_encoder"]
    for component in ("transformer", "text_encoder"):
        after = getattr(loaded.pipe, component).state_dict()
        for key, value in getattr(fusing, component).state_dict().items():
            torch.testing.assert_close(after[key], value, msg=f"{component}.{key}")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("half", "holds only"),
        ("elsewhere", "1 of 2 LoRA layers have no place in the base"),
        ("wide", "in the base the weight is"),
        ("twice", "which another pair changes too"),
    ],
)
def test_damaged_lora_is_refused(damage: str, reason: str, tmp_path: Path) -> None:
    base = tiny_transformer("flux", 0)
    pairs = low_rank(base, r"^transformer_blocks\.0\.attn\.to_[qk]$")
    tensors = peft(pairs, "transformer.")
    if damage == "half":
        tensors.popitem()
    elif damage == "elsewhere":
        tensors = {key.replace("blocks.0.attn.to_k", "blocks.9.attn.to_k"): value for key, value in tensors.items()}
    elif damage == "wide":
        tensors = {key: torch.ones(2, 64) if "lora_A" in key else value for key, value in tensors.items()}
    else:
        tensors |= peft({"double_blocks.0.img_attn.qkv": (torch.ones(96, 1), torch.ones(1, 32))}, "diffusion_model.")
    with pytest.raises(ModelError, match=reason):
        load(saved(tensors, tmp_path / "x"), base)


def test_gguf_is_named(tmp_path: Path) -> None:
    (tmp_path / "flux1-dev-Q4_0.gguf").write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(ModelError, match=r"is a GGUF file, .*: give it as safetensors"):
        read_checkpoint(tmp_path / "flux1-dev-Q4_0.gguf")


def test_text_encoder_that_fits_two_components_is_refused(tmp_path: Path) -> None:
    base, other = (copy.copy(tiny_transformer("stable-diffusion-3", seed)) for seed in (0, 1))
    base.text_encoder = base.text_encoder_2
    other.text_encoder_2.save_pretrained(tmp_path / "x")
    with pytest.raises(ModelError, match="fits text_encoder_2 and text_encoder of the base alike"):
        load(tmp_path / "x", base)
    other.text_encoder_2.save_pretrained(tmp_path / "text_encoder")
    assert [change.component for change in load(tmp_path / "text_encoder", base).changes] == ["text_encoder"]


def test_text_encoder_is_refused_for_one_that_the_base_has(tmp_path: Path) -> None:
    """Stable Diffusion 1.x has one text encoder only: that it lacks a second says nothing of what is wrong."""
    tiny_transformer("stable-diffusion-3", 1).text_encoder_2.save_pretrained(tmp_path / "x")
    with pytest.raises(ModelError) as refused:
        load(tmp_path / "x", tiny_pipeline(0))
    assert "text_encoder_2" not in str(refused.value).partition("folder): ")[2]


def quantised(pipe: Any, method: str) -> Any:
    """A pipeline whose transformer says that its weights are quantised, as diffusers marks it."""
    marked = copy.copy(pipe)
    marked.transformer = copy.deepcopy(pipe.transformer)
    marked.transformer.hf_quantizer = SimpleNamespace(quantization_config=SimpleNamespace(quant_method=method))
    return marked


def test_quantised_folder_names_the_package_it_needs(base: Any, tmp_path: Path) -> None:
    base.save_pretrained(tmp_path / "x")
    config = tmp_path / "x" / "transformer" / "config.json"
    noted = json.loads(config.read_text()) | {"quantization_config": {"quant_method": "torchao"}}
    config.write_text(json.dumps(noted))
    with pytest.raises(ModelError, match=r"its transformer is quantised with torchao, .*pip install torchao"):
        load(tmp_path / "x", None)


def test_checkpoint_is_not_put_into_quantised_weights(base: Any, other: Any, tmp_path: Path) -> None:
    into = quantised(base, "quanto")
    for tensors in (transformer(other, ESD), peft(low_rank(base, r"attn\.to_q$"), "transformer.")):
        with pytest.raises(
            ModelError, match=r"transformer, which is quantised \(quanto\) in the base: give the base as"
        ):
            load(saved(tensors, tmp_path / "x"), into)


def test_quantised_pipeline_is_not_compared_with_its_base(other: Any, base: Any, tmp_path: Path) -> None:
    base.save_pretrained(tmp_path / "x")
    loaded = load(tmp_path / "x", quantised(base, "quanto"))
    assert "transformer" not in {change.component for change in loaded.changes}
    assert loaded.notes == ("transformer is quantised in the base, so that its weights were not compared",)
