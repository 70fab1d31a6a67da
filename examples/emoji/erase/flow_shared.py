"""Load the flow-matching pipeline, encode prompts and sample trajectories: shared by the erasers of ``../flow``."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from shared import EMOJI, Bank
from shared import parser as eraser_parser
from tqdm import tqdm

FLOW = EMOJI / "flow"
T5_LENGTH = 32
"""Length of T5's texts that the pipeline was trained with."""
CHECKPOINT = {"family": "sd3", "component": "transformer"}
"""Metadata of files with some of the transformer's weights."""

Conditioning = tuple[torch.Tensor, torch.Tensor]


def parser(description: str | None, *, steps: int = 0, lr: float = 0.0, batch: int = 16) -> argparse.ArgumentParser:
    """Build the options of an eraser, with the flow-matching pipeline as the base."""
    p = eraser_parser(description, steps=steps, lr=lr, batch=batch)
    p.set_defaults(model=FLOW)
    return p


def load(folder: Path) -> StableDiffusion3Pipeline:
    """Load the pipeline in full precision, with nothing trainable yet."""
    pipe = StableDiffusion3Pipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return pipe


@torch.no_grad()
def encode(pipe: StableDiffusion3Pipeline, prompts: list[str]) -> Conditioning:
    """Encode prompts as the pipeline's call does: text states (N, L, D) and pooled states (N, P)."""
    states, _, pooled, _ = pipe.encode_prompt(
        prompts, None, None, do_classifier_free_guidance=False, max_sequence_length=T5_LENGTH
    )
    return states, pooled


def rows_of(conditioning: Conditioning, rows: torch.Tensor) -> Conditioning:
    """Select rows of text states and pooled states."""
    return conditioning[0][rows], conditioning[1][rows]


def joined(*parts: Conditioning) -> Conditioning:
    """Concatenate conditionings."""
    return torch.cat([states for states, _ in parts]), torch.cat([pooled for _, pooled in parts])


def predict(
    transformer: SD3Transformer2DModel, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning
) -> torch.Tensor:
    """Predict the velocity (N, 4, H, W) of latents at timesteps (N,), which are 1000 sigma."""
    states, pooled = conditioning
    return transformer(x, encoder_hidden_states=states, pooled_projections=pooled, timestep=t).sample


@torch.no_grad()
def trajectories(
    pipe: StableDiffusion3Pipeline,
    prompts: list[str],
    generator: torch.Generator,
    *,
    steps: int = 20,
    guidance: float = 3.0,
) -> Bank:
    """Draw the prompts with guided Euler steps and keep every intermediate latent."""
    schedule = type(pipe.scheduler).from_config(pipe.scheduler.config)
    schedule.set_timesteps(steps)
    conditioning = joined(encode(pipe, [""] * len(prompts)), encode(pipe, prompts))
    config = pipe.transformer.config
    x = torch.randn((len(prompts), config.in_channels, config.sample_size, config.sample_size), generator=generator)
    partial = []
    for t in tqdm(schedule.timesteps, desc="trajectories", leave=False):
        partial.append(x)
        free, conditional = predict(pipe.transformer, x.repeat(2, 1, 1, 1), t.expand(2 * len(x)), conditioning).chunk(2)
        x = schedule.step(free + guidance * (conditional - free), t, x, return_dict=False)[0]
    return Bank(prompts, schedule.timesteps, torch.stack(partial), x)


def renoise(
    bank: Bank, count: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise finished pictures anew: x_t (count, 4, H, W), timesteps (count,), the velocity, and their rows."""
    rows = torch.randint(len(bank.prompts), (count,), generator=generator)
    sigma = torch.randn(count, generator=generator).sigmoid()
    noise = torch.randn((count, *bank.final.shape[1:]), generator=generator)
    share, final = sigma[:, None, None, None], bank.final[rows]
    return (1 - share) * final + share * noise, 1000 * sigma, noise - final, rows
