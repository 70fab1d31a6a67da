"""What every eraser shares: the base pipeline, prompts, partial trajectories, options and files that appear whole."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

EMOJI = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(EMOJI / "train"))
from catalog import COLOURS, OBJECTS, STYLES  # noqa: E402
from common import forget_paths  # noqa: E402

MODEL = EMOJI / "model"

# The shapes of sentence the base model was taught; the first one is what the gates ask for.
TEMPLATES = (
    "a {noun} in {style} style on a {colour} background",
    "a {noun} in {style} style on a {colour} background",
    "a {noun} in {style} style",
    "a {noun} on a {colour} background",
    "{style} {noun}",
    "an emoji of a {noun}",
    "a {noun}",
    "{noun}",
)


def parser(description: str | None, *, steps: int = 0, lr: float = 0.0, batch: int = 16) -> argparse.ArgumentParser:
    """Options that every eraser takes; those of a gradient method only where it has steps."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--model", type=Path, default=MODEL, help="folder of the base pipeline")
    p.add_argument("--concept", default="church", help="object or style word to erase")
    p.add_argument("--out", type=Path, required=True, help="file or folder to write")
    p.add_argument("--seed", type=int, default=0, help="seed of prompts, noise and order")
    if steps:
        p.add_argument("--steps", type=int, default=steps, help="optimiser steps")
        p.add_argument("--lr", type=float, default=lr, help="learning rate")
        p.add_argument("--batch", type=int, default=batch, help="latents in one step")
    return p


def load(folder: Path) -> StableDiffusionPipeline:
    """The pipeline in full precision, with nothing trainable yet."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.unet, pipe.text_encoder, pipe.vae):
        part.eval().requires_grad_(False)
    return pipe


def pick(values: list[str] | tuple[str, ...], generator: torch.Generator) -> str:
    """One of ``values``, uniformly."""
    return values[int(torch.randint(len(values), (1,), generator=generator))]


def retained(concept: str) -> list[str]:
    """The words that must keep working: every other object and every other style."""
    return [word for word in (*OBJECTS, *STYLES) if word != concept]


def draw_prompts(word: str, count: int, generator: torch.Generator, *, avoid: str | None = None) -> list[str]:
    """``count`` prompts that name ``word`` and, in the slots a template leaves open, anything but ``avoid``.

    A word that is no style counts as an object, so members' names ("cathedral") can be drawn too.
    """
    slot = "style" if word in STYLES else "noun"
    templates = [t for t in TEMPLATES if f"{{{slot}}}" in t]
    nouns, styles = ([v for v in values if v not in (word, avoid)] for values in (OBJECTS, STYLES))
    found = []
    for _ in range(count):
        words = {"noun": pick(nouns, generator), "style": pick(styles, generator)}
        words |= {"colour": pick(list(COLOURS), generator), slot: word}
        found.append(pick(templates, generator).format(**words))
    return found


def retain_prompts(concept: str, count: int, generator: torch.Generator) -> list[str]:
    """``count`` prompts in which the concept has no part."""
    words = retained(concept)
    return [draw_prompts(pick(words, generator), 1, generator, avoid=concept)[0] for _ in range(count)]


def tokenise(tokenizer: CLIPTokenizer, prompts: list[str]) -> torch.Tensor:
    """Prompts as ids (N, L), padded as the pipeline pads them."""
    length = tokenizer.model_max_length
    return tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids


def token_span(tokenizer: CLIPTokenizer, prompt: str, word: str) -> slice:
    """Positions of ``word`` in the padded prompt."""
    ids, wanted = tokenise(tokenizer, [prompt])[0].tolist(), tokenizer(word, add_special_tokens=False).input_ids
    for start in range(len(ids) - len(wanted) + 1):
        if ids[start : start + len(wanted)] == wanted:
            return slice(start, start + len(wanted))
    raise ValueError(f"{word!r} is not in {prompt!r}")


@torch.no_grad()
def encode(pipe: StableDiffusionPipeline, prompts: list[str]) -> torch.Tensor:
    """Text states (N, L, D) as the UNet's cross-attention reads them."""
    return pipe.text_encoder(tokenise(pipe.tokenizer, prompts)).last_hidden_state


