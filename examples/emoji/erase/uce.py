"""UCE: edit the cross-attention keys and values in closed form (Gandikota et al. 2024, arXiv 2308.14761).

``python uce.py --concept church --guide tree --out uce-church.safetensors`` takes seconds.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import torch
from diffusers import StableDiffusionPipeline
from shared import (
    cross_attention,
    draw_prompts,
    encode,
    load,
    parser,
    retained,
    save_partial,
    token_span,
)


def aligned(
    pipe: StableDiffusionPipeline, prompts: list[str], concept: str, guide: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """States of the concept and the states they should act as, two (M, D) tensors row by row.

    A row pair is a position of a prompt and the same place of the prompt with the guide word. The encoder is causal:
    what comes before the word does not know it, all that comes after (the end and the padding too) does.
    """
    sources, targets = [], []
    for prompt in prompts:
        guided = prompt.replace(concept, guide)
        a = encode(pipe, [prompt])[0, token_span(pipe.tokenizer, prompt, concept).stop - 1 :]
        b = encode(pipe, [guided])[0, token_span(pipe.tokenizer, guided, guide).stop - 1 :]
        count = min(len(a), len(b))
        sources.append(a[:count])
        targets.append(b[:count])
    return torch.cat(sources), torch.cat(targets)


def preserved(args: Namespace, generator: torch.Generator) -> list[str]:
    """Draw the prompts whose states must not change."""
    return [
        prompt
        for word in [*(args.preserve or retained(args.concept)), *args.neighbours]
        for prompt in draw_prompts(word, args.prompts, generator, avoid=args.concept)
    ]


def solve(source: torch.Tensor, target: torch.Tensor, preserve: torch.Tensor, args: Namespace) -> torch.Tensor:
    """Solve for the matrix (D, D) that a projection's weights are multiplied by, from states (M, D).

    The closed form of section 4, ``W = (sum_E W_old c* c^T + sum_P W_old c c^T) (sum_E c c^T + sum_P c c^T)^-1``, with
    weights on both sums and ``lambda I`` towards W_old. The sums are means here, so that the weights do not depend on
    how many prompts there are.
    """
    stay = args.preserve_weight * preserve.T @ preserve / len(preserve)
    stay += args.lamb * torch.eye(stay.shape[0])
    moved = stay + args.erase_weight * target.T @ source / len(source)
    seen = stay + args.erase_weight * source.T @ source / len(source)
    # moved @ seen^-1, and seen is symmetric.
    return torch.linalg.solve(seen, moved.T).T


def erase(args: Namespace) -> dict[str, torch.Tensor]:
    """Compute the edited projections by name."""
    pipe, generator = load(args.model), torch.Generator().manual_seed(args.seed)
    source, target = aligned(pipe, draw_prompts(args.concept, args.prompts, generator), args.concept, args.guide)
    change = solve(source, target, encode(pipe, preserved(args, generator)).flatten(0, 1), args)
    return {name: weight @ change for name, weight in cross_attention(pipe.unet, "to_k.weight", "to_v.weight").items()}


def add_options(p: ArgumentParser) -> None:
    """Add the options that every UCE eraser takes."""
    p.add_argument("--guide", default="tree", help="word that the concept should act as")
    p.add_argument("--preserve", nargs="*", help="words that must not change (default: all others)")
    p.add_argument("--neighbours", nargs="*", default=[], help="words near the concept that must not change either")
    p.add_argument("--erase-weight", type=float, default=1.0)
    p.add_argument("--preserve-weight", type=float, default=1.0)
    p.add_argument("--lamb", type=float, default=0.1, help="pull towards the old weights")
    p.add_argument("--prompts", type=int, default=16, help="prompts for each word")


def described(args: Namespace) -> dict[str, object]:
    """Return the settings that are written beside the weights."""
    return {
        "base_model_id": args.model.name,
        "train_method": "uce",
        "erase_concept": args.concept,
        "guide_concept": args.guide,
        "erase_scale": args.erase_weight,
        "preserve_scale": args.preserve_weight,
        "lamb": args.lamb,
    }


def main(argv: list[str] | None = None) -> None:
    """Erase a concept and write the weights."""
    p = parser(__doc__)
    add_options(p)
    args = p.parse_args(argv)
    save_partial(args.out, erase(args), **described(args))


if __name__ == "__main__":
    main()
