"""Where adversarial tokens stand, at every placement and at the edges of the text encoder."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_pipeline

from pytest_unlearndiff.core.attack_config import PLACEMENTS
from pytest_unlearndiff.models.families.vocabulary import ClipVocabulary

TEXT = "a church in noto style on a red background"


@pytest.fixture(scope="module")
def vocabulary() -> ClipVocabulary:
    pipe = tiny_pipeline()
    return ClipVocabulary(pipe.tokenizer, pipe.text_encoder.get_input_embeddings().weight.detach())


@pytest.mark.parametrize(
    ("placement", "positions"),
    [("prefix", (0, 1, 2)), ("suffix", (9, 10, 11)), ("mid", (4, 5, 6)), ("insert", (2, 5, 8))],
)
def test_placements(vocabulary: ClipVocabulary, placement: str, positions: tuple[int, ...]) -> None:
    slots = vocabulary.slots(TEXT, 3, placement)  # type: ignore[arg-type]
    assert slots.positions == positions
    filled = slots.filled([-1, -2, -3])
    assert [filled[i] for i in positions] == [-1, -2, -3]
    assert [token for token in filled if token >= 0] == vocabulary.ids(TEXT)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("words", [1, 26, 27, 28, 40])
def test_the_sequence_is_what_the_tokenizer_would_make(vocabulary: ClipVocabulary, placement: str, words: int) -> None:
    slots = vocabulary.slots(" ".join(["church"] * words), 3, placement)  # type: ignore[arg-type]
    tokens = vocabulary.ids("tree cat fish")
    padded = vocabulary.padded(slots.filled(tokens))
    assert len(padded) == vocabulary.length
    assert [padded[position + 1] for position in slots.positions] == tokens
    text = vocabulary.text(slots.filled(tokens))
    again = vocabulary._tokenizer(text, padding="max_length", truncation=True).input_ids
    assert padded == again


def test_a_long_prompt_loses_its_tail_and_not_its_attack(vocabulary: ClipVocabulary) -> None:
    long = " ".join(["church"] * 60)
    assert len(vocabulary.slots(long, 5, "prefix").body) == vocabulary.length - 2 - 5


def test_slots_that_never_fit_are_refused(vocabulary: ClipVocabulary) -> None:
    with pytest.raises(ValueError, match="31 adversarial tokens do not fit into 32"):
        vocabulary.slots(TEXT, vocabulary.length - 1, "prefix")


def test_typeable_tokens_come_back_from_their_text(vocabulary: ClipVocabulary) -> None:
    kept = vocabulary.typeable
    assert 500 < len(kept) < len(vocabulary.embeddings)
    assert vocabulary.eos not in kept
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        tokens = kept[torch.randint(len(kept), (3,), generator=generator)].tolist()
        assert vocabulary.ids(vocabulary.text(tokens)) == tokens
