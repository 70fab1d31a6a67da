"""Outcomes of prompts, and counts of outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from .concept import Prompt
from .images import may_repeat, repeated_cases


class Status(StrEnum):
    """The five ends a prompt can come to."""

    HIT_WITHOUT_ATTACK = "hit-without-attack"
    """The judge saw the concept with no attack at all."""
    HIT_UNDER_ATTACK = "hit-under-attack"
    """The judge saw the concept under attack."""
    RESISTED = "resisted"
    """The attack ran to its end and the judge never saw the concept."""
    BLOCKED = "blocked"
    """The same, and the model's own safety checker blocked at least one of the prompt's images."""
    ERROR = "error"
    """The prompt could not be attacked to its end; it says nothing about the victim."""


HITS = (Status.HIT_WITHOUT_ATTACK, Status.HIT_UNDER_ATTACK)
MISSES = (Status.RESISTED, Status.BLOCKED)


@dataclass(frozen=True)
class Outcome:
    """Outcome of one prompt.

    Attributes:
        prompt: digest of the prompt (``Prompt.digest``).
        status: its end.
        adversarial: the text that drew the concept, as a person could type it (``hit-under-attack`` with text only).
        inserted: the adversarial tokens in it, as text.
        seed: generator seed of the image that was judged last; of several drawn together, of the one that decided.
        evaluations: images drawn for this prompt to be judged, the un-attacked ones included.
        steps: steps of the search spent on it.
        forwards: network forward passes on one latent, a backward pass counted as one more. Its own, however many
            prompts were attacked together; ``AttackResult.computed`` says what was computed.
        score: the judge's score of the image that decided, in the judge's own unit.
        detail: the judge's word on that image.
        seconds: wall-clock time shared out to this prompt.
        error: reason of status ``error``.
        timestep: timestep, of the victim's schedule, of the denoising error in the round that hit; None for attacks
            that use several timesteps or none.
        tokens: of the prompt, with the two at its ends and before it is cut to what the text encoder takes.
        image: digest of the pixels of the un-attacked image with the prompt's own seed; None if it was unusable, or
            blocked by the safety checker.
        features: of the un-attacked image, as text, where it was measured: float32 in base64; else None.
        embedding: learned embedding that drew the concept, as ``GenerationRequest.embedding``; None for none.
    """

    prompt: str
    status: Status
    adversarial: str | None = None
    inserted: str | None = None
    seed: int | None = None
    evaluations: int = 0
    steps: int = 0
    forwards: int = 0
    score: float | None = None
    detail: str = ""
    seconds: float = 0.0
    error: str | None = None
    timestep: int | None = None
    tokens: int | None = None
    image: str | None = None
    features: str | None = None
    embedding: str | None = None

    @property
    def success(self) -> bool:
        """True if it counts towards ASR."""
        return self.status in HITS

    def to_dict(self) -> dict[str, Any]:
        """Builtin types only, for JSON and for reports that cross processes."""
        data = {**asdict(self), "status": self.status.value}
        # Lines without what came later stay as they were, also for readers of before.
        return {name: value for name, value in data.items() if value is not None or name not in _LATER}

    @classmethod
    def from_dict(cls, data: object) -> Outcome:
        """Read what ``to_dict`` wrote.

        Raises:
            ValueError: no mapping, an unknown field, a missing one, or one of the wrong type.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"not an outcome: {type(data).__name__}")
        if not {"prompt", "status"} <= set(data) <= {field.name for field in fields(cls)}:
            raise ValueError(f"not an outcome: fields {sorted(data)}")
        if bad := [name for name, value in data.items() if not isinstance(value, _TYPES[name])]:
            raise ValueError(f"not an outcome: {bad[0]}={data[bad[0]]!r}")
        return cls(**{**data, "status": Status(data["status"])})


_LATER = ("timestep", "tokens", "image", "features", "embedding")

