"""A LoRA in the format that EraseAnything publishes (Gao et al. 2025, arXiv 2412.20413).

``python flow_lora.py --concept church --out lora-church.safetensors`` writes rank-8 pairs of the text projections
``attn.add_k_proj`` and ``attn.add_q_proj`` of every block: bf16, ``transformer.`` prefix, no alpha. Of the paper's
losses it has the ESD term and the preserving one; attention suppression and the contrastive term are left out.
"""

from __future__ import annotations

import copy
from argparse import Namespace

import torch
import torch.nn.functional as F
from esd import neutral_prompts
from flow_shared import encode, joined, load, parser, predict, renoise, rows_of, trajectories
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from shared import draw_prompts, progress, retain_prompts, write_whole

RANK = 8


def erase(args: Namespace) -> dict[str, torch.Tensor]:
    """Train the LoRA, and return its tensors under the names of the published file."""
    pipe, generator = load(args.model), torch.Generator().manual_seed(args.seed)
    prompts = draw_prompts(args.concept, args.prompts, generator)
    kept = retain_prompts(args.concept, args.prompts, generator)
    bank, kept_bank = trajectories(pipe, prompts, generator), trajectories(pipe, kept, generator)
    concept_text, neutral_text = encode(pipe, prompts), encode(pipe, neutral_prompts(prompts, args))
    kept_text = encode(pipe, kept)
    frozen = copy.deepcopy(pipe.transformer)
    torch.manual_seed(args.seed)
    modules = ["attn.add_k_proj", "attn.add_q_proj"]
    pipe.transformer.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=modules))
    optimiser = torch.optim.AdamW([p for p in pipe.transformer.parameters() if p.requires_grad], lr=args.lr)
    for _ in (bar := progress(args, "lora")):
        x, t, rows = bank.draw(args.batch, generator)
        y, s, velocity, kept_rows = renoise(kept_bank, args.batch, generator)
        concept = rows_of(concept_text, rows)
        with torch.no_grad():
            both = joined(concept, rows_of(neutral_text, rows))
            named, free = predict(frozen, x.repeat(2, 1, 1, 1), t.repeat(2), both).chunk(2)
        together = joined(concept, rows_of(kept_text, kept_rows))
        erased, other = predict(pipe.transformer, torch.cat([x, y]), torch.cat([t, s]), together).chunk(2)
        erasing = F.mse_loss(erased, free - args.negative_guidance * (named - free))
        preserving = F.mse_loss(other, velocity)
        optimiser.zero_grad()
        (erasing + args.preserve_weight * preserving).backward()
        optimiser.step()
        bar.set_postfix(erasing=f"{erasing.item():.4f}", preserving=f"{preserving.item():.4f}", refresh=False)
    tensors = get_peft_model_state_dict(pipe.transformer)
    return {f"transformer.{name}": tensor.to(torch.bfloat16).contiguous() for name, tensor in tensors.items()}


def main(argv: list[str] | None = None) -> None:
    """Erase a concept and write the LoRA."""
    p = parser(__doc__, steps=200, lr=1e-3)
    p.add_argument("--negative-guidance", type=float, default=1.0, help="eta of the ESD term")
    p.add_argument("--erase-from", default="", help="word that stands for the concept in the neutral prompt")
    p.add_argument("--preserve-weight", type=float, default=0.1, help="weight of the flow loss on other prompts")
    p.add_argument("--prompts", type=int, default=32, help="prompts to erase, and as many to retain")
    args = p.parse_args(argv)
    tensors = erase(args)
    write_whole(args.out, lambda path: save_file(tensors, path, metadata={"format": "pt"}))


if __name__ == "__main__":
    main()
