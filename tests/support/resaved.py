"""Save an unlearned pipeline as unlearning repositories publish theirs: one writer a format."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from pytest_unlearndiff.models.families.lookup import components_of
from pytest_unlearndiff.models.formats.compvis_names import open_clip_name, unet_names, vae_names

Tensors = dict[str, torch.Tensor]
Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]
Writer = Callable[[StableDiffusionPipeline, Path], None]


@dataclass(frozen=True)
class Format:
    """One way to save.

    Attributes:
        write: puts a pipeline, or the part that the format is for, at a path.
        carries: components it holds whole; for a UNet it may be a pattern of tensor names instead.
        trusted: whether it has to be read with --unlearndiff-trust-pickle.
    """

    write: Writer
    carries: tuple[str, ...] = ("unet",)
    part: str = ""
    trusted: bool = False

    def tensors(self, pipe: Any, component: str) -> Tensors:
        """What it carries of a component."""
        named = getattr(pipe, component).state_dict() if component in self.carries else {}
        return {key: value for key, value in named.items() if re.search(self.part, key)}

    def assert_loaded(self, pipe: Any, saved: Any, base: Any) -> None:
        """That a loaded pipeline has what was saved, and the base's tensors for all that was not, to the bit."""
        for component in components_of(base):
            carried, kept = self.tensors(saved, component), getattr(base, component).state_dict()
            for key, value in getattr(pipe, component).state_dict().items():
                assert torch.equal(value, carried.get(key, kept[key])), f"{component}.{key}"


def unet(pipe: StableDiffusionPipeline, part: str = "") -> Tensors:
    """Tensors of the UNet, or those whose names have a pattern."""
    return {key: value.clone() for key, value in pipe.unet.state_dict().items() if re.search(part, key)}


def text(pipe: StableDiffusionPipeline, prefix: str = "") -> Tensors:
    """Tensors of the text encoder, each name with a prefix."""
    flat = {key.removeprefix("text_model."): value for key, value in pipe.text_encoder.state_dict().items()}
    return {f"{prefix}{key}": value.clone() for key, value in flat.items()}


def safetensors(tensors: Callable[[StableDiffusionPipeline], Tensors], **metadata: str) -> Writer:
    """A safetensors file."""
    return lambda pipe, path: save_file(
        {key: value.contiguous() for key, value in tensors(pipe).items()}, path, metadata=metadata or None
    )


def pickled(content: Callable[[StableDiffusionPipeline], Any], **how: Any) -> Writer:
    """What ``torch.save`` writes."""
    return lambda pipe, path: torch.save(content(pipe), path, **how)


def nested(tensors: Tensors, prefix: str = "") -> dict[str, Tensors]:
    """By module, as ESD's FineTunedModel saves."""
    found: dict[str, Tensors] = {}
    for key, value in tensors.items():
        module, _, leaf = key.rpartition(".")
        found.setdefault(prefix + module, {})[leaf] = value
    return found


def adv_unlearn(pipe: StableDiffusionPipeline) -> Tensors:
    """Each weight twice, under a wrapper's name and under an alias, and the ids old versions kept."""
    aliases = {re.sub("^embeddings", "embedding", key): value for key, value in text(pipe).items()}
    ids = {"text_encoder.text_model.embeddings.position_ids": torch.arange(32)}
    return text(pipe, "text_encoder.text_model.") | aliases | ids


def compvis(pipe: StableDiffusionPipeline, part: str = "", prefix: str = "model.diffusion_model.") -> Tensors:
    """A UNet with CompVis' names."""
    names = unet_names(pipe.unet)
    return {prefix + names[key]: value for key, value in unet(pipe, part).items()}


def latent_diffusion(pipe: StableDiffusionPipeline) -> Tensors:
    """The whole of CompVis' LatentDiffusion, as old ESD saves it."""
    names = vae_names(pipe.vae)
    square = re.compile(r"attentions\.0\.to_\w+(\.0)?\.weight")
    vae = {
        f"first_stage_model.{names[key]}": value[..., None, None] if square.search(key) else value
        for key, value in pipe.vae.state_dict().items()
    }
    return compvis(pipe) | text(pipe, "cond_stage_model.transformer.text_model.") | vae | schedule(pipe)


