"""Train a T5-style unigram tokenizer on the captions and the names of all emoji.

``python t5_tokenizer.py`` writes ``../flow/tokenizer_3``. Its pieces differ from those of the CLIP-style tokenizer of
``tokenizer.py``, it knows upper case, and it has no start token: like the two tokenizers of Stable Diffusion 3.
"""

from __future__ import annotations

import math
import string
from collections import Counter

import numpy as np
from common import FLOW, MODEL, parser, record_figures
from compose import World
from tokenizers import Tokenizer, models, trainers
from transformers import CLIPTokenizer, T5Tokenizer

VOCABULARY = 1_800
LENGTH = 32
SPECIAL = ("<pad>", "</s>", "<unk>")


def pieces(corpus: list[str]) -> list[tuple[str, float]]:
    """Choose pieces by byte-pair merges and score each by the logarithm of its share of the corpus.

    The unigram trainer of ``tokenizers`` splits the most frequent words of so small a corpus.
    """
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = T5Tokenizer(extra_ids=0).backend_tokenizer.pre_tokenizer
    characters = ["\N{LOWER ONE EIGHTH BLOCK}", *string.ascii_letters, *string.digits, *string.punctuation]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL), initial_alphabet=characters, show_progress=False
    )
    trained.train_from_iterator(corpus, trainer)
    counts = Counter(token for encoding in trained.encode_batch(corpus) for token in encoding.tokens)
    vocabulary = trained.get_vocab()
    total = sum(counts.values()) + len(vocabulary)
    ordered = sorted(vocabulary, key=vocabulary.__getitem__)
    scores = [(piece, math.log((counts[piece] + 1) / total)) for piece in ordered]
    return [*((token, 0.0) for token in SPECIAL), *scores]


def main() -> None:
    """Train the tokenizer, save it, and count the words that are one token here and in the CLIP-style one."""
    args = parser(__doc__, steps=0).parse_args()
    world = World(args.work)
    rng = np.random.default_rng(args.seed)
    words = (args.work / "words.txt").read_text().split()
    captions = [world.caption(world.labels(rng), rng) for _ in range(20_000)]
    tokenizer = T5Tokenizer(vocab=pieces(captions + words * 5), extra_ids=0, model_max_length=LENGTH)
    tokenizer.save_pretrained(FLOW / "tokenizer_3")
    clip = CLIPTokenizer.from_pretrained(MODEL / "tokenizer")
    typed = [token.removesuffix("</w>") for token in clip.get_vocab() if token.endswith("</w>")]
    typed = [word for word in typed if word.isalpha()]
    shared = [word for word in typed if len(tokenizer(word).input_ids) == 2]
    lengths = [len(tokenizer(text).input_ids) for text in captions[:2000]]
    figures = {"tokens": len(tokenizer), "longest_caption": max(lengths), "words_of_one_clip_token": len(typed)}
    record_figures("t5_tokenizer", figures | {"words_of_one_token_in_both": len(shared)})


if __name__ == "__main__":
    main()
