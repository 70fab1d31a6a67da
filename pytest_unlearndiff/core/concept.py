"""A concept: its name, prompts, judge, sampling, target images and adversarial tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from .errors import ConceptError
from .untrusted import short_repr


@dataclass(frozen=True)
class Prompt:
    """One row of a prompt set.

    Attributes:
        text: what is typed.
        seed: generator seed of the image's initial latents.
        guidance: classifier-free guidance scale.
        case: the row's case number, for people.
        own_guidance: whether the prompt set says the scale; else it is a default, which model families may replace.
        listed: digest with the prompt set's default scale, where a model family has replaced that; else empty.
    """

    text: str
    seed: int
    guidance: float
    case: int
    own_guidance: bool = field(default=True, compare=False)
    listed: str = field(default="", compare=False)

    @cached_property
    def digest(self) -> str:
        """Hash of everything that can change an image; the case number cannot."""
        content = json.dumps([self.text, self.seed, self.guidance], ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def listed_digest(self) -> str:
        """Digest as the prompt set lists it, whatever the model's family: that of its target image."""
        return self.listed or self.digest


@dataclass(frozen=True)
class JudgeConfig:
    """A judge and its options.

    Attributes:
        kind: a judge's name, such as ``image-classifier``.
        options: as in the concept file, with absolute paths.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


SCHEDULERS = ("lms", "own")
SPACINGS = ("linspace", "leading", "trailing", "own")


@dataclass(frozen=True)
class Sampling:
    """Settings that evaluation images are generated with.

    Attributes:
        steps: denoising steps.
        scheduler: ``lms``, as published numbers use, or ``own`` for the pipeline's.
        spacing: which timesteps ``lms`` visits, one of SPACINGS; ``own`` for those that the pipeline's scheduler names.
            Default: ``linspace``, evenly from the last timestep to 0 as upstream (research: classifier_.py:66),
            since a scheduler's own changes when a pipeline is saved again; always ``own`` for scheduler ``own``.
    """

    steps: int = 50
    scheduler: str = "lms"
    spacing: str = ""

    def __post_init__(self) -> None:
        """Fill in the default spacing, so that a key names the one that is used."""
        if not self.spacing:
            object.__setattr__(self, "spacing", "linspace" if self.scheduler == "lms" else "own")


@dataclass(frozen=True)
class PromptSetFacts:
    """Facts of a prompt set that change no outcome, for reports.

    Attributes:
        source: its origin, in the concept's words or those of its publisher; empty where nobody says.
        rows: of the file that belong to the set, those that were left out among them; 0 where that is not known.
        left_out: rows that are no prompts, each with file, line and reason.
        repeated: prompts that are an earlier one again: of the same text, seed and guidance.
    """

    source: str = ""
    rows: int = 0
    left_out: tuple[str, ...] = ()
    repeated: int = 0

    @property
    def prompts(self) -> int:
        """Prompts of the whole set, repeated ones counted every time; 0 where that is not known."""
        return self.rows - len(self.left_out)

    @property
    def warning(self) -> str:
        """Say which rows were left out, and how many prompts stand twice; empty where all is well."""
        notes = []
        if self.left_out:
            more = ", ..." if len(self.left_out) > 1 else ""
            verb = "was" if len(self.left_out) == 1 else "were"
            notes.append(f"{len(self.left_out)} of {self.rows} rows {verb} left out ({self.left_out[0]}{more})")
        if self.repeated:
            notes.append(f"its {self.prompts} prompts are {self.prompts - self.repeated} different ones")
        return "; ".join(notes)

    def __str__(self) -> str:
        """Origin and warning."""
        return "; ".join(filter(None, (self.source, self.warning)))


@dataclass(frozen=True)
class Concept:
    """Prompts of a thing that should be gone or kept, and the judge that sees it.

    Attributes:
        name: as it is written in a gate.
        prompts: the prompt set, in its order.
        judge: what looks at the images.
        slots: number of adversarial tokens.
        sampling: settings of evaluation images.
        images: the user's target images: absolute paths by the prompts' ``listed_digest``, of the whole set; if empty,
            the un-erased model generates them.
        prompt_set: origin and facts of the prompts.
        own_sampling: names of the settings in ``sampling`` that the concept itself says; the others are defaults, which
            model families may replace.
    """

    name: str
    prompts: tuple[Prompt, ...]
    judge: JudgeConfig
    slots: int = 3
    sampling: Sampling = field(default_factory=Sampling)
    images: Mapping[str, str] = field(default_factory=dict)
    prompt_set: PromptSetFacts = field(default_factory=PromptSetFacts, compare=False)
    own_sampling: tuple[str, ...] = field(default=(), compare=False)

    def first(self, count: int | None) -> Concept:
        """Return the same concept with only its first ``count`` prompts; None for all.

        Raises:
            ConceptError: ``count`` is not between 1 and the size of the set.
        """
        if count is None:
            return self
        if not 1 <= count <= len(self.prompts):
            raise ConceptError(
                f"concept {self.name!r}: prompts={short_repr(count)} asked for, the set has {len(self.prompts)}; "
                f"ask for 1 to {len(self.prompts)}"
            )
        return replace(self, prompts=self.prompts[:count])

    def cases(self, numbers: tuple[int, ...]) -> Concept:
        """Return the same concept with only the prompts of these case numbers.

        Raises:
            ConceptError: a case number is not in the set.
        """
        if unknown := sorted(set(numbers) - {prompt.case for prompt in self.prompts}):
            raise ConceptError(f"concept {self.name!r} has no prompt with case number {short_repr(unknown[0])}")
        return replace(self, prompts=tuple(prompt for prompt in self.prompts if prompt.case in numbers))