def schedule(pipe: StableDiffusionPipeline) -> Tensors:
    """What LatentDiffusion keeps beside its networks."""
    alphas = pipe.scheduler.alphas_cumprod.clone()
    return {"alphas_cumprod": alphas, "sqrt_alphas_cumprod": alphas.sqrt(), "betas": torch.ones_like(alphas)}


def open_clip(pipe: StableDiffusionPipeline) -> Tensors:
    """A text encoder as Stable Diffusion 2.x files have it: OpenCLIP's names, one layer more, three in one."""
    found: Tensors = {}
    thirds: dict[str, dict[int, torch.Tensor]] = {}
    for key, value in text(pipe).items():
        name, third = open_clip_name(key)
        if third is None:
            found[f"cond_stage_model.model.{name}"] = value
        else:
            thirds.setdefault(f"cond_stage_model.model.{name}", {})[third] = value
    joined = {name: torch.cat([parts[i] for i in range(3)]) for name, parts in thirds.items()}
    past = f"cond_stage_model.model.transformer.resblocks.{pipe.text_encoder.config.num_hidden_layers}.ln_1.weight"
    return found | joined | {past: torch.ones(4), "cond_stage_model.model.logit_scale": torch.tensor(4.6)}


def _folder(name: str) -> Writer:
    return lambda pipe, path: getattr(pipe, name).save_pretrained(path)


def _delta_folder(pipe: StableDiffusionPipeline, path: Path) -> None:
    path.mkdir()
    torch.save({"unet": unet(pipe, r"attn2\.to_[kv]")}, path / "delta.bin")


def _sharded(pipe: StableDiffusionPipeline, path: Path) -> None:
    pipe.unet.save_pretrained(path, max_shard_size="60KB")


def _old_text_folder(pipe: StableDiffusionPipeline, path: Path) -> None:
    pipe.text_encoder.save_pretrained(path)
    (path / "model.safetensors").unlink()
    torch.save(
        text(pipe, "text_model.") | {"text_model.embeddings.position_ids": torch.arange(32)}, path / "pytorch_model.bin"
    )


ATTN2 = r"\.attn2\."
KV = r"\.attn2\.to_[kv]\."
LAYERS = r"(conv|proj|linear|fc|net|to_[qkv]|to_out|shortcut)[\w.]*(weight|bias)$"
NOT_ATTN2 = r"^(?!.*\.attn2\.).*(conv_in|conv\d|proj_in|proj_out|linear_\d|\.net\.|to_[qkv]|to_out)[\w.]*$"

