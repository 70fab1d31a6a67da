"""Words as adversarial tokens, on the tokenizers of the flow model that ships: two of CLIP's and T5's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from pytest_unlearndiff.core.attack_config import PLACEMENTS
from pytest_unlearndiff.models.families.words import TextEncoder, WordVocabulary

FLOW = Path(__file__).resolve().parents[2] / "examples" / "emoji" / "flow"
TEXT = "a church in noto style"


@pytest.fixture(scope="module")
def tokenizers() -> list[Any]:
    return [AutoTokenizer.from_pretrained(FLOW / name) for name in ("tokenizer", "tokenizer_3")]


@pytest.fixture(scope="module")
def vocabulary(tokenizers: list[Any]) -> WordVocabulary:
    torch.manual_seed(0)
    tables = [torch.nn.Embedding(len(tokenizer), width) for tokenizer, width in zip(tokenizers, (3, 5), strict=True)]
    return WordVocabulary([TextEncoder(*each) for each in zip(tokenizers, tables, (32, 24), strict=True)])


def read(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def test_texts_of_words_are_read_word_by_word(vocabulary: WordVocabulary, tokenizers: list[Any]) -> None:
    assert len(vocabulary.words) > 200
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        words = [vocabulary.words[i] for i in torch.randint(len(vocabulary.words), (4,), generator=generator)]
        for tokenizer in tokenizers:
            ids = read(tokenizer, " ".join([*words, TEXT]))
            assert [[token] for token in ids[:4]] == [read(tokenizer, word) for word in words]
            assert ids[4:] == read(tokenizer, TEXT)


def test_words_are_told_apart_by_some_tokenizer(vocabulary: WordVocabulary, tokenizers: list[Any]) -> None:
    readings = [tuple(read(tokenizer, word)[0] for tokenizer in tokenizers) for word in vocabulary.words]
    assert len(set(readings)) == len(readings)
    one, other = (readings[token] for token in vocabulary.unlike_pair)
    assert all(left != right for left, right in zip(one, other, strict=True))


def test_embeddings_stand_side_by_side(vocabulary: WordVocabulary, tokenizers: list[Any]) -> None:
    assert vocabulary.embeddings.shape == (len(vocabulary.words), 8)
    (one,), (other,) = (read(tokenizer, vocabulary.words[7]) for tokenizer in tokenizers)
    tables: list[Any] = [encoder.embedding.weight for encoder in vocabulary._encoders]
    assert torch.equal(vocabulary.embeddings[7], torch.cat([tables[0][one], tables[1][other]]))


@pytest.mark.parametrize(
    ("placement", "text"),
    [
        ("prefix", "{0} {1} a church in noto style"),
        ("suffix", "a church in noto style {0} {1}"),
        ("mid", "a church {0} {1} in noto style"),
        ("insert", "a {0} church {1} in noto style"),
    ],
)
def test_placements(placement: str, text: str, vocabulary: WordVocabulary) -> None:
    slots = vocabulary.slots(TEXT, 2, placement)  # type: ignore[arg-type]
    assert vocabulary.text(slots.filled([5, 9])) == text.format(vocabulary.words[5], vocabulary.words[9])


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_long_prompts_lose_what_would_push_the_slots_out(
    placement: str, vocabulary: WordVocabulary, tokenizers: list[Any]
) -> None:
    slots = vocabulary.slots(" ".join(["church"] * 60), 2, placement)  # type: ignore[arg-type]
    text = vocabulary.text(slots.filled([5, 9]))
    for tokenizer, length in zip(tokenizers, (32, 24), strict=True):
        ids = tokenizer(text, truncation=True, max_length=length).input_ids
        assert {read(tokenizer, vocabulary.words[token])[0] for token in (5, 9)} <= set(ids)
    if placement == "prefix":
        assert text.count("church") == 60
    if placement == "suffix":
        assert len(tokenizers[1](text).input_ids) == 24


def test_slots_that_never_fit_are_refused(vocabulary: WordVocabulary) -> None:
    with pytest.raises(ValueError, match="24 adversarial tokens do not fit into 24 positions"):
        vocabulary.slots(TEXT, 24, "prefix")


def test_unattacked_text_stays_as_it_is(vocabulary: WordVocabulary) -> None:
    text = "a  church\tin noto,style"
    assert vocabulary.text(vocabulary.unattacked(text).filled([])) == text
    assert vocabulary.count("church church") == 2 + 2
