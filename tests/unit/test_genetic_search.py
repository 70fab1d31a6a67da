"""Ring-A-Bell: tokens bred towards a concept's direction in the un-erased model's text states."""

from __future__ import annotations

import pytest
import torch
from tiny import PROMPTS, tiny_pipeline

from pytest_unlearndiff.attacks.base import build_attack
from pytest_unlearndiff.attacks.ring_a_bell import PHRASES, GeneticLane, GeneticSearch
from pytest_unlearndiff.attacks.schedules import GeneticSchedule
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets

SPEC = AttackConfig("ring-a-bell", word="church")
SHORT = GeneticSchedule(rounds=2, generations=3, population=12)


def begin(
    victim: DiffusionModel, targets: Targets, count: int = 1, schedule: GeneticSchedule = SHORT
) -> tuple[GeneticSearch, list[GeneticLane]]:
    search = GeneticSearch(SPEC, victim, schedule)
    return search, search.start(PROMPTS[:count], victim, targets, 0)


def states(*texts: str) -> torch.Tensor:
    """Text states of the base pipeline itself."""
    pipe = tiny_pipeline(0)
    ids = pipe.tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt").input_ids
    found: torch.Tensor = pipe.text_encoder(ids)[0]
    return found.flatten(1)


def distance(lane: GeneticLane, row: tuple[int, ...], victim: DiffusionModel) -> float:
    """Squared distance of one candidate, worked out from its text."""
    vocabulary = victim.vocabulary
    ids = lane.slots.padded(vocabulary.typeable[list(row)].tolist(), vocabulary)
    return float((tiny_pipeline(0).text_encoder(ids[None])[0][0].flatten() - lane.wanted).square().sum())


def test_it_wants_the_prompts_states_moved_in_the_words_direction(victim: DiffusionModel, targets: Targets) -> None:
    _, (lane,) = begin(victim, targets)
    with_it, without = states(*(p.format("church") for p in PHRASES)), states(*(p.format("").strip() for p in PHRASES))
    wanted = states(PROMPTS[0].text)[0] + 3 * (with_it - without).mean(0)
    torch.testing.assert_close(lane.wanted, wanted, atol=1e-5, rtol=1e-5)


def test_a_generation_keeps_the_fitter_half_and_breeds_the_rest_from_it(
    victim: DiffusionModel, targets: Targets
) -> None:
    search, (lane,) = begin(victim, targets)
    before = sorted(map(tuple, lane.population.tolist()), key=lambda row: distance(lane, row, victim))
    search._generation(lane)
    after = list(map(tuple, lane.population.tolist()))
    assert after[:6] == before[:6]
    assert len(after) == 12
    genes = [{row[slot] for row in before[:6]} for slot in range(3)]
    for child in after[6:]:
        assert sum(token not in known for token, known in zip(child, genes, strict=True)) <= 1


def test_the_best_ever_never_gets_lost_and_no_text_is_proposed_twice(victim: DiffusionModel, targets: Targets) -> None:
    search, (lane,) = begin(victim, targets)
    first, second = (search.advance([lane], victim)[0] for _ in range(2))
    assert first != second
    assert search.advance([lane], victim) == [None]
    best = tuple(lane.population[0].tolist())
    assert lane.distances[best] == min(lane.distances.values())
    assert lane.distances[best] == pytest.approx(distance(lane, best, victim), rel=1e-4)
    assert (lane.steps, lane.forwards) == (6, 0)


def test_lanes_together_do_what_each_does_alone(victim: DiffusionModel, targets: Targets) -> None:
    search, lanes = begin(victim, targets, 3)
    drawn = [search.advance(lanes, victim) for _ in range(2)]
    for n in range(3):
        alone = search.start([PROMPTS[n]], victim, targets, 0)
        assert [search.advance(alone, victim)[0] for _ in range(2)] == [row[n] for row in drawn]


def test_without_crossover_and_mutation_children_are_their_mothers(victim: DiffusionModel, targets: Targets) -> None:
    search, (lane,) = begin(victim, targets, schedule=GeneticSchedule(1, 1, population=12, crossover=0, mutation=0))
    parents = lane.population[:6]
    children = search._children(parents, 40, lane)
    assert {tuple(row) for row in children.tolist()} <= {tuple(row) for row in parents.tolist()}


def test_the_specification_builds_it_and_it_needs_a_word(victim: DiffusionModel, targets: Targets) -> None:
    assert isinstance(build_attack(SPEC, victim), GeneticSearch)
    with pytest.raises(ValueError, match="word"):
        build_attack(AttackConfig("ring-a-bell"), victim).start(PROMPTS[:1], victim, targets, 0)
