"""Ring-A-Bell (Tsai et al., ICLR 2024, arXiv 2310.10012): tokens that move the text encoder towards a concept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ..core.attack_config import AttackConfig
from ..core.concept import Prompt
from ..core.images import GenerationRequest
from ..core.info import Schedule
from ..models.diffusion_model import DiffusionModel
from ..models.families.vocabulary import Slots
from ..models.target_images import Targets
from .base import PromptState, note_overflow, prompt_generator
from .schedules import GeneticSchedule
from .slots import Choice, propose, slots_of, token_ids
from .text_encoder import PHRASES, TextEncoderAttack


@dataclass(eq=False)
class GeneticState(PromptState):
    """A prompt whose tokens are bred.

    Attributes:
        slots: the prompt with room for the tokens.
        target: text encoding (n,) to come close to.
        population: indices (P, k) into the typeable tokens, the fittest first from the first generation on.
        distances: of every candidate that was ever alive, to the target.
        drawn: candidates that have been requested.
        base: the un-erased model, whose text states these are.
    """

    slots: Slots = field(kw_only=True)
    target: torch.Tensor = field(kw_only=True)
    population: torch.Tensor = field(kw_only=True)
    distances: dict[Choice, float] = field(default_factory=dict, kw_only=True)
    drawn: set[Choice] = field(default_factory=set, kw_only=True)
    base: DiffusionModel = field(kw_only=True)


class GeneticAttack(TextEncoderAttack[GeneticState]):
    """Breeds tokens whose prompt's text states come close to the prompt's own plus the concept's direction.

    Sees nothing of the victim but its tokenizer: text states are the un-erased model's. Where the paper's authors
    replace the prompt by 16 free tokens, here the tokens stand in the prompt's slots, as in every attack of this
    package, and the direction comes from PHRASES, not from pairs of prompts written for the concept.

    Args:
        config: slots, placement, schedule and the concept's word.
        model: the victim.
        schedule: how much work, where not the configuration's.
    """

    def __init__(self, config: AttackConfig, model: DiffusionModel, schedule: Schedule | None = None) -> None:
        super().__init__(config, model)
        schedule = schedule or config.settings
        assert isinstance(schedule, GeneticSchedule)
        self._schedule = schedule

    def start(self, prompts: Sequence[Prompt], targets: Targets | None, seed: int) -> list[GeneticState]:
        """Return a fresh state for each prompt, with a random population.

        Raises:
            ValueError: the configuration has no word.
        """
        assert targets is not None
        return [self._begin(prompt, targets.base, seed) for prompt in prompts]

    def _begin(self, prompt: Prompt, base: DiffusionModel, seed: int) -> GeneticState:
        generator, vocabulary = prompt_generator(seed, prompt), base.vocabulary
        shape = (self._schedule.population, self._config.slots)
        return GeneticState(
            prompt,
            generator,
            slots=slots_of(self._config, prompt.text, vocabulary),
            target=base.encode_prompts([prompt.text]).vectors()[0] + self._schedule.strength * self._direction(base),
            population=torch.randint(len(vocabulary.typeable), shape, generator=generator),
            base=base,
        )

    def _direction(self, base: DiffusionModel) -> torch.Tensor:
        """Return the mean difference (n,) that the concept's word makes."""
        with_it = self._phrases(base)
        without = base.encode_prompts([phrase.format("").strip() for phrase in PHRASES]).vectors()
        return (with_it - without).mean(0)

    def _tensors(self, state: GeneticState) -> dict[str, torch.Tensor]:
        return {
            "target": state.target,
            "population": state.population,
            "candidates": self._rows(list(state.distances)),
            "distances": torch.tensor(list(state.distances.values()), dtype=torch.float64),
            "drawn": self._rows(sorted(state.drawn)),
        }

    def _restore(
        self, prompt: Prompt, generator: torch.Generator, tensors: Mapping[str, torch.Tensor], targets: Targets | None
    ) -> GeneticState:
        assert targets is not None
        candidates = map(tuple, tensors["candidates"].tolist())
        return GeneticState(
            prompt,
            generator,
            slots=slots_of(self._config, prompt.text, targets.base.vocabulary),
            target=tensors["target"].to(targets.base.device, copy=True),
            population=tensors["population"].clone(),
            distances=dict(zip(candidates, tensors["distances"].tolist(), strict=True)),
            drawn=set(map(tuple, tensors["drawn"].tolist())),
            base=targets.base,
        )

    def advance(self, states: Sequence[GeneticState]) -> list[GenerationRequest | None]:
        """Breed some generations of every state, then return the fittest that has not been drawn yet."""
        return [self._advance(state) if state.round < self._schedule.rounds else None for state in states]

    def _advance(self, state: GeneticState) -> GenerationRequest | None:
        state.round += 1
        for _ in range(self._schedule.generations):
            self._breed(state)
            state.steps += 1
        state.population = self._ranked(state, state.population)
        best = next((row for row in map(tuple, state.population.tolist()) if row not in state.drawn), None)
        if best is None or state.error is not None:
            return None
        state.drawn.add(best)
        return propose(state, state.slots, token_ids(best, state.base.vocabulary.typeable), self._model.vocabulary)

    def _breed(self, state: GeneticState) -> None:
        """Replace the less fit half by children of the fitter one."""
        ranked = self._ranked(state, state.population)
        parents = ranked[: (len(ranked) + 1) // 2]
        state.population = torch.cat([parents, self._children(parents, len(ranked) - len(parents), state)])

    def _children(self, parents: torch.Tensor, count: int, state: GeneticState) -> torch.Tensor:
        """Return children (count, k) of random parents: of two, cut at a random slot, or of one; some mutated."""
        slots, generator = parents.shape[1], state.generator
        mothers, fathers = (parents[torch.randint(len(parents), (count,), generator=generator)] for _ in range(2))
        cuts = torch.randint(slots + 1, (count, 1), generator=generator)
        crossed = torch.rand((count, 1), generator=generator) < self._schedule.crossover
        children = torch.where(crossed & (torch.arange(slots) >= cuts), fathers, mothers)
        changed = torch.rand((count, 1), generator=generator) < self._schedule.mutation
        slot = torch.arange(slots) == torch.randint(slots, (count, 1), generator=generator)
        fresh = torch.randint(len(state.base.vocabulary.typeable), (count, 1), generator=generator)
        return torch.where(changed & slot, fresh, children)

    def _ranked(self, state: GeneticState, population: torch.Tensor) -> torch.Tensor:
        """Sort a population by the squared distance of its text states to the target, the nearest first."""
        rows = list(map(tuple, population.tolist()))
        if new := [row for row in dict.fromkeys(rows) if row not in state.distances]:
            distances = (self._vectors(state.slots, new, state.base) - state.target).square().sum(1)
            note_overflow(state, f"the distance of text states in round {state.round}", distances)
            state.distances |= dict(zip(new, distances.tolist(), strict=True))
        return population[torch.tensor([state.distances[row] for row in rows]).argsort(stable=True)]
