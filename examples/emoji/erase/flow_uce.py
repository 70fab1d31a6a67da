"""UCE for a flow-matching transformer: edit its two text projections in closed form (Gandikota et al. 2024).

``python flow_uce.py --concept church --guide tree --out uce-church.safetensors`` writes ``context_embedder.weight`` and
``time_text_embed.text_embedder.linear_1.weight``, as the authors' script for FLUX does.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from flow_shared import encode, load, parser, save_partial
from shared import draw_prompts, retained, token_span

CONTEXT = "context_embedder.weight"
POOLED = "time_text_embed.text_embedder.linear_1.weight"


def paired_positions(tokenizer: Any, prompt: str, concept: str, guided: str, guide: str) -> list[tuple[int, int]]:
    """Pair the positions of a prompt with those of the prompt that names the guide word, padding included."""
    source, target = token_span(tokenizer, prompt, concept), token_span(tokenizer, guided, guide)
    after = tokenizer.model_max_length - max(source.stop, target.stop)
    before = [(n, n) for n in range(source.start)]
    return [*before, *((source.stop - 1 + n, target.stop - 1 + n) for n in range(after + 1))]


def aligned(
    pipe: StableDiffusion3Pipeline, prompts: list[str], concept: str, guide: str
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Pair the inputs of both projections at the concept with those they should act as, row by row.

    The text states are those of the CLIP-style encoders, side by side, followed by those of T5.
    """
    sources, targets = [], []
    guided = [prompt.replace(concept, guide) for prompt in prompts]
    (states, pooled), (guided_states, guided_pooled) = encode(pipe, prompts), encode(pipe, guided)
    for n, (prompt, other) in enumerate(zip(prompts, guided, strict=True)):
        clip = paired_positions(pipe.tokenizer, prompt, concept, other, guide)
        t5 = paired_positions(pipe.tokenizer_3, prompt, concept, other, guide)
        offset = pipe.tokenizer.model_max_length
        pairs = [*clip, *((a + offset, b + offset) for a, b in t5)]
        sources.append(states[n, [a for a, _ in pairs]])
        targets.append(guided_states[n, [b for _, b in pairs]])
    return {CONTEXT: (torch.cat(sources), torch.cat(targets)), POOLED: (pooled, guided_pooled)}


def edit(
    weight: torch.Tensor, source: torch.Tensor, target: torch.Tensor, preserve: torch.Tensor, args: Namespace
) -> torch.Tensor:
    """Solve UCE's closed form for one projection (section 4); means instead of sums, as in ``uce.py``."""
    stay = args.preserve_weight * preserve.T @ preserve / len(preserve)
    stay += args.lamb * torch.eye(stay.shape[0])
    moved = stay + args.erase_weight * target.T @ source / len(source)
    seen = stay + args.erase_weight * source.T @ source / len(source)
    return weight @ torch.linalg.solve(seen, moved.T).T


def erase(args: Namespace) -> dict[str, torch.Tensor]:
    """Compute the edited projections by name."""
    pipe, generator = load(args.model), torch.Generator().manual_seed(args.seed)
    pairs = aligned(pipe, draw_prompts(args.concept, args.prompts, generator), args.concept, args.guide)
    kept = [
        prompt
        for word in [*(args.preserve or retained(args.concept)), *args.neighbours]
        for prompt in draw_prompts(word, args.prompts, generator, avoid=args.concept)
    ]
    states, pooled = encode(pipe, kept)
    preserve = {CONTEXT: states.flatten(0, 1), POOLED: pooled}
    weights = dict(pipe.transformer.named_parameters())
    return {name: edit(weights[name], *pairs[name], preserve[name], args) for name in pairs}


def main(argv: list[str] | None = None) -> None:
    """Erase a concept and write the weights."""
    p = parser(__doc__)
    p.add_argument("--guide", default="tree", help="word that the concept should act as")
    p.add_argument("--preserve", nargs="*", help="words that must not change (default: all others)")
    p.add_argument("--neighbours", nargs="*", default=[], help="words near the concept that must not change either")
    p.add_argument("--erase-weight", type=float, default=1.0)
    p.add_argument("--preserve-weight", type=float, default=1.0)
    p.add_argument("--lamb", type=float, default=0.1, help="pull towards the old weights")
    p.add_argument("--prompts", type=int, default=16, help="prompts for each word")
    args = p.parse_args(argv)
    save_partial(
        args.out,
        erase(args),
        base_model_id=args.model.name,
        train_method="uce",
        erase_concept=args.concept,
        guide_concept=args.guide,
        erase_scale=args.erase_weight,
        preserve_scale=args.preserve_weight,
        lamb=args.lamb,
    )


if __name__ == "__main__":
    main()
