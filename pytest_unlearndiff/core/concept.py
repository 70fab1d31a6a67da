"""A concept: its name, its prompts, its judge, where target images come from, how many slots the attack has."""

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
    """

    text: str
    seed: int
    guidance: float
    case: int

    @cached_property
    def digest(self) -> str:
        """Hash of all that can change a image; the case number is not among it."""
        content = json.dumps([self.text, self.seed, self.guidance], ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class JudgeConfig:
    """Which judge looks at the images, and with what options.

    Attributes:
        kind: a judge's name, such as ``image-classifier``.
        options: its options as the concept file gives them; paths are absolute by now.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


SCHEDULERS = ("lms", "own")
SPACINGS = ("linspace", "leading", "trailing", "own")


@dataclass(frozen=True)
class Sampling:
    """How evaluation images are drawn.

    Attributes:
        steps: denoising steps.
        scheduler: ``lms``, as published numbers use, or ``own`` for the pipeline's.
        spacing: which timesteps ``lms`` visits, one of SPACINGS; ``own`` for those that the pipeline's scheduler names.
            Where it is not given, ``linspace``, evenly from the last timestep to 0 as upstream (research:
            classifier_.py:66), since a scheduler's own changes when a pipeline is saved again; with the scheduler
            ``own``, always ``own``.
    """

    steps: int = 50
    scheduler: str = "lms"
    spacing: str = ""

    def __post_init__(self) -> None:
        """Fill in the spacing, so that a key names the one that is used."""
        if not self.spacing:
            object.__setattr__(self, "spacing", "linspace" if self.scheduler == "lms" else "own")


@dataclass(frozen=True)
class Concept:
    """What should be gone, and how to tell.

    Attributes:
        name: as it is written in a gate.
        prompts: the prompt set, in its order.
        judge: what looks at the images.
        slots: how many adversarial tokens the attack may use.
        sampling: how evaluation images are drawn.
        source: where the prompts come from, for reports.
        images: target images of the user's, absolute paths by prompt digest, of the whole set; the un-erased model
            draws them where there are none.
    """

    name: str
    prompts: tuple[Prompt, ...]
    judge: JudgeConfig
    slots: int = 3
    sampling: Sampling = field(default_factory=Sampling)
    source: str = ""
    images: Mapping[str, str] = field(default_factory=dict)

    def first(self, count: int | None) -> Concept:
        """The same concept with only its first ``count`` prompts.

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
        """The same concept with only the prompts of these case numbers.

        Raises:
            ConceptError: a case number is not in the set.
        """
        if unknown := sorted(set(numbers) - {prompt.case for prompt in self.prompts}):
            raise ConceptError(f"concept {self.name!r} has no prompt with case number {short_repr(unknown[0])}")
        return replace(self, prompts=tuple(prompt for prompt in self.prompts if prompt.case in numbers))
