"""Tokenizers of the kinds that text encoders have, trained in a moment on sentences of our own.

Their vocabularies overlap in part with each other and with the emoji world's CLIP tokenizer, as the real ones do.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tiny import EMOJI
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

SENTENCES = (
    "a church in noto style on a red background",
    "an emoji of a church and a photo of a dog on a hill",
    "the old brown fox runs over the lazy dog at night",
    "a blue house beside a green tree under the yellow sun",
    "a black cat sleeps on a white car near the old tower",
    "red apple, green pear and a glass of cold water",
    "a man with a hat walks along the river every morning",
    "stone temple on a mountain above the clouds",
    "chapel steeple bell roof cross window door",
    "painting of a village with a market and a bridge",
    "The Old Church in Rome: Night on the River, Summer",
)
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def clip(**more: Any) -> CLIPTokenizer:
    """The emoji world's."""
    return CLIPTokenizer.from_pretrained(EMOJI / "model" / "tokenizer", **more)


@cache
def _corpus() -> list[str]:
    """The sentences, and five of seven of CLIP's one-token words."""
    tokenizer = clip()
    texts = [text.strip() for text in tokenizer.batch_decode([[i] for i in range(len(tokenizer))])]
    texts = sorted({text for text in texts if text.isalpha() and text.isascii() and len(text) > 1})
    readings = tokenizer(texts, add_special_tokens=False).input_ids
    words = [text for text, ids in zip(texts, readings, strict=True) if len(ids) == 1]
    return [*SENTENCES * 20, *[" ".join(words[i::7]) for i in range(5)] * 6]


def _fast(tokenizer: Tokenizer, length: int, **more: Any) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=length, padding_side="right", **more)


@cache
def _unigram() -> str:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=700, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return str(tokenizer.to_str())


def t5(length: int = 64) -> PreTrainedTokenizerFast:
    """Pieces of words that carry the space before them, the first one too; "</s>" at the end, nothing before."""
    return _fast(Tokenizer.from_str(_unigram()), length, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


@cache
def _byte_pairs() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return str(tokenizer.to_str())


def qwen(length: int = 256) -> PreTrainedTokenizerFast:
    """Bytes in pairs, so that the first word is another token than behind a space; a chat template, no end token."""
    tokenizer = _fast(Tokenizer.from_str(_byte_pairs()), length, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHAT
    return tokenizer


@cache
def _metaspace_pairs() -> str:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokenizer.train_from_iterator(
        _corpus(), trainers.BpeTrainer(vocab_size=1200, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return str(tokenizer.to_str())


def gemma(length: int = 1024) -> PreTrainedTokenizerFast:
    """Characters in pairs, a space being one of them; "<bos>" before a text, nothing behind it."""
    return _fast(
        Tokenizer.from_str(_metaspace_pairs()),
        length,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    )


@cache
def _word_pieces() -> str:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(
        _corpus(), trainers.WordPieceTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return str(tokenizer.to_str())


def bert(length: int = 77) -> PreTrainedTokenizerFast:
    """Lower-case words and their pieces between "[CLS]" and "[SEP]"."""
    return _fast(
        Tokenizer.from_str(_word_pieces()),
        length,
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
    )
