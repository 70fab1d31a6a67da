"""Measure what a victim of the flow-matching pipeline still draws: ``python flow_check.py VICTIM --concept church``.

Prints what ``check.py`` prints. VICTIM is a file that the flow erasers write, a pipeline folder, or ``base``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import check
import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline
from flow_shared import FLOW, T5_LENGTH, load
from safetensors.torch import load_file
from tqdm import tqdm

STEPS = 28
GUIDANCE = 4.0


def load_victim(path: Path, base: Path) -> StableDiffusion3Pipeline:
    """Load the base pipeline with the victim's weights in it; a weight that the base lacks is an error."""
    if (path / "model_index.json").exists():
        return load(path)
    pipe = load(base)
    if str(path) == "base":
        return pipe
    tensors = load_file(path)
    if any(name.endswith("lora_A.weight") for name in tensors):
        pipe.load_lora_weights(tensors)
        pipe.fuse_lora(components=["transformer"])
    elif unknown := pipe.transformer.load_state_dict(tensors, strict=False).unexpected_keys:
        raise ValueError(f"{path}: {unknown[:3]} are not weights of {base}")
    return pipe


@torch.no_grad()
def draw_victim(args: argparse.Namespace, prompts: list[str]) -> torch.Tensor:
    """Draw pictures (N, 3, H, W) in [-1, 1], each from its own seed."""
    pipe = load_victim(args.victim, args.model)
    pictures = []
    for first in tqdm(range(0, len(prompts), check.BATCH), desc="draw", leave=False):
        part = prompts[first : first + check.BATCH]
        drawn = pipe(
            part,
            generator=[torch.Generator().manual_seed(args.seed + first + n) for n in range(len(part))],
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            max_sequence_length=T5_LENGTH,
            output_type="np",
        ).images
        pictures.append(torch.from_numpy(np.round(drawn * 255) / 127.5 - 1).permute(0, 3, 1, 2).float())
    return torch.cat(pictures)


def kept(victim: Path, concept: str, each: int) -> float:
    """Measure the mean share of pictures of the other words in which the judges still see them."""
    return check.kept(victim, concept, each, FLOW, draw_victim)


def main(argv: list[str] | None = None) -> None:
    """Draw, judge and print."""
    p = check.options()
    p.set_defaults(model=FLOW)
    args = p.parse_args(argv)
    shares = check.rates(args, draw_victim)
    check.show(args, shares)


if __name__ == "__main__":
    main()