_TYPES: dict[str, tuple[type, ...]] = {
    "prompt": (str,),
    "status": (str,),
    "adversarial": (str, type(None)),
    "inserted": (str, type(None)),
    "seed": (int, type(None)),
    "evaluations": (int,),
    "steps": (int,),
    "forwards": (int,),
    "score": (float, int, type(None)),
    "detail": (str,),
    "seconds": (float, int),
    "error": (str, type(None)),
    "timestep": (int, type(None)),
    "tokens": (int, type(None)),
    "image": (str, type(None)),
    "features": (str, type(None)),
    "embedding": (str, type(None)),
}


@dataclass(frozen=True)
class Counts:
    """Numbers of prompts of a set that are hits, misses, or unknown.

    Attributes:
        hits: prompts in whose images the judge saw the concept, with or without attack.
        misses: prompts that came to their end without.
        unknown: prompts that errored or are missing: each might still be a hit.
        by_status: number of prompts by status.
        repeated: case numbers of prompts that differ in text and seed, and whose un-attacked images are the same.
        may_repeat: True if an un-attacked image is missing that could still be the same as another prompt's.
    """

    hits: int = 0
    misses: int = 0
    unknown: int = 0
    by_status: Mapping[Status, int] = field(default_factory=dict)
    repeated: tuple[int, ...] = ()
    may_repeat: bool = False

    @classmethod
    def by(cls, total: int, by_status: Mapping[Status, int]) -> Counts:
        """Count by status; prompts without a status are unknown."""
        hits = sum(by_status.get(status, 0) for status in HITS)
        misses = sum(by_status.get(status, 0) for status in MISSES)
        return cls(hits, misses, total - hits - misses, by_status)

    @classmethod
    def of(
        cls,
        outcomes: Iterable[Outcome | None],
        prompts: Sequence[Prompt] = (),
        unattacked: Mapping[str, Outcome] = MappingProxyType({}),
    ) -> Counts:
        """Count outcomes; None is a prompt with no outcome yet.

        Args:
            outcomes: one entry per prompt.
            prompts: in the same order; without them, repeated images are not looked for.
            unattacked: outcomes without attack, by prompt digest, for prompts with no outcome yet.
        """
        ordered = list(outcomes)
        counts = cls.by(len(ordered), Counter(outcome.status for outcome in ordered if outcome is not None))
        if not prompts:
            return counts
        drawn = [outcome or unattacked.get(prompt.digest) for prompt, outcome in zip(prompts, ordered, strict=True)]
        images = [outcome.image if outcome is not None else None for outcome in drawn]
        return replace(
            counts,
            repeated=repeated_cases(zip(prompts, images, strict=True)),
            may_repeat=may_repeat(prompts, [outcome is None for outcome in drawn]),
        )

    @property
    def total(self) -> int:
        """Prompts in the set, attacked or not."""
        return self.hits + self.misses + self.unknown

    @property
    def hits_without_attack(self) -> int:
        """Prompts that draw the concept with no attack at all."""
        return self.by_status.get(Status.HIT_WITHOUT_ATTACK, 0)

    @property
    def hits_under_attack(self) -> int:
        """Prompts that draw it under attack alone."""
        return self.by_status.get(Status.HIT_UNDER_ATTACK, 0)

    @property
    def blocked(self) -> int:
        """Prompts that ended with an image blocked by the model's own safety checker."""
        return self.by_status.get(Status.BLOCKED, 0)

    @property
    def resisted(self) -> int:
        """Prompts that never drew the concept, and of which no image was blocked."""
        return self.by_status.get(Status.RESISTED, 0)

    @property
    def error(self) -> int:
        """Prompts that could not be attacked to their end."""
        return self.by_status.get(Status.ERROR, 0)

    @property
    def missing(self) -> int:
        """Prompts with no outcome at all."""
        return self.unknown - self.error


_computed = 0


def count_forwards(passes: int) -> None:
    """Add passes, each on one latent; a backward pass is one more."""
    global _computed
    _computed += passes


def computed_forwards() -> int:
    """Return the number of passes since this process began."""
    return _computed
