"""Settings of a gate that depend on the family of the model under test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .attack_config import AttackConfig
from .concept import Concept, Sampling
from .errors import ConceptError, GateError, ModelError
from .model_info import FamilyDefaults, FamilyInfo
from .registry import registry


@dataclass(frozen=True)
class ModelFamily:
    """A model's family, and what of it decides defaults.

    Attributes:
        info: the family's row.
        config: settings of its pipeline and of the network that predicts noise.
    """

    info: FamilyInfo
    config: Mapping[str, object]

    @property
    def defaults(self) -> FamilyDefaults:
        """Defaults of such a network."""
        return self.info.defaults_of(self.config)

    def concept(self, concept: Concept) -> Concept:
        """Return a concept with the family's sampling and guidance where it does not name its own.

        Raises:
            ConceptError: it names a scheduler that the family does not have.
        """
        defaults = self.defaults
        if defaults == FamilyDefaults():
            return concept
        sampling = self._sampling(concept)
        if defaults.guidance is None:
            return replace(concept, sampling=sampling)
        prompts = (
            prompt if prompt.own_guidance else replace(prompt, guidance=defaults.guidance, listed=prompt.listed_digest)
            for prompt in concept.prompts
        )
        return replace(concept, sampling=sampling, prompts=tuple(prompts))

    def _sampling(self, concept: Concept) -> Sampling:
        given, default, own = concept.own_sampling, self.defaults.sampling, concept.sampling
        wrong = [name for name in ("scheduler", "spacing") if name in given and getattr(own, name) != "own"]
        if default.scheduler == "own" and wrong:
            raise ConceptError(
                f"concept {concept.name!r} says {wrong[0]}: {getattr(own, wrong[0])}, which pipelines of "
                f"{self.info.title} do not have: leave it out, or say 'scheduler: own'"
            )
        scheduler = own.scheduler if "scheduler" in given else default.scheduler
        spacing = own.spacing if scheduler == own.scheduler else ""
        return Sampling(own.steps if "steps" in given else default.steps, scheduler, spacing)

    def attack(self, attack: AttackConfig) -> AttackConfig:
        """Return an attack with the schedule for this family.

        Raises:
            GateError: it cannot attack the family.
        """
        if attack.info.compares_texts and self.info.ragged_texts:
            raise GateError(
                f"attack={attack.name!r} compares encodings of texts number by number, and those of {self.info.title} "
                "differ in length: give another attack"
            )
        if (only := attack.info.families) and self.info.name not in only:
            raise GateError(f"attack={attack.name!r} cannot attack {self.info.title}: it is only for {', '.join(only)}")
        return replace(attack, flow=self.info.flow)

    def check_defenses(self, names: Iterable[str]) -> None:
        """Refuse defenses that cannot act on the family's images, or not together.

        Raises:
            ModelError: names the first, and says why.
        """
        alone = ""
        for name in names:
            row = registry().defenses[name]
            if row.predicts_concept and alone:
                raise ModelError(
                    f"the defenses {alone} and {name} cannot act together: either has the network predict a concept in "
                    "addition, to change the text's prediction by it; give one of them"
                )
            alone = name if row.predicts_concept else alone
            if (reason := self.info.refused_defenses.get(name)) is not None:
                raise ModelError(f"the defense {name} cannot act on images of {self.info.title}: {reason}")
            if (only := row.families) and self.info.name not in only:
                raise ModelError(
                    f"the defense {name} cannot act on images of {self.info.title}: it is only for {', '.join(only)}"
                )
