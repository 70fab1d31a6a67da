"""Train a CLIP-style byte-pair tokenizer on the captions and the names of all emoji.

``python tokenizer.py`` writes ``../model/tokenizer``. The vocabulary is laid out as CLIP's: single characters, the
same characters ending a word, merges, and the two special tokens last.
"""

from __future__ import annotations

import json
import string

import numpy as np
from common import MODEL, parser, record_figures
from compose import World
from tokenizers import Tokenizer, models, trainers
from transformers import CLIPTokenizer

VOCABULARY = 1_600
LENGTH = 32
SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def merges(corpus: list[str], count: int) -> list[tuple[str, str]]:
    """The first ``count`` merges of a byte-pair model trained with CLIP's normaliser and word splitting."""
    shape = CLIPTokenizer().backend_tokenizer
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer, trained.pre_tokenizer = shape.normalizer, shape.pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=4 * VOCABULARY, end_of_word_suffix="</w>", show_progress=False)
    trained.train_from_iterator(corpus, trainer)

    found = json.loads(trained.to_str())["model"]["merges"]
    return [(str(a), str(b)) for a, b in found][:count]


def main() -> None:
    """Train the tokenizer and save it with the vocabulary files older readers want."""
    args = parser(__doc__, steps=0).parse_args()
    world = World(args.work)
    rng = np.random.default_rng(args.seed)
    words = (args.work / "words.txt").read_text().split()
    corpus = [world.caption(world.labels(rng), rng) for _ in range(20_000)] + words * 5
    characters = sorted(string.ascii_lowercase + string.digits + string.punctuation)
    letters = [*characters, *(c + "</w>" for c in characters)]
    chosen = merges(corpus, VOCABULARY - len(letters) - len(SPECIAL))
    vocabulary = {token: i for i, token in enumerate([*letters, *(a + b for a, b in chosen), *SPECIAL])}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=chosen, model_max_length=LENGTH)
    folder = MODEL / "tokenizer"
    tokenizer.save_pretrained(folder)
    tokenizer.backend_tokenizer.model.save(str(folder))
    lengths = [len(tokenizer(text).input_ids) for text in corpus[:2000]]
    record_figures("tokenizer", {"tokens": len(tokenizer), "longest_caption": max(lengths)})


if __name__ == "__main__":
    main()
