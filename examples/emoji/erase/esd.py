"""ESD: fine-tune the UNet to steer away from a concept (Gandikota et al. 2023, arXiv 2303.07345).

``python esd.py --concept church --method esd-x --out esd-x-church.safetensors`` writes the changed weights only, under
diffusers' names, as the authors publish theirs.
"""

from __future__ import annotations

import copy
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from shared import (
    Bank,
    cross_attention,
    draw_prompts,
    encode,
    load,
    parser,
    predict,
    progress,
    save_partial,
    train_only,
    trajectories,
)

START_GUIDANCE = 3.0
SAMPLING_STEPS = 20


def parameters(unet: UNet2DConditionModel, method: str) -> dict[str, torch.nn.Parameter]:
    """The weights a variant may change (section 4.1): cross-attention for ESD-x, every other layer for ESD-u."""
    if method == "esd-x":
        return cross_attention(unet)
    layers = {n: m for n, m in unet.named_modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)}
    return {f"{n}.{p}": w for n, m in layers.items() if "attn2" not in n for p, w in m.named_parameters()}


def erase(args: Namespace) -> dict[str, torch.nn.Parameter]:
    """Train, and return the changed weights.

    The edited model's prediction at the concept is pulled to ``e(x, 0) - eta [e(x, c) - e(x, 0)]`` of the frozen model
    (section 4, equation 7). x_t comes from partial trajectories of the concept's prompts; they are the frozen
    model's and not, as in the paper, the edited model's, so that they can be drawn once.
    """
    pipe, generator = load(args.model), torch.Generator().manual_seed(args.seed)
    prompts = draw_prompts(args.concept, args.prompts, generator)
    bank = trajectories(pipe, prompts, generator, steps=SAMPLING_STEPS, guidance=START_GUIDANCE)
    states, neutral_states = encode(pipe, prompts), encode(pipe, neutral_prompts(prompts, args))
    frozen = copy.deepcopy(pipe.unet)
    chosen = parameters(pipe.unet, args.method)

    def both(x: torch.Tensor, t: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return predict(frozen, x, t, torch.cat([states[rows], neutral_states[rows]]))

    train(args, chosen, bank, generator, both, lambda x, t, rows: predict(pipe.unet, x, t, states[rows]))
    return chosen


def neutral_prompts(prompts: Sequence[str], args: Namespace) -> list[str]:
    """Return the prompts that "0" stands for.

    It is the empty prompt in the paper. With a guide word it is the same prompt naming that word, which leaves the
    style and the background of the sentence alone.
    """
    return [prompt.replace(args.concept, args.erase_from) if args.erase_from else "" for prompt in prompts]


Prediction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Predicts at latents and timesteps, for the bank's prompts with these rows."""


def train(
    args: Namespace,
    chosen: dict[str, torch.nn.Parameter],
    bank: Bank,
    generator: torch.Generator,
    both: Prediction,
    edited: Prediction,
) -> None:
    """Pull a network's predictions at the concept away from it (equation 7).

    Args:
        args: options of ``options``.
        chosen: weights to train.
        bank: latents on the way to pictures.
        generator: draws them.
        both: the frozen network's predictions at twice as many latents, for the concept and then for "0".
        edited: the edited network's, for the concept.
    """
    optimiser = train_only(chosen, args.lr)
    for _ in (bar := progress(args, args.method)):
        x, t, rows = bank.draw(args.batch, generator)
        with torch.no_grad():
            concept, free = both(x.repeat(2, 1, 1, 1), t.repeat(2), rows).chunk(2)
        loss = F.mse_loss(edited(x, t, rows), free - args.negative_guidance * (concept - free))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)


def options(p: ArgumentParser, methods: Sequence[str]) -> ArgumentParser:
    """Add ESD's options to those of every eraser; the first method is the default."""
    p.add_argument("--method", choices=methods, default=methods[0], help="which layers change")
    p.add_argument("--negative-guidance", type=float, default=1.0, help="eta: how far beyond the neutral prompt")
    p.add_argument("--erase-from", default="", help="word that stands for the concept in the neutral prompt")
    p.add_argument("--prompts", type=int, default=32, help="pictures whose trajectories are trained on")
    return p


def description(args: Namespace) -> dict[str, Any]:
    """Return what a checkpoint's metadata says of its making."""
    return {
        "base_model_id": args.model.name,
        "train_method": args.method,
        "erase_concept": args.concept,
        "erase_from": args.erase_from,
        "negative_guidance": args.negative_guidance,
        "guidance_scale": START_GUIDANCE,
        "num_inference_steps": SAMPLING_STEPS,
        "batch_size": args.batch,
        "iterations": args.steps,
        "lr": args.lr,
    }


def main(argv: list[str] | None = None) -> None:
    """Erase a concept and write the weights."""
    args = options(parser(__doc__, steps=80, lr=1e-4), ("esd-x", "esd-u")).parse_args(argv)
    save_partial(args.out, erase(args), **description(args))


if __name__ == "__main__":
    main()
