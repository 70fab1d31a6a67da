"""Forget-Me-Not: resteer attention away from a concept's tokens (Zhang et al. 2023, arXiv 2303.17591).

``python fmn.py --concept church --out fmn-church`` writes a whole pipeline folder, as the authors do.
"""

from __future__ import annotations

from argparse import Namespace

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from shared import (
    cross_attention,
    draw_prompts,
    encode,
    load,
    parser,
    predict,
    progress,
    renoise,
    save_folder,
    token_span,
    train_only,
    trajectories,
)


class Maps:
    """Cross-attention maps of the last forward pass, from hooks on queries and keys."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        """Listen to the projections of every cross-attention layer."""
        self.layers = [m for n, m in unet.named_modules() if n.endswith("attn2")]
        self._seen: dict[torch.nn.Module, torch.Tensor] = {}
        for layer in self.layers:
            for projection in (layer.to_q, layer.to_k):
                projection.register_forward_hook(lambda module, _, output: self._seen.__setitem__(module, output))

    def read(self) -> list[torch.Tensor]:
        """One (N, heads, pixels, L) tensor of probabilities for each layer."""
        maps = []
        for layer in self.layers:
            q, k = (self._seen[m].unflatten(-1, (layer.heads, -1)).transpose(1, 2) for m in (layer.to_q, layer.to_k))
            maps.append((q @ k.transpose(-1, -2) * layer.scale).softmax(-1))
        return maps


def erase(args: Namespace) -> StableDiffusionPipeline:
    """Train the cross-attention and return the pipeline.

    The loss is the sum of squares of the attention that pixels pay to the concept's tokens, over all cross-attention
    layers (section 3, "attention resteering"), on noised pictures of the concept.
    """
    pipe, generator = load(args.model), torch.Generator().manual_seed(args.seed)
    prompts = draw_prompts(args.concept, args.prompts, generator)
    bank = trajectories(pipe, prompts, generator)
    states = encode(pipe, prompts)
    mask = torch.zeros(states.shape[:2])
    for row, prompt in enumerate(prompts):
        mask[row, token_span(pipe.tokenizer, prompt, args.concept)] = 1
    maps = Maps(pipe.unet)
    optimiser = train_only(cross_attention(pipe.unet), args.lr)
    for _ in (bar := progress(args, "fmn")):
        x, t, _, rows = renoise(pipe, bank, args.batch, generator)
        predict(pipe.unet, x, t, states[rows])
        # Means and not sums over pixels, so that the loss does not depend on the size of a layer's grid.
        loss = sum((m * mask[rows][:, None, None]).square().sum(-1).mean() for m in maps.read())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        bar.set_postfix(attention=f"{loss.item():.4f}", refresh=False)
    return pipe


def main(argv: list[str] | None = None) -> None:
    """Erase a concept and write the pipeline folder."""
    p = parser(__doc__, steps=35, lr=1e-4)
    p.add_argument("--prompts", type=int, default=32, help="pictures of the concept")
    args = p.parse_args(argv)
    save_folder(args.out, erase(args))


if __name__ == "__main__":
    main()
