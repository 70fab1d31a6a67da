"""MMA-Diffusion's text attack: swaps towards the concept's encoding by the un-erased model."""

from __future__ import annotations

import pytest
import torch
from tiny import PROMPTS, tiny_pipeline

from pytest_unlearndiff.attacks.mma_diffusion import EncoderSwapAttack, EncoderSwapState
from pytest_unlearndiff.attacks.schedules import EncoderSwapSchedule
from pytest_unlearndiff.attacks.slots import token_ids
from pytest_unlearndiff.attacks.text_encoder import PHRASES
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.families.vocabulary import FilledPrompt
from pytest_unlearndiff.models.target_images import Targets

SHORT = EncoderSwapSchedule(rounds=3, iterations=2, candidates=16, top=8)


def begin(
    victim: DiffusionModel, targets: Targets, schedule: EncoderSwapSchedule = SHORT, word: str = "church"
) -> tuple[EncoderSwapAttack, EncoderSwapState]:
    attack = EncoderSwapAttack(AttackConfig("mma-diffusion", word=word), victim, schedule)
    (state,) = attack.start(PROMPTS[:1], targets, 0)
    return attack, state


def cosine(text: str) -> float:
    """Similarity of a typed text and the concept's phrases, worked out with the base pipeline's encoder itself."""
    pipe = tiny_pipeline(0)
    texts = [text, *(phrase.format("church") for phrase in PHRASES)]
    ids = pipe.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    units = torch.nn.functional.normalize(pipe.text_encoder(ids)[0].flatten(1), dim=-1)
    return float(torch.nn.functional.cosine_similarity(units[0], units[1:].mean(0), dim=0))


def test_requests_are_the_most_similar_texts_and_never_the_same(victim: DiffusionModel, targets: Targets) -> None:
    attack, state = begin(victim, targets)
    start = cosine(victim.vocabulary.text(state.slots.filled(token_ids(state.choice, state.space.tokens))))
    texts = []
    for _ in range(3):
        (request,) = attack.advance([state])
        assert request is not None
        texts.append(request.text)
        assert cosine(request.text) >= max(state.best.values(), default=-1) - 1e-5
    assert len(set(texts)) == 3
    assert cosine(texts[-1]) > start
    assert attack.advance([state]) == [None]
    assert (state.steps, state.forwards) == (6, 0)


def test_measured_similarities_are_those_of_typed_text(victim: DiffusionModel, targets: Targets) -> None:
    attack, state = begin(victim, targets)
    attack._swap(state)
    for choice, similarity in state.best.items():
        text = victim.vocabulary.text(state.slots.filled(token_ids(choice, state.space.tokens)))
        assert similarity == pytest.approx(cosine(text), abs=1e-5)


def test_gradient_is_that_of_the_similarity(victim: DiffusionModel, targets: Targets) -> None:
    """Central difference along the gradient."""
    attack, state = begin(victim, targets)
    slope = attack._slope(state)
    tokens, embeddings = token_ids(state.choice, state.space.tokens), state.base.vocabulary.embeddings

    def similarity(step: float) -> float:
        slots = (embeddings[tokens] + step * slope / slope.norm())[None]
        with torch.no_grad():
            vectors = state.base.encode([filled(state, tokens)], slots).vectors()
        return float(torch.nn.functional.normalize(vectors, dim=-1)[0] @ attack._concept(state.base))

    step = 1e-3
    assert (similarity(step) - similarity(-step)) / (2 * step) == pytest.approx(float(slope.norm()), rel=0.02)


def filled(state: EncoderSwapState, tokens: list[int]) -> FilledPrompt:
    return FilledPrompt(state.slots, tuple(tokens))


def test_no_more_choices_are_kept_than_can_be_drawn(victim: DiffusionModel, targets: Targets) -> None:
    attack, state = begin(victim, targets, EncoderSwapSchedule(rounds=2, iterations=5, candidates=32, top=16))
    attack.advance([state])
    assert len(state.best) <= 2
    assert state.drawn.isdisjoint(state.best)


def test_concept_without_a_word_is_refused(victim: DiffusionModel, targets: Targets) -> None:
    with pytest.raises(ValueError, match="needs the concept's word"):
        begin(victim, targets, word="")
