"""Concept ablation, model-based variant (Kumari et al. 2023, arXiv 2303.13516).

``python ac.py --concept church --anchor tree --out ac-church`` writes ``delta.bin`` with the changed keys and values.
"""

from __future__ import annotations

from argparse import Namespace

import torch
from shared import (
    cross_attention,
    draw_prompts,
    encode,
    half,
    load,
    parser,
    predict,
    progress,
    renoise,
    train_only,
    trajectories,
    write_whole,
)


def erase(args: Namespace) -> dict[str, torch.nn.Parameter]:
    """Train, and return the changed weights.

    The prediction at the target prompt c* is pulled to the model's own (gradient stopped) at the anchor prompt c, on
    noised pictures of the anchor (section 3.2, model-based). The usual diffusion loss on the anchor's pictures keeps
    the anchor as it was (section 3.2, "regularization loss").
    """
    pipe, generator = load(args.model), torch.Generator().manual_seed(args.seed)
    anchors = draw_prompts(args.anchor, args.prompts, generator, avoid=args.concept)
    bank = trajectories(pipe, anchors, generator)
    anchor_states = encode(pipe, anchors)
    target_states = encode(pipe, [prompt.replace(args.anchor, args.concept) for prompt in anchors])
    chosen = cross_attention(pipe.unet, "to_k.weight", "to_v.weight")
    optimiser = train_only(chosen, args.lr)
    for _ in (bar := progress(args, "ac")):
        x, t, noise, rows = renoise(pipe, bank, args.batch, generator)
        both = torch.cat([target_states[rows], anchor_states[rows]])
        target, anchor = predict(pipe.unet, x.repeat(2, 1, 1, 1), t.repeat(2), both).chunk(2)
        ablation = (target - anchor.detach()).square().mean()
        loss = ablation + args.regularisation * (anchor - noise).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        bar.set_postfix(ablation=f"{ablation.item():.4f}", refresh=False)
    return chosen


def main(argv: list[str] | None = None) -> None:
    """Erase a concept and write ``delta.bin`` in the folder ``--out``."""
    p = parser(__doc__, steps=80, lr=2e-4)
    p.add_argument("--anchor", default="tree", help="word that the concept should become")
    p.add_argument("--regularisation", type=float, default=1.0, help="weight of the diffusion loss on the anchor")
    p.add_argument("--prompts", type=int, default=32, help="anchor pictures")
    args = p.parse_args(argv)
    weights = {"unet": half(erase(args))}
    write_whole(args.out / "delta.bin", lambda path: torch.save(weights, path))


if __name__ == "__main__":
    main()
