"""ESD for a flow-matching transformer: steer the velocity away from a concept (Gandikota et al. 2023).

``python flow_esd.py --concept church --out esd-x-church.safetensors`` writes the changed weights only, under diffusers'
names, as the FLUX and Stable Diffusion 3.5 versions of the authors' code do.
"""

from __future__ import annotations

import copy
from argparse import Namespace

import torch
from diffusers import SD3Transformer2DModel
from esd import SAMPLING_STEPS, START_GUIDANCE, description, neutral_prompts, options, train
from flow_shared import CHECKPOINT, encode, joined, load, parser, predict, rows_of, trajectories
from shared import draw_prompts, save_partial


def parameters(transformer: SD3Transformer2DModel, method: str) -> dict[str, torch.nn.Parameter]:
    """Select the weights that a variant changes.

    esd-x takes every linear layer of attention, esd-x-strict the image's keys and values, esd-u all other linear layers
    of the blocks.
    """
    chosen = {}
    for name, module in transformer.named_modules():
        if isinstance(module, torch.nn.Linear) and "transformer_blocks" in name:
            attention = ".attn." in name
            strict = name.endswith(("to_k", "to_v"))
            if {"esd-x": attention, "esd-x-strict": attention and strict, "esd-u": not attention}[method]:
                chosen |= {f"{name}.{p}": weight for p, weight in module.named_parameters()}
    return chosen


def erase(args: Namespace) -> dict[str, torch.nn.Parameter]:
    """Train, and return the changed weights.

    The edited model's velocity at the concept is pulled to ``v(x, 0) - eta [v(x, c) - v(x, 0)]`` of the frozen model:
    equation 7 of the paper, which is linear in the prediction and holds for velocities as it does for noise.
    """
    pipe, generator = load(args.model), torch.Generator().manual_seed(args.seed)
    prompts = draw_prompts(args.concept, args.prompts, generator)
    bank = trajectories(pipe, prompts, generator, steps=SAMPLING_STEPS, guidance=START_GUIDANCE)
    concept, neutral = encode(pipe, prompts), encode(pipe, neutral_prompts(prompts, args))
    frozen = copy.deepcopy(pipe.transformer)
    chosen = parameters(pipe.transformer, args.method)

    def both(x: torch.Tensor, t: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return predict(frozen, x, t, joined(rows_of(concept, rows), rows_of(neutral, rows)))

    def edited(x: torch.Tensor, t: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return predict(pipe.transformer, x, t, rows_of(concept, rows))

    train(args, chosen, bank, generator, both, edited)
    return chosen


def main(argv: list[str] | None = None) -> None:
    """Erase a concept and write the weights."""
    args = options(parser(__doc__, steps=80, lr=2e-4), ("esd-x", "esd-x-strict", "esd-u")).parse_args(argv)
    save_partial(args.out, erase(args), **CHECKPOINT, **description(args))


if __name__ == "__main__":
    main()