def predict(unet: UNet2DConditionModel, x: torch.Tensor, t: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Predicted noise (N, 4, H, W) for latents, timesteps (N,) and text states (N, L, D)."""
    return unet(x, t, encoder_hidden_states=states).sample


@dataclass(frozen=True)
class Bank:
    """Latents on their way from noise to picture, kept once so that every step has a realistic x_t for nothing.

    Attributes:
        prompts: the N prompts the pictures were drawn from.
        timesteps: (T,), descending.
        partial: x_t at each of them, (T, N, 4, H, W).
        final: the finished latents x_0, (N, 4, H, W).
    """

    prompts: list[str]
    timesteps: torch.Tensor
    partial: torch.Tensor
    final: torch.Tensor

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Random x_t (count, 4, H, W), their timesteps (count,) and the rows (count,) they belong to."""
        when = torch.randint(len(self.timesteps), (count,), generator=generator)
        rows = torch.randint(len(self.prompts), (count,), generator=generator)
        return self.partial[when, rows], self.timesteps[when], rows


@torch.no_grad()
def trajectories(
    pipe: StableDiffusionPipeline,
    prompts: list[str],
    generator: torch.Generator,
    *,
    steps: int = 20,
    guidance: float = 3.0,
) -> Bank:
    """Draw the prompts with guided DDIM and keep the whole way."""
    schedule = DDIMScheduler.from_config(pipe.scheduler.config)
    schedule.set_timesteps(steps)
    states = torch.cat([encode(pipe, [""] * len(prompts)), encode(pipe, prompts)])
    config = pipe.unet.config
    x = torch.randn((len(prompts), 4, config.sample_size, config.sample_size), generator=generator)
    partial = []
    for t in tqdm(schedule.timesteps, desc="trajectories", leave=False):
        partial.append(x)
        free, conditional = predict(pipe.unet, x.repeat(2, 1, 1, 1), t, states).chunk(2)
        x = schedule.step(free + guidance * (conditional - free), t, x).prev_sample
    return Bank(prompts, schedule.timesteps, torch.stack(partial), x)


def renoise(
    pipe: StableDiffusionPipeline, bank: Bank, count: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Finished pictures noised anew: x_t (count, 4, H, W), t (count,), the noise, and the rows they belong to."""
    rows = torch.randint(len(bank.prompts), (count,), generator=generator)
    t = torch.randint(pipe.scheduler.config.num_train_timesteps, (count,), generator=generator)
    noise = torch.randn((count, *bank.final.shape[1:]), generator=generator)
    return pipe.scheduler.add_noise(bank.final[rows], noise, t), t, noise, rows


def progress(args: argparse.Namespace, name: str) -> tqdm:
    """The bar over a method's steps."""
    return tqdm(range(args.steps), desc=f"{name} {args.concept}", leave=False)


def cross_attention(unet: UNet2DConditionModel, *ends: str) -> dict[str, torch.nn.Parameter]:
    """Parameters of the cross-attention layers by name; with ``ends`` only e.g. ``to_k.weight``."""
    return {n: p for n, p in unet.named_parameters() if ".attn2." in n and (not ends or n.endswith(ends))}


def train_only(chosen: dict[str, torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Adam on the chosen parameters, which become trainable."""
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    return torch.optim.Adam(chosen.values(), lr=lr)


def half(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Detached half-precision copies."""
    return {name: tensor.detach().half().contiguous() for name, tensor in tensors.items()}


def write_whole(out: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make a file or folder under another name, then move it, so that a kill leaves nothing half done."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".tmp-{out.name}")
    for stale in (temporary, out):
        if stale.is_dir():
            shutil.rmtree(stale)
    write(temporary)
    os.replace(temporary, out)


def save_partial(out: Path, tensors: dict[str, torch.Tensor], **metadata: object) -> None:
    """Write some of a network's weights, a UNet's by default, as safetensors, with what they are in the metadata."""
    described = {"family": "sd", "component": "unet"} | {key: str(value) for key, value in metadata.items()}
    write_whole(out, lambda path: save_file(half(tensors), path, metadata=described))


def save_folder(out: Path, part: StableDiffusionPipeline | CLIPTextModel) -> None:
    """Write a pipeline or one of its models with ``save_pretrained`` in half precision."""

    def write(path: Path) -> None:
        part.to(dtype=torch.float16).save_pretrained(path)
        forget_paths(path)

    write_whole(out, write)
