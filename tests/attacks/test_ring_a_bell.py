"""Ring-A-Bell: tokens bred towards a concept's direction in the un-erased model's text states."""

from __future__ import annotations

import pytest
import torch
from tiny import PROMPTS, tiny_pipeline

from pytest_unlearndiff.attacks.base import build_attack
from pytest_unlearndiff.attacks.ring_a_bell import GeneticAttack, GeneticState
from pytest_unlearndiff.attacks.schedules import GeneticSchedule
from pytest_unlearndiff.attacks.text_encoder import PHRASES
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.registry import registry
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets

SPEC = AttackConfig("ring-a-bell", word="church")
SHORT = GeneticSchedule(rounds=2, generations=3, population=12)


def begin(
    victim: DiffusionModel, targets: Targets, count: int = 1, schedule: GeneticSchedule = SHORT
) -> tuple[GeneticAttack, list[GeneticState]]:
    search = GeneticAttack(SPEC, victim, schedule)
    return search, search.start(PROMPTS[:count], targets, 0)


def text_states(*texts: str) -> torch.Tensor:
    """Text states of the base pipeline itself."""
    pipe = tiny_pipeline(0)
    ids = pipe.tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt").input_ids
    found: torch.Tensor = pipe.text_encoder(ids)[0]
    return found.flatten(1)


def distance(state: GeneticState, row: tuple[int, ...], victim: DiffusionModel) -> float:
    """Squared distance of one candidate, worked out from its text."""
    vocabulary = victim.vocabulary
    ids = torch.tensor([vocabulary.padded(state.slots.filled(vocabulary.typeable[list(row)].tolist()))])
    return float((tiny_pipeline(0).text_encoder(ids)[0][0].flatten() - state.target).square().sum())


def test_target_is_the_prompt_moved_in_the_words_direction(victim: DiffusionModel, targets: Targets) -> None:
    _, (state,) = begin(victim, targets)
    with_it, without = (
        text_states(*(p.format("church") for p in PHRASES)),
        text_states(*(p.format("").strip() for p in PHRASES)),
    )
    wanted = text_states(PROMPTS[0].text)[0] + 3 * (with_it - without).mean(0)
    torch.testing.assert_close(state.target, wanted, atol=1e-5, rtol=1e-5)


def test_generation(victim: DiffusionModel, targets: Targets) -> None:
    search, (state,) = begin(victim, targets)
    before = sorted(map(tuple, state.population.tolist()), key=lambda row: distance(state, row, victim))
    search._breed(state)
    after = list(map(tuple, state.population.tolist()))
    assert after[:6] == before[:6]
    assert len(after) == 12
    genes = [{row[slot] for row in before[:6]} for slot in range(3)]
    for child in after[6:]:
        assert sum(token not in known for token, known in zip(child, genes, strict=True)) <= 1


def test_fittest_survive_and_are_requested_once(victim: DiffusionModel, targets: Targets) -> None:
    search, (state,) = begin(victim, targets)
    first, second = (search.advance([state])[0] for _ in range(2))
    assert first != second
    assert search.advance([state]) == [None]
    best = tuple(state.population[0].tolist())
    assert state.distances[best] == min(state.distances.values())
    assert state.distances[best] == pytest.approx(distance(state, best, victim), rel=1e-4)
    assert (state.steps, state.forwards) == (6, 0)


def test_children_without_crossover_and_mutation(victim: DiffusionModel, targets: Targets) -> None:
    search, (state,) = begin(victim, targets, schedule=GeneticSchedule(1, 1, population=12, crossover=0, mutation=0))
    parents = state.population[:6]
    children = search._children(parents, 40, state)
    assert {tuple(row) for row in children.tolist()} <= {tuple(row) for row in parents.tolist()}


def test_missing_word(victim: DiffusionModel, targets: Targets) -> None:
    with pytest.raises(ValueError, match="word"):
        build_attack(AttackConfig("ring-a-bell"), victim).start(PROMPTS[:1], targets, 0)


def test_phrases_belong_to_the_version() -> None:
    """Other phrases give other targets: whoever changes them raises the attack's version, and this test with it."""
    phrases = ("{}", "a {}", "a photo of a {}", "a picture of a {}", "a drawing of one {}")
    versions = [registry().attacks[name].version for name in ("ring-a-bell", "mma-diffusion")]
    assert (versions, PHRASES) == (["1", "1"], phrases)
