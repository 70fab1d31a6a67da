"""A steering vector that leads away from a concept: the mean difference of states with and without its word.

``python erase/steering_vector.py --concept fish --out fish.safetensors`` writes it for the states that the text encoder
ends with, over sentences that differ in nothing but their noun. It is used with
``--unlearndiff-defense steering-vector:file=fish.safetensors,mode=project`` on the un-erased pipeline.
"""

from __future__ import annotations

import torch
from check import scenes
from safetensors.torch import save_file
from shared import OBJECTS, TEMPLATES, encode, load, parser

MODULE = "text_encoder.final_layer_norm"


@torch.no_grad()
def main(argv: list[str] | None = None) -> None:
    """Write the vector."""
    p = parser(__doc__)
    p.add_argument("--sentences", type=int, default=64, help="sentences of each object")
    args = p.parse_args(argv)
    pipe = load(args.model)

    def mean_state(noun: str) -> torch.Tensor:
        """Mean of the states of all tokens but the first, which is the same in every text."""
        scenes_ = [(style, colour) for _, style, colour in scenes(noun, args.sentences, [noun], "")]
        texts = [
            TEMPLATES[n % len(TEMPLATES)].format(noun=noun, style=style, colour=colour)
            for n, (style, colour) in enumerate(scenes_)
        ]
        return encode(pipe, texts)[:, 1:].mean((0, 1))

    others = [noun for noun in OBJECTS if noun != args.concept]
    vector = mean_state(args.concept) - torch.stack([mean_state(noun) for noun in others]).mean(0)
    save_file({"vector": vector}, args.out, {"module": MODULE, "concept": args.concept})
    print(f"{args.out}: {len(vector)} numbers of length {vector.norm():.3f} at {MODULE}")


if __name__ == "__main__":
    main()