FORMATS: dict[str, Format] = {
    "pipeline folder": Format(lambda pipe, path: pipe.save_pretrained(path), ("unet", "text_encoder", "vae")),
    "pipeline folder with pickles": Format(
        lambda pipe, path: pipe.save_pretrained(path, safe_serialization=False), ("unet", "text_encoder", "vae")
    ),
    "pipeline folder in a variant": Format(
        lambda pipe, path: pipe.save_pretrained(path, variant="fp16"), ("unet", "text_encoder", "vae")
    ),
    "unet folder": Format(_folder("unet")),
    "unet folder in shards": Format(_sharded),
    "text encoder folder": Format(_folder("text_encoder"), ("text_encoder",)),
    "text encoder folder of old": Format(_old_text_folder, ("text_encoder",)),
    "unet safetensors": Format(safetensors(unet)),
    "unet pt": Format(pickled(unet)),
    "unet pt of old": Format(pickled(unet, _use_new_zipfile_serialization=False)),
    "unet in a wrapper": Format(pickled(lambda pipe: {"state_dict": unet(pipe), "epoch": 3})),
    "unet with prefix": Format(pickled(lambda pipe: {f"unet.{key}": value for key, value in unet(pipe).items()})),
    "unet of parallel training": Format(
        pickled(lambda pipe: {f"module.{key}": value for key, value in unet(pipe).items()})
    ),
    "esd-x": Format(safetensors(lambda pipe: unet(pipe, ATTN2), erase_concept="church"), part=ATTN2),
    "esd-x-strict, uce": Format(safetensors(lambda pipe: unet(pipe, KV)), part=KV),
    "esd-u": Format(safetensors(lambda pipe: unet(pipe, NOT_ATTN2)), part=NOT_ATTN2),
    "esd nested": Format(pickled(lambda pipe: nested(unet(pipe, ATTN2), "unet.")), part=ATTN2),
    "esd nested by component": Format(pickled(lambda pipe: {"unet": nested(unet(pipe, ATTN2))}), part=ATTN2),
    "ac delta.bin": Format(pickled(lambda pipe: {"unet": unet(pipe, KV)}), part=KV),
    "ac delta.bin with text encoder": Format(
        pickled(lambda pipe: {"unet": unet(pipe), "text_encoder": text(pipe, "text_model.")}),
        ("unet", "text_encoder"),
    ),
    "ac folder": Format(_delta_folder, part=KV),
    "ac ckpt": Format(pickled(lambda pipe: {"state_dict": compvis(pipe, KV) | {"embed": torch.ones(1, 8)}}), part=KV),
    "text encoder, new names": Format(safetensors(text), ("text_encoder",)),
    "text encoder, old names": Format(safetensors(lambda pipe: text(pipe, "text_model.")), ("text_encoder",)),
    "advunlearn": Format(pickled(adv_unlearn), ("text_encoder",)),
    "compvis unet": Format(pickled(compvis)),
    "compvis unet without prefix": Format(pickled(lambda pipe: compvis(pipe, prefix=""))),
    "compvis partial": Format(safetensors(lambda pipe: compvis(pipe, ATTN2)), part=ATTN2),
    "compvis whole": Format(pickled(latent_diffusion), ("unet", "text_encoder", "vae")),
    "single file": Format(safetensors(latent_diffusion), ("unet", "text_encoder", "vae")),
    "compvis 2.x": Format(safetensors(lambda pipe: compvis(pipe) | open_clip(pipe)), ("unet", "text_encoder")),
    "lightning ckpt": Format(
        pickled(lambda pipe: {"state_dict": latent_diffusion(pipe), "callbacks": argparse.Namespace(a=1)}),
        ("unet", "text_encoder", "vae"),
        trusted=True,
    ),
    "pickled module": Format(pickled(lambda pipe: pipe.unet), trusted=True),
}


def low_rank(pipe: StableDiffusionPipeline, seed: int, rank: int = 1) -> Pairs:
    """Small random changes, up and down, for every linear and convolutional layer in the UNet's transformers."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, layer in pipe.unet.named_modules():
        if ".attentions." in name and isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)):
            rows, columns, *window = layer.weight.shape
            up = torch.randn((rows, rank, *(1 for _ in window)), generator=generator) * 0.1
            found[name] = up, torch.randn((rank, columns, *window), generator=generator) * 0.1
    return found


def kohya(pairs: Pairs, alpha: float) -> Tensors:
    """LoRA with kohya's names."""
    found = {}
    for name, (up, down) in pairs.items():
        layer = "lora_unet_" + name.replace(".", "_")
        found |= {f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}
        found[f"{layer}.alpha"] = torch.tensor(alpha)
    return found


def peft(pairs: Pairs, prefix: str) -> Tensors:
    """LoRA with PEFT's names."""
    ups = {f"{prefix}{name}.lora_B.weight": up for name, (up, _) in pairs.items()}
    return ups | {f"{prefix}{name}.lora_A.weight": down for name, (_, down) in pairs.items()}


def erasers(base: StableDiffusionPipeline, rank: int = 3) -> dict[str, Tensors]:
    """Receler's erasers for every block of a tiny UNet."""
    generator = torch.Generator().manual_seed(3)
    places = [name for name, module in base.unet.named_modules() if name.endswith(".transformer_blocks.0")]
    shapes = {"down.weight": (rank, 32), "down.bias": (rank,), "up.weight": (32, rank), "up.bias": (32,)}
    return {
        place.removesuffix(".transformer_blocks.0"): {
            part: torch.randn(shape, generator=generator) for part, shape in shapes.items()
        }
        for place in places
    }


def save_receler(path: Path, tensors: dict[str, Tensors], rank: int) -> None:
    """Receler's folder."""
    path.mkdir()
    torch.save(tensors, path / "eraser_weights.pt")
    (path / "eraser_config.json").write_text(json.dumps({"eraser_type": "adapter", "eraser_rank": rank}))
