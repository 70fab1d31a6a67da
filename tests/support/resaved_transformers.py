"""Save an unlearned Stable Diffusion 3 or FLUX.1 as unlearning repositories, publishers and trainers do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from resaved import Format, Pairs, Tensors, Writer, nested, pickled, safetensors

from pytest_unlearndiff.models.families.lookup import components_of
from pytest_unlearndiff.models.formats.compvis_names import vae_names
from pytest_unlearndiff.models.formats.original_names import original_layers

FAMILIES = ("stable-diffusion-3", "flux")
# The layers that ESD's scripts for FLUX and Stable Diffusion 3.5 train.
ESD = r"\.attn2?\.(?!norm)"
ESD_STRICT = r"\.attn\.to_[kv]\."
UCE = r"^(context_embedder|time_text_embed\.text_embedder\.linear_1)\.weight$"
PREFIX = "model.diffusion_model."


def transformer(pipe: Any, part: str = "", prefix: str = "") -> Tensors:
    """Tensors of the transformer whose names have a pattern, each name with a prefix."""
    tensors = pipe.transformer.state_dict().items()
    return {f"{prefix}{key}": value.clone() for key, value in tensors if re.search(part, key)}


def original(pipe: Any, part: str = "", prefix: str = PREFIX) -> Tensors:
    """The transformer with its publisher's names: several layers in one, shift before scale."""
    tensors, named = transformer(pipe, part), Tensors()
    for name, layers in original_layers(pipe.transformer.state_dict()).items():
        for leaf in ("weight", "bias"):
            rows = [tensors[f"{layer}.{leaf}"] for layer in layers.names if f"{layer}.{leaf}" in tensors]
            if "processor" in name or len(rows) != len(layers.names):
                continue
            whole = torch.cat(rows)
            if layers.swapped:
                whole = torch.cat(whole.chunk(2)[::-1])
            spelt = "scale" if re.search(r"\.(query|key)_norm$", name) else leaf
            named[f"{prefix}{name}.{spelt}"] = whole
    if "pos_embed.pos_embed" in tensors:
        named[f"{prefix}pos_embed"] = tensors["pos_embed.pos_embed"]
    return named


def encoders(pipe: Any) -> tuple[str, ...]:
    """Names of the text encoders."""
    return tuple(name for name in components_of(pipe) if name.startswith("text_encoder"))


def encoder(pipe: Any, name: str, prefix: str = "") -> Tensors:
    """Tensors of a text encoder as files hold them: T5's embeddings once, CLIP's with ``text_model.``."""
    module = getattr(pipe, name)
    tensors = {key: value for key, value in module.state_dict().items() if key != "encoder.embed_tokens.weight"}
    flat = hasattr(module, "encoder") and not hasattr(module, "shared")
    return {f"{prefix}{'text_model.' * flat}{key}": value.clone() for key, value in tensors.items()}


def all_in_one(pipe: Any) -> Tensors:
    """The whole pipeline in one file, as Stability AI publishes it and interfaces save it."""
    names = vae_names(pipe.vae)
    square = re.compile(r"attentions\.0\.to_\w+(\.0)?\.weight")
    whole = original(pipe) | {
        f"first_stage_model.{names[key]}": value[..., None, None] if square.search(key) else value
        for key, value in pipe.vae.state_dict().items()
    }
    for name in encoders(pipe):
        kind = "t5xxl" if hasattr(getattr(pipe, name), "shared") else {"text_encoder": "clip_l"}.get(name, "clip_g")
        whole |= encoder(pipe, name, f"text_encoders.{kind}.transformer.")
    unused = {"text_encoders.clip_l.logit_scale": torch.tensor(4.6)}
    if "text_encoders.clip_l.transformer.text_projection.weight" not in whole:
        unused["text_encoders.clip_l.transformer.text_projection.weight"] = torch.eye(32)
    return whole | unused


