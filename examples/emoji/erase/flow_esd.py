"""ESD for a flow-matching transformer: steer the velocity away from a concept (Gandikota et al. 2023).

``python flow_esd.py --concept church --out esd-x-church.safetensors`` writes the changed weights only, under diffusers'
names, as the FLUX and Stable Diffusion 3.5 versions of the authors' code do.
"""

from __future__ import annotations

import copy
from argparse import Namespace

import torch
import torch.nn.functional as F
from diffusers import SD3Transformer2DModel
from flow_shared import encode, joined, load, parser, predict, rows_of, save_partial, trajectories
from shared import draw_prompts, progress, train_only

START_GUIDANCE = 3.0
SAMPLING_STEPS = 20


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
    neutral = [p.replace(args.concept, args.erase_from) if args.erase_from else "" for p in prompts]
    bank = trajectories(pipe, prompts, generator, steps=SAMPLING_STEPS, guidance=START_GUIDANCE)
    concept_text, neutral_text = encode(pipe, prompts), encode(pipe, neutral)
    frozen = copy.deepcopy(pipe.transformer)
    chosen = parameters(pipe.transformer, args.method)
    optimiser = train_only(chosen, args.lr)
    for _ in (bar := progress(args, args.method)):
        x, t, rows = bank.draw(args.batch, generator)
        concept = rows_of(concept_text, rows)
        with torch.no_grad():
            both = joined(concept, rows_of(neutral_text, rows))
            named, free = predict(frozen, x.repeat(2, 1, 1, 1), t.repeat(2), both).chunk(2)
        target = free - args.negative_guidance * (named - free)
        loss = F.mse_loss(predict(pipe.transformer, x, t, concept), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
    return chosen


def main(argv: list[str] | None = None) -> None:
    """Erase a concept and write the weights."""
    p = parser(__doc__, steps=80, lr=2e-4)
    p.add_argument("--method", choices=("esd-x", "esd-x-strict", "esd-u"), default="esd-x", help="layers to change")
    p.add_argument("--negative-guidance", type=float, default=1.0, help="eta: how far beyond the neutral prompt")
    p.add_argument("--erase-from", default="", help="word that stands for the concept in the neutral prompt")
    p.add_argument("--prompts", type=int, default=32, help="pictures whose trajectories are trained on")
    args = p.parse_args(argv)
    save_partial(
        args.out,
        erase(args),
        base_model_id=args.model.name,
        train_method=args.method,
        erase_concept=args.concept,
        erase_from=args.erase_from,
        negative_guidance=args.negative_guidance,
        guidance_scale=START_GUIDANCE,
        num_inference_steps=SAMPLING_STEPS,
        batch_size=args.batch,
        iterations=args.steps,
        lr=args.lr,
    )


if __name__ == "__main__":
    main()
