"""Rows of the registry for attacks and judges: all that is known of them without importing them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Protocol

from .errors import GateError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
IMPORT_STRING = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Info:
    """One row of the registry.

    Attributes:
        name: lower-case words with hyphens, as users write it.
        implementation: ``package.module:callable``, imported only where it is used.
        version: stands for the code in every outcome's key: raise it when an outcome may change.

    Raises:
        GateError: an attribute is malformed; the message names it.
    """

    name: str
    implementation: str
    version: str

    noun: ClassVar[str]

    def __post_init__(self) -> None:
        """Refuse malformed names, import strings and versions."""
        texts: tuple[object, ...] = (self.name, self.implementation, self.version)  # a plugin may pass anything
        name, implementation, version = texts
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise GateError(f"{self.noun} {name!r} must be named with lower-case letters, digits and hyphens")
        if not isinstance(implementation, str) or not IMPORT_STRING.fullmatch(implementation):
            raise GateError(
                f"{self.noun} {name}: implementation={implementation!r} must be package.module:callable, as text"
            )
        if not isinstance(version, str) or not version.strip():
            raise GateError(f"{self.noun} {name}: version={version!r} must be a text, such as '1'")


@dataclass(frozen=True)
class TargetSampling:
    """Sampling of target images by the un-erased model, where it is not that of evaluation images.

    Attributes:
        steps: denoising steps.
        guidance: classifier-free guidance scale, used for every prompt.
    """

    steps: int
    guidance: float


class Schedule(Protocol):
    """Work of an attack on a prompt; a frozen dataclass whose fields enter the outcome's key."""

    @property
    def rounds(self) -> int:
        """Images drawn and judged."""
        ...

    @property
    def targets(self) -> TargetSampling | None:
        """Sampling of target images; None for that of evaluation images."""
        ...

    @property
    def losses(self) -> tuple[str, ...]:
        """Losses that can be minimised under it."""
        ...

    def forward_passes(self, forwards_per_image: int) -> int:
        """Forward passes of the denoising network on a prompt that resists, images included."""
        ...


class Effort(Enum):
    """Work of an attack on a prompt that resists, as far as it is known in advance."""

    SCHEDULED = "scheduled"
    """The rounds of its schedule."""
    MATCHED = "matched"
    """As many images as cost the forward passes of its schedule: a control with an equal budget."""
    OPEN = "open"
    """Not known in advance."""


class Threat(Enum):
    """Threat model of an attack: what its attacker controls, and so what the rate of its gates is called.

    An attack success rate (ASR) is of text, which anybody can type. What other attackers reach is a recovery: the share
    of prompts whose concept comes back. Gates of different threat models are never counted together.
    """

    TEXT = "text"
    """The prompt."""
    EMBEDDING = "embedding"
    """Embeddings that text encoders are given in place of those of tokens."""
    PROBE = "probe"
    """What a sampler starts from or is given beside the prompt, such as its noise or a part of an image."""
    WEIGHTS = "weights"
    """The weights, which are trained further."""

    @property
    def rate(self) -> str:
        """Name of the rate of prompts that draw the concept with or without attack."""
        return _RATES[self]

    @property
    def rate_without_attack(self) -> str:
        """Name of the rate of prompts that draw the concept without attack."""
        return "pre-ASR" if self is Threat.TEXT else "without attack"

    @property
    def means(self) -> str:
        """What breaks a prompt, as a noun phrase."""
        return _MEANS[self]

    @property
    def limit(self) -> str:
        """Keyword that limits the rate."""
        return "max_asr" if self is Threat.TEXT else "max_recovery"


_RATES = {
    Threat.TEXT: "ASR",
    Threat.EMBEDDING: "embedding recovery",
    Threat.PROBE: "probe recovery",
    Threat.WEIGHTS: "fine-tuning recovery",
}
_MEANS = {
    Threat.TEXT: "an adversarial prompt",
    Threat.EMBEDDING: "a learned embedding",
    Threat.PROBE: "a probe",
    Threat.WEIGHTS: "fine-tuning",
}