def low_rank(pipe: Any, part: str, rank: int = 2, seed: int = 3) -> Pairs:
    """Small random changes, up and down, for every linear layer of the transformer whose name has a pattern."""
    generator, pairs = torch.Generator().manual_seed(seed), Pairs()
    for name, layer in pipe.transformer.named_modules():
        if isinstance(layer, torch.nn.Linear) and re.search(part, name):
            rows, columns = layer.weight.shape
            up = torch.randn((rows, rank), generator=generator) * 0.1
            pairs[name] = up, torch.randn((rank, columns), generator=generator) * 0.1
    return pairs


def folder(name: str, **how: Any) -> Writer:
    """A component's folder, or that of the pipeline for an empty name."""
    return lambda pipe, path: (getattr(pipe, name) if name else pipe).save_pretrained(path, **how)


def _in_a_folder_of_its_name(pipe: Any, path: Path) -> None:
    pipe.text_encoder_2.save_pretrained(path / "text_encoder_2")
    pipe.transformer.save_pretrained(path / "transformer")


WHOLE = ("transformer", "text_encoder", "text_encoder_2", "text_encoder_3", "vae")
FORMATS: dict[str, Format] = {
    "transformer safetensors": Format(safetensors(transformer), ("transformer",)),
    "transformer pt": Format(pickled(lambda pipe: {"state_dict": transformer(pipe)}), ("transformer",)),
    "transformer with prefix": Format(
        safetensors(lambda pipe: transformer(pipe, prefix="transformer.")), ("transformer",)
    ),
    "esd-x": Format(
        safetensors(lambda pipe: transformer(pipe, ESD), family="flux", component="transformer"), ("transformer",), ESD
    ),
    "esd-x with prefix": Format(pickled(lambda pipe: transformer(pipe, ESD, "transformer.")), ("transformer",), ESD),
    "esd-x-strict": Format(safetensors(lambda pipe: transformer(pipe, ESD_STRICT)), ("transformer",), ESD_STRICT),
    "esd nested": Format(pickled(lambda pipe: nested(transformer(pipe, ESD), "transformer.")), ("transformer",), ESD),
    "uce": Format(safetensors(lambda pipe: transformer(pipe, UCE)), ("transformer",), UCE),
    "by component": Format(pickled(lambda pipe: {"transformer": transformer(pipe)}), ("transformer",)),
    "publisher's names": Format(safetensors(original), ("transformer",)),
    "publisher's names without prefix": Format(pickled(lambda pipe: original(pipe, prefix="")), ("transformer",)),
    "all in one file": Format(safetensors(all_in_one), WHOLE),
    "pipeline folder": Format(folder(""), WHOLE),
    "pipeline folder in shards": Format(folder("", max_shard_size="60KB"), WHOLE),
    "pipeline folder in a variant": Format(folder("", variant="fp16"), WHOLE),
    "transformer folder": Format(folder("transformer"), ("transformer",)),
    "transformer folder in shards": Format(folder("transformer", max_shard_size="60KB"), ("transformer",)),
    "transformer folder with pickles": Format(folder("transformer", safe_serialization=False), ("transformer",)),
    "text encoder folder": Format(folder("text_encoder"), ("text_encoder",)),
    "second text encoder folder": Format(folder("text_encoder_2"), ("text_encoder_2",)),
    "folder of components": Format(_in_a_folder_of_its_name, ("transformer", "text_encoder_2")),
    "second text encoder": Format(safetensors(lambda pipe: encoder(pipe, "text_encoder_2")), ("text_encoder_2",)),
    "text encoders by prefix": Format(
        safetensors(lambda pipe: {k: v for name in encoders(pipe) for k, v in encoder(pipe, name, f"{name}.").items()}),
        WHOLE[1:4],
    ),
    "part with publisher's names": Format(
        safetensors(lambda pipe: original(pipe, f"^transformer_blocks.*{ESD}")),
        ("transformer",),
        f"^transformer_blocks.*{ESD}",
    ),
}
