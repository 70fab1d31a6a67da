"""Ring-A-Bell (Tsai et al., ICLR 2024, arXiv 2310.10012): tokens that move the text encoder towards a concept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from ..core.attack_config import AttackConfig
from ..core.concept import Prompt
from ..core.drawing import GenerationRequest
from ..core.registry import Schedule
from ..models.diffusion_model import DiffusionModel
from ..models.target_images import Targets
from .base import PromptState, lane_generator, note_overflow
from .schedules import GeneticSchedule
from .slots import Slots, lay_out, propose

PHRASES = ("{}", "a {}", "a photo of a {}", "a image of a {}", "a drawing of one {}")
"""Texts with a concept's word and, for the difference, without it."""


@dataclass(eq=False)
class GeneticLane(PromptState):
    """A lane that breeds tokens.

    Attributes:
        slots: the prompt with room for the tokens.
        wanted: text encoding (n,) to come close to.
        population: indices (P, k) into the typeable tokens, the fittest first from the first generation on.
        distances: of every candidate that was ever alive, to what is wanted.
        drawn: what has been proposed.
        base: the un-erased model, whose text states these are.
    """

    slots: Slots = field(kw_only=True)
    wanted: torch.Tensor = field(kw_only=True)
    population: torch.Tensor = field(kw_only=True)
    distances: dict[tuple[int, ...], float] = field(default_factory=dict, kw_only=True)
    drawn: set[tuple[int, ...]] = field(default_factory=set, kw_only=True)
    base: DiffusionModel = field(kw_only=True)


class GeneticSearch:
    """Breeds tokens whose prompt's text states come close to the prompt's own plus the concept's direction.

    Sees nothing of the victim but its tokenizer: text states are the un-erased model's. Where the paper's authors
    replace the prompt by 16 free tokens, here the tokens stand in the prompt's slots, as in every attack of this
    package, and the direction comes from PHRASES, not from pairs of prompts written for the concept.

    Args:
        spec: slots, placement, schedule and the concept's word.
        victim: what is attacked.
        schedule: how much work, where not the configuration's.
    """

    def __init__(self, spec: AttackConfig, victim: DiffusionModel, schedule: Schedule | None = None) -> None:
        schedule = schedule or spec.settings
        assert isinstance(schedule, GeneticSchedule)
        self._spec = spec
        self._schedule = schedule

    def start(
        self, prompts: Sequence[Prompt], victim: DiffusionModel, targets: Targets | None, seed: int
    ) -> list[GeneticLane]:
        """A fresh lane for each prompt, with a random population."""
        assert targets is not None
        return [self._lane(prompt, targets.base, seed) for prompt in prompts]

    def _lane(self, prompt: Prompt, base: DiffusionModel, seed: int) -> GeneticLane:
        generator, vocabulary = lane_generator(seed, prompt), base.vocabulary
        shape = (self._schedule.population, self._spec.slots)
        return GeneticLane(
            prompt,
            generator,
            slots=lay_out(prompt.text, self._spec.slots, self._spec.placement, vocabulary),
            wanted=_states([prompt.text], base)[0] + self._schedule.strength * self._direction(base),
            population=torch.randint(len(vocabulary.typeable), shape, generator=generator),
            base=base,
        )

    def _direction(self, base: DiffusionModel) -> torch.Tensor:
        """Mean difference (n,) that the concept's word makes."""
        word = self._spec.word
        if not word:
            raise ValueError("ring-a-bell needs the concept's word")
        with_it = _states([phrase.format(word) for phrase in PHRASES], base)
        without = _states([phrase.format("").strip() for phrase in PHRASES], base)
        return (with_it - without).mean(0)

    def advance(self, lanes: Sequence[GeneticLane], victim: DiffusionModel) -> list[GenerationRequest | None]:
        """Some generations on every lane, then the fittest that has not been drawn yet."""
        return [self._advance(lane, victim) if lane.block < self._schedule.rounds else None for lane in lanes]

    def _advance(self, lane: GeneticLane, victim: DiffusionModel) -> GenerationRequest | None:
        lane.block += 1
        for _ in range(self._schedule.generations):
            self._generation(lane)
            lane.steps += 1
        lane.population = self._ranked(lane, lane.population)
        best = next((row for row in map(tuple, lane.population.tolist()) if row not in lane.drawn), None)
        if best is None or lane.error is not None:
            return None
        lane.drawn.add(best)
        return propose(lane, lane.slots, _ids(best, lane), victim.vocabulary)

    def _generation(self, lane: GeneticLane) -> None:
        """The fitter half lives on; its children replace the other."""
        ranked = self._ranked(lane, lane.population)
        parents = ranked[: (len(ranked) + 1) // 2]
        lane.population = torch.cat([parents, self._children(parents, len(ranked) - len(parents), lane)])

    def _children(self, parents: torch.Tensor, count: int, lane: GeneticLane) -> torch.Tensor:
        """Children (count, k) of random parents: of two, cut at a random slot, or of one; some with a new token."""
        slots, generator = parents.shape[1], lane.generator
        mothers, fathers = (parents[torch.randint(len(parents), (count,), generator=generator)] for _ in range(2))
        cuts = torch.randint(slots + 1, (count, 1), generator=generator)
        crossed = torch.rand((count, 1), generator=generator) < self._schedule.crossover
        children = torch.where(crossed & (torch.arange(slots) >= cuts), fathers, mothers)
        changed = torch.rand((count, 1), generator=generator) < self._schedule.mutation
        where = torch.arange(slots) == torch.randint(slots, (count, 1), generator=generator)
        fresh = torch.randint(len(lane.base.vocabulary.typeable), (count, 1), generator=generator)
        return torch.where(changed & where, fresh, children)

    def _ranked(self, lane: GeneticLane, population: torch.Tensor) -> torch.Tensor:
        """A population by the squared distance of its text states to the wanted ones, the nearest first."""
        rows = list(map(tuple, population.tolist()))
        if new := [row for row in dict.fromkeys(rows) if row not in lane.distances]:
            ids = torch.stack([lane.slots.padded(_ids(row, lane), lane.base.vocabulary) for row in new])
            found = (_encoded(ids, lane.base) - lane.wanted).square().sum(1)
            note_overflow(lane, f"the distance of text states in round {lane.block}", found)
            lane.distances |= dict(zip(new, found.tolist(), strict=True))
        return population[torch.tensor([lane.distances[row] for row in rows]).argsort(stable=True)]


def _ids(row: Sequence[int], lane: GeneticLane) -> list[int]:
    return [int(lane.base.vocabulary.typeable[index]) for index in row]


def _states(texts: Sequence[str], base: DiffusionModel) -> torch.Tensor:
    """The un-erased model's text encodings (N, n)."""
    vocabulary = base.vocabulary
    plain = [Slots(tuple(vocabulary.ids(text)[: vocabulary.length - 2]), ()) for text in texts]
    return _encoded(torch.stack([slots.padded([], vocabulary) for slots in plain]), base)


@torch.no_grad()
def _encoded(ids: torch.Tensor, base: DiffusionModel) -> torch.Tensor:
    ids = ids.to(base.device)
    return base.encode(ids, base.vocabulary.embeddings[ids]).vectors()
