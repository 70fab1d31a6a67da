"""ESD: fine-tune the UNet to steer away from a concept (Gandikota et al. 2023, arXiv 2303.07345).

``python esd.py --concept church --method esd-x --out esd-x-church.safetensors`` writes the changed weights only, under
diffusers' names, as the authors publish theirs.
"""

from __future__ import annotations

import copy
from argparse import Namespace

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from shared import (
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
    # "0" is the empty prompt in the paper. With a guide word it is the same prompt naming that word, which leaves
    # the style and the background of the sentence alone.
    neutral = [p.replace(args.concept, args.erase_from) if args.erase_from else "" for p in prompts]
    bank = trajectories(pipe, prompts, generator, steps=SAMPLING_STEPS, guidance=START_GUIDANCE)
    states, neutral_states = encode(pipe, prompts), encode(pipe, neutral)
    frozen = copy.deepcopy(pipe.unet)
    chosen = parameters(pipe.unet, args.method)
    optimiser = train_only(chosen, args.lr)
    for _ in (bar := progress(args, args.method)):
        x, t, rows = bank.draw(args.batch, generator)
        with torch.no_grad():
            both = torch.cat([states[rows], neutral_states[rows]])
            concept, free = predict(frozen, x.repeat(2, 1, 1, 1), t.repeat(2), both).chunk(2)
        loss = F.mse_loss(predict(pipe.unet, x, t, states[rows]), free - args.negative_guidance * (concept - free))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
    return chosen


def main(argv: list[str] | None = None) -> None:
    """Erase a concept and write the weights."""
    p = parser(__doc__, steps=80, lr=1e-4)
    p.add_argument("--method", choices=("esd-x", "esd-u"), default="esd-x", help="which layers change")
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
