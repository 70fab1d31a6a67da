"""UCE for a flow-matching transformer: edit its two text projections in closed form (Gandikota et al. 2024).

``python flow_uce.py --concept church --guide tree --out uce-church.safetensors`` writes ``context_embedder.weight`` and
``time_text_embed.text_embedder.linear_1.weight``, as the authors' script for FLUX does.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import torch
import uce
from diffusers import StableDiffusion3Pipeline
from flow_shared import CHECKPOINT, encode, load, parser
from shared import draw_prompts, save_partial, token_span

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


def erase(args: Namespace) -> dict[str, torch.Tensor]:
    """Compute the edited projections by name."""
    pipe, generator = load(args.model), torch.Generator().manual_seed(args.seed)
    pairs = aligned(pipe, draw_prompts(args.concept, args.prompts, generator), args.concept, args.guide)
    states, pooled = encode(pipe, uce.preserved(args, generator))
    preserve = {CONTEXT: states.flatten(0, 1), POOLED: pooled}
    weights = dict(pipe.transformer.named_parameters())
    return {name: weights[name] @ uce.solve(*pairs[name], preserve[name], args) for name in pairs}


def main(argv: list[str] | None = None) -> None:
    """Erase a concept and write the weights."""
    p = parser(__doc__)
    uce.add_options(p)
    args = p.parse_args(argv)
    save_partial(args.out, erase(args), **CHECKPOINT, **uce.described(args))


if __name__ == "__main__":
    main()
