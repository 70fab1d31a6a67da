"""AdvUnlearn: adversarial training of the text encoder (Zhang et al. 2024, arXiv 2405.15234).

``python advunlearn.py --concept church --out advunlearn-church`` writes a ``CLIPTextModel`` folder; the UNet stays.
"""

from __future__ import annotations

from argparse import Namespace

import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from shared import (
    draw_prompts,
    encode,
    load,
    parser,
    predict,
    progress,
    retain_prompts,
    save_folder,
    tokenise,
    trajectories,
)
from transformers import CLIPTextModel


def encode_prefixed(text_encoder: CLIPTextModel, ids: torch.Tensor, prefix: torch.Tensor) -> torch.Tensor:
    """Text states (N, L, D) of prompts (N, L) with embeddings (N, K, D) put in right after the start token."""
    count = prefix.shape[1]
    # The ids that make room are placeholders: the hook replaces what they embed to.
    shifted = torch.cat([ids[:, :1], ids[:, -1:].expand(-1, count), ids[:, 1:-count]], 1)
    embeddings = text_encoder.get_input_embeddings()
    hook = embeddings.register_forward_hook(
        lambda _, __, output: torch.cat([output[:, :1], prefix, output[:, 1 + count :]], 1)
    )
    try:
        return text_encoder(shifted).last_hidden_state
    finally:
        hook.remove()


def attack(
    pipe: StableDiffusionPipeline,
    ids: torch.Tensor,
    x: torch.Tensor,
    t: torch.Tensor,
    wanted: torch.Tensor,
    generator: torch.Generator,
    args: Namespace,
) -> torch.Tensor:
    """A prefix (N, K, D) that makes the model of now predict what the base predicts for the concept.

    The lower level of section 4's bilevel problem, by a few signed gradient steps (the fast variant is one). It starts
    at the embeddings of random tokens, because that is where an attacker who has to type the prompt must end up.
    """
    table = pipe.text_encoder.get_input_embeddings().weight.detach()
    rows = torch.randint(len(table), (len(ids), args.slots), generator=generator)
    prefix = table[rows]
    for _ in range(args.inner_steps):
        prefix = prefix.detach().requires_grad_(True)
        states = encode_prefixed(pipe.text_encoder, ids, prefix)
        loss = F.mse_loss(predict(pipe.unet, x, t, states), wanted, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, prefix)
        prefix = prefix - args.inner_lr * table.std() * gradient.sign()
    return prefix.detach()


def erase(args: Namespace) -> CLIPTextModel:
    """Train, and return the text encoder.

    The upper level of section 4's bilevel problem: the ESD loss at the attacked prompt, plus ``gamma`` times the
    distance to the base at prompts to be retained ("utility-retaining regularization"). The plain prompts are trained
    beside the attacked ones, since the latter always have a prefix.
    """
    pipe, generator = load(args.model), torch.Generator().manual_seed(args.seed)
    words = [args.concept, *args.also]
    drawn = [(p, w) for w in words for p in draw_prompts(w, args.prompts // len(words), generator)]
    prompts = [prompt for prompt, _ in drawn]
    neutral = [prompt.replace(word, args.erase_from) if args.erase_from else "" for prompt, word in drawn]
    kept = retain_prompts(args.concept, args.prompts, generator)
    erased_bank, kept_bank = trajectories(pipe, prompts, generator), trajectories(pipe, kept, generator)
    ids, kept_ids = tokenise(pipe.tokenizer, prompts), tokenise(pipe.tokenizer, kept)
    states, kept_states, neutral_states = encode(pipe, prompts), encode(pipe, kept), encode(pipe, neutral)
    optimiser = torch.optim.Adam(pipe.text_encoder.parameters(), lr=args.lr)
    for _ in (bar := progress(args, "advunlearn")):
        x, t, rows = erased_bank.draw(args.batch, generator)
        y, s, kept_rows = kept_bank.draw(args.batch, generator)
        with torch.no_grad():
            both = torch.cat([states[rows], neutral_states[rows], kept_states[kept_rows]])
            concept, free, keep = predict(pipe.unet, torch.cat([x, x, y]), torch.cat([t, t, s]), both).chunk(3)
        prefix = attack(pipe, ids[rows], x, t, concept, generator, args)
        pipe.text_encoder.requires_grad_(True)
        attacked = encode_prefixed(pipe.text_encoder, ids[rows], prefix)
        plain = pipe.text_encoder(torch.cat([ids[rows], kept_ids[kept_rows]])).last_hidden_state
        found = predict(pipe.unet, torch.cat([x, x, y]), torch.cat([t, t, s]), torch.cat([attacked, plain])).chunk(3)
        wanted = free - args.negative_guidance * (concept - free)
        erasing = F.mse_loss(found[0], wanted) + F.mse_loss(found[1], wanted)
        retaining = F.mse_loss(found[2], keep)
        optimiser.zero_grad()
        (erasing + args.gamma * retaining).backward()
        optimiser.step()
        pipe.text_encoder.requires_grad_(False)
        bar.set_postfix(erasing=f"{erasing.item():.4f}", retaining=f"{retaining.item():.4f}", refresh=False)
    return pipe.text_encoder


def main(argv: list[str] | None = None) -> None:
    """Erase a concept and write the text encoder's folder."""
    p = parser(__doc__, steps=120, lr=3e-4, batch=8)
    p.add_argument("--also", nargs="*", default=[], help="other words of the concept to erase with it")
    p.add_argument("--slots", type=int, default=3, help="embeddings in the adversarial prefix")
    p.add_argument("--inner-steps", type=int, default=2, help="steps of the inner attack")
    p.add_argument("--inner-lr", type=float, default=1.0, help="their size, in standard deviations of an embedding")
    p.add_argument("--erase-from", default="", help="word that the concept should act as (default: the empty prompt)")
    p.add_argument("--negative-guidance", type=float, default=1.0, help="eta of the ESD loss")
    p.add_argument("--gamma", type=float, default=1.0, help="weight of the retaining loss")
    p.add_argument("--prompts", type=int, default=64, help="prompts to erase, and as many to retain")
    args = p.parse_args(argv)
    save_folder(args.out, erase(args))


if __name__ == "__main__":
    main()