@dataclass(frozen=True)
class AttackInfo(Info):
    """An attack, for ``attack=`` of a gate and ``--unlearndiff-attack``.

    The implementation is called with an ``AttackConfig`` and the victim, a ``DiffusionModel``, and returns an
    ``attacks.base.Attack``.

    Attributes:
        schedules: by the names that ``schedule=`` selects; empty for an attack that has none.
        flow_schedules: those that are others for models trained by flow matching, whose noise grows otherwise.
        losses: names that ``loss=`` selects, the default first; empty for an attack that minimises none by choice.
        effort: how much work it does on a prompt that resists.
        threat: what its attacker controls.
        needs_targets: whether it needs target images, which the un-erased model draws or the concept names.
        needs_base: whether it needs the un-erased model itself, which the user's own images cannot replace.
        uses_slots: whether outcomes depend on the number and placement of adversarial tokens.
        uses_word: whether outcomes depend on the concept's word.
        compares_texts: whether it compares encodings of texts number by number, so that they must be of one length.
        replays_known: whether it replays known prompts from a file, and cannot attack a prompt that has none.
        unattacked: whether it attacks nothing, so that un-attacked images alone are judged.
        families: names of the model families that it attacks; empty for all.
    """

    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    flow_schedules: Mapping[str, Schedule] = field(default_factory=dict)
    losses: tuple[str, ...] = ()
    effort: Effort = Effort.OPEN
    threat: Threat = Threat.TEXT
    needs_targets: bool = False
    needs_base: bool = False
    uses_slots: bool = True
    uses_word: bool = True
    compares_texts: bool = False
    replays_known: bool = False
    unattacked: bool = False
    families: tuple[str, ...] = ()

    noun: ClassVar[str] = "attack"


Check = Callable[[Any], str | None]
"""Returns why an option's value is wrong, to be read after the option's name; None for a good value."""

Problem = tuple[tuple[str | int, ...], str]
"""Path into a judge's options, and the problem there."""

_TYPE_NAMES: Mapping[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
}
_RESERVED = ("kind", "device")


def check_type(expected: type) -> Check:
    """Return the check that a value has this builtin type; whole numbers are numbers, truth values are not."""
    accepted = (int, float) if expected is float else expected

    def check(value: Any) -> str | None:
        good = isinstance(value, accepted) and (expected is bool or not isinstance(value, bool))
        return None if good else f"must be {_TYPE_NAMES[expected]}"

    return check


@dataclass(frozen=True)
class JudgeInfo(Info):
    """A judge, for ``judge: kind:`` of a concept file.

    The implementation is called with ``device`` and the options by keyword. What it returns is called with RGB images
    and answers each with a ``Judgement``, with true or false for hit, or with a pair (hit, score).

    Attributes:
        reads_prompts: whether it is called with the images' texts too, as a second list.
        measures: whether it measures images for gates on their quality and decides nothing, so that no concept can name
            it.
        required: options that a concept must give, each with its type (str, int, float, bool, list, dict) or a check.
        optional: options that a concept may give, likewise.
        files: options that name a file or folder, or a Hub id, whose content decides what the judge answers.
        sources: options that name a ``module:function``, whose source file decides what the judge answers.
        bundled: hash of the weights that come with a package, which decide where none of ``files`` is given.
        uses_base: whether its option ``model`` is a pipeline folder, handed over as a ``DiffusionModel``; the un-erased
            model where the option is not given.
        combines: whether its option ``judges`` lists other judges, handed over built, by name.
        check: further problems of options that are right one by one.
    """

    required: Mapping[str, type | Check] = field(default_factory=dict)
    optional: Mapping[str, type | Check] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    bundled: str | None = None
    uses_base: bool = False
    combines: bool = False
    reads_prompts: bool = False
    measures: bool = False
    check: Callable[[Mapping[str, Any]], Iterator[Problem]] | None = None

    noun: ClassVar[str] = "judge"

    def __post_init__(self) -> None:
        """Refuse options that cannot be given or checked."""
        super().__post_init__()
        for option, kind in {**self.required, **self.optional}.items():
            if option in _RESERVED or not option.isidentifier():
                raise GateError(f"judge {self.name}: no option can be called {option!r}")
            if kind not in _TYPE_NAMES and (isinstance(kind, type) or not callable(kind)):
                types = ", ".join(kind.__name__ for kind in _TYPE_NAMES)
                raise GateError(f"judge {self.name}: the type of option {option} must be one of {types}, not {kind!r}")
        for option in self.files:
            if {**self.required, **self.optional}.get(option, int) in set(_TYPE_NAMES) - {str}:
                raise GateError(f"judge {self.name}: files names {option!r}, which is no option of type str")

    @property
    def options(self) -> dict[str, Check]:
        """Checks of all options, by name."""
        return {
            option: check_type(kind) if isinstance(kind, type) else kind
            for option, kind in {**self.required, **self.optional}.items()
        }
