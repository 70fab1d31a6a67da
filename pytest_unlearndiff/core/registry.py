"""All attacks, judges, checkpoint formats, families, defenses and reports that a process knows, one row each.

A row describes its thing without importing it: built-in packages list theirs as ``ROWS`` in an ``__init__`` that needs
no torch, and plugins return theirs from the hook ``pytest_unlearndiff_register``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib import import_module
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeVar

from .errors import GateError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_IMPORT_STRING = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


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
        if not isinstance(implementation, str) or not _IMPORT_STRING.fullmatch(implementation):
            raise GateError(
                f"{self.noun} {name}: implementation={implementation!r} must be package.module:callable, as text"
            )
        if not isinstance(version, str) or not version.strip():
            raise GateError(f"{self.noun} {name}: version={version!r} must be a text, such as '1'")


@dataclass(frozen=True)
class TargetSampling:
    """How the un-erased model draws target images, where not as evaluation images are drawn.

    Attributes:
        steps: denoising steps.
        guidance: classifier-free guidance scale, used for every prompt.
    """

    steps: int
    guidance: float


class Schedule(Protocol):
    """How much work an attack does on a prompt; a frozen dataclass whose fields enter the outcome's key."""

    @property
    def rounds(self) -> int:
        """Images drawn and judged."""
        ...

    @property
    def targets(self) -> TargetSampling | None:
        """How target images are drawn; None for as evaluation images are."""
        ...

    @property
    def losses(self) -> tuple[str, ...]:
        """Losses that can be minimised under it."""
        ...

    def forward_passes(self, forwards_per_image: int) -> int:
        """Forward passes of the denoising network on a prompt that resists, images included."""
        ...


class Effort(Enum):
    """How much work an attack does on a prompt that resists."""

    SCHEDULED = "scheduled"
    """The rounds of its schedule."""
    MATCHED = "matched"
    """As many images as cost the forward passes of its schedule: a control with an equal budget."""
    OPEN = "open"
    """Not known in advance."""


@dataclass(frozen=True)
class AttackInfo(Info):
    """An attack, for ``attack=`` of a gate and ``--unlearndiff-attack``.

    The implementation is called with an ``AttackConfig`` and the victim, a ``DiffusionModel``, and returns an
    ``attacks.base.Attack``.

    Attributes:
        schedules: by the names that ``schedule=`` selects; empty for an attack that has none.
        losses: names that ``loss=`` selects, the default first; empty for an attack that minimises none by choice.
        effort: how much work it does on a prompt that resists.
        needs_targets: whether it needs target images, which the un-erased model draws or the concept names.
        needs_base: whether it needs the un-erased model itself, which the user's own images cannot replace.
        uses_slots: whether outcomes depend on the number and placement of adversarial tokens.
        uses_word: whether outcomes depend on the concept's word.
        replays_known: whether it replays known prompts from a file, and cannot attack a prompt that has none.
        unattacked: whether it attacks nothing, so that un-attacked images alone are judged.
    """

    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    losses: tuple[str, ...] = ()
    effort: Effort = Effort.OPEN
    needs_targets: bool = False
    needs_base: bool = False
    uses_slots: bool = True
    uses_word: bool = True
    replays_known: bool = False
    unattacked: bool = False

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
    check: Callable[[Mapping[str, Any]], Iterator[Problem]] | None = None

    noun: ClassVar[str] = "judge"

    def __post_init__(self) -> None:
        """Refuse options that cannot be given or checked."""
        super().__post_init__()
        for option, kind in {**self.required, **self.optional}.items():
            if option in _RESERVED or not option.isidentifier():
                raise GateError(f"judge {self.name}: no option can be called {option!r}")
            if kind not in _TYPE_NAMES and (isinstance(kind, type) or not callable(kind)):
                types = ", ".join(each.__name__ for each in _TYPE_NAMES)
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


@dataclass(frozen=True)
class FormatInfo(Info):
    """A checkpoint format, told by its tensors' names.

    The implementation is called with tensors by dotted name and the file's ``models.tensor_files.Contents``, and
    returns a ``models.weight_patches.DetectedFormat``; or None for tensors of another format after all.

    Attributes:
        any_name: pattern that the beginning of at least one name matches.
        every_name: pattern that the beginning of every name matches; either of both suffices.
        folder_config: name of the configuration file that makes a folder one of this format.
        folder_weights: beginning of the name of the one weight file beside it.
    """

    any_name: str | None = None
    every_name: str | None = None
    folder_config: str | None = None
    folder_weights: str = ""

    def __post_init__(self) -> None:
        """Refuse patterns that are none, and a row without one."""
        super().__post_init__()
        if self.any_name is None and self.every_name is None:
            raise GateError(f"format {self.name}: any_name or every_name must say which tensors' names it has")
        for pattern in (self.any_name, self.every_name):
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise GateError(f"format {self.name}: {pattern!r} is no regular expression: {error}") from None

    def matches(self, names: Iterable[str]) -> bool:
        """Tell whether tensors of these names may be of this format."""
        names = list(names)
        some, every = self.any_name, self.every_name
        return (some is not None and any(re.match(some, name) for name in names)) or (
            every is not None and bool(names) and all(re.match(every, name) for name in names)
        )

    noun: ClassVar[str] = "format"


@dataclass(frozen=True)
class KnownBase:
    """A published pipeline that checkpoints of a family are made from.

    Attributes:
        title: of the models with its shapes, for people.
        hub_id: on the Hugging Face Hub.
        remark: why another base is possible too.
        text_width: numbers of a position's text encoding, as cross-attention reads them.
        second_text_width: token embeddings of a further text encoder, where those alone tell.
    """

    title: str
    hub_id: str
    remark: str
    text_width: int
    second_text_width: int | None = None


@dataclass(frozen=True)
class FamilyInfo(Info):
    """A family of pipelines that can be attacked.

    The implementation is called with a pipeline and a ``Sampling``, and returns a ``models.families.base.Family``.

    Attributes:
        title: for people.
        pipeline: ``package.module:class`` that draws.
        components: classes that each component with weights may have, by component.
        network: component that predicts noise.
        network_config: settings that the network must have, since other values ask for more inputs.
        other_pipelines: names of further pipeline classes whose folders are loaded as ``pipeline``.
        load_options: arguments of ``from_pretrained`` that leave out all but these components and a safety checker.
        load_options_unchecked: arguments that leave out the safety checker.
        bases: published pipelines, by which a checkpoint's base is guessed.
        own_name: pattern found only in names of this family's tensors, where shapes alone would mislead.
    """

    title: str = ""
    pipeline: str = ""
    components: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    network: str = ""
    network_config: Mapping[str, object] = field(default_factory=dict)
    other_pipelines: tuple[str, ...] = ()
    load_options: Mapping[str, object] = field(default_factory=dict)
    load_options_unchecked: Mapping[str, object] = field(default_factory=dict)
    bases: tuple[KnownBase, ...] = ()
    own_name: str | None = None

    def __post_init__(self) -> None:
        """Refuse a pipeline that is no import string, and a network that is no component."""
        super().__post_init__()
        if not _IMPORT_STRING.fullmatch(self.pipeline):
            raise GateError(f"family {self.name}: pipeline={self.pipeline!r} must be package.module:class, as text")
        if self.network not in self.components:
            raise GateError(f"family {self.name}: network={self.network!r} is none of its components")

    @property
    def pipeline_classes(self) -> tuple[str, ...]:
        """Names of all pipeline classes that belong to the family."""
        return (self.pipeline.rpartition(":")[2], *self.other_pipelines)

    noun: ClassVar[str] = "family"


@dataclass(frozen=True)
class DefenseInfo(Info):
    """A defense: an inference-time eraser.

    The implementation is called with its options by keyword, and returns a ``models.defenses.base.Defense``.

    Attributes:
        description: for reports and keys, with options in braces: ``negative prompt {prompt!r}``.
        options: names of its options, all of which are texts that must be given.
        choices: values that an option may have, where not any text.
    """

    description: str = ""
    options: tuple[str, ...] = ()
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a description that its options do not complete."""
        super().__post_init__()
        try:
            described = self.describe(dict.fromkeys(self.options, ""))
        except (LookupError, ValueError) as error:
            raise GateError(f"defense {self.name}: description={self.description!r} names no option: {error}") from None
        if not described.strip():
            raise GateError(f"defense {self.name}: description must say what it does, for reports and keys")

    def describe(self, options: Mapping[str, str]) -> str:
        """Describe it with these options, in words that tell versions apart."""
        version = "" if self.version == "1" else f" (version {self.version})"
        return self.description.format(**options) + version

    def check_options(self, options: Mapping[str, str]) -> None:
        """Refuse missing and unknown options, and values that are no choice.

        Raises:
            ValueError: names the first.
        """
        if missing := [name for name in self.options if name not in options]:
            raise ValueError(f"{self.name} needs {', '.join(missing)}: {self.name}:{missing[0]}=VALUE")
        if unknown := [name for name in options if name not in self.options]:
            raise ValueError(f"{self.name} has no option {unknown[0]!r}")
        for name, choices in self.choices.items():
            if options[name] not in choices:
                raise ValueError(f"{self.name}: {name}={options[name]!r} is none of {', '.join(choices)}")

    noun: ClassVar[str] = "defense"


@dataclass(frozen=True)
class ReportInfo(Info):
    """A report that a session writes."""

    noun: ClassVar[str] = "report"


_PACKAGES: Mapping[type[Info], str] = {
    AttackInfo: "attacks",
    JudgeInfo: "judges",
    FormatInfo: "models.formats",
    FamilyInfo: "models.families",
    DefenseInfo: "models.defenses",
    ReportInfo: "reports",
}
"""Packages of the built-in rows, each a tuple ``ROWS``."""

_InfoT = TypeVar("_InfoT", bound=Info)


class Registry:
    """Rows by kind and name: the built-in ones, read on first use, and those that plugins add.

    Args:
        added: rows of plugins.

    Raises:
        GateError: as ``add``.
    """

    def __init__(self, added: Iterable[object] = ()) -> None:
        self._tables: dict[type[Info], dict[str, Any]] = {}
        self._added: list[Info] = []
        for info in added:
            self.add(info)

    @property
    def added(self) -> tuple[Info, ...]:
        """Rows that plugins added, to be sent to other processes."""
        return tuple(self._added)

    def add(self, info: object) -> None:
        """Add a plugin's row; adding an equal one again changes nothing.

        Raises:
            GateError: it is no row, or its name is taken.
        """
        kind = next((kind for kind in _PACKAGES if isinstance(info, kind)), None)
        if kind is None or not isinstance(info, Info):
            known = ", ".join(each.__name__ for each in _PACKAGES)
            raise GateError(f"a plugin registers {info!r}, which is none of {known}")
        table = self._table(kind)
        if info.name not in table:
            table[info.name] = info
            self._added.append(info)
        elif info.name not in {other.name for other in self._added if isinstance(other, kind)}:
            raise GateError(f"a plugin names its {info.noun} {info.name!r}, as a built-in one: give it another name")
        elif table[info.name] != info:
            raise GateError(f"two plugins name their {info.noun} {info.name!r}: one of them needs another name")

    @property
    def attacks(self) -> Mapping[str, AttackInfo]:
        """Attacks by name."""
        return self._view(AttackInfo)

    @property
    def judges(self) -> Mapping[str, JudgeInfo]:
        """Judges by name."""
        return self._view(JudgeInfo)

    @property
    def formats(self) -> Mapping[str, FormatInfo]:
        """Checkpoint formats by name."""
        return self._view(FormatInfo)

    @property
    def families(self) -> Mapping[str, FamilyInfo]:
        """Families of models by name."""
        return self._view(FamilyInfo)

    @property
    def defenses(self) -> Mapping[str, DefenseInfo]:
        """Inference-time erasers by name."""
        return self._view(DefenseInfo)

    @property
    def reports(self) -> Mapping[str, ReportInfo]:
        """Reports by name."""
        return self._view(ReportInfo)

    def _view(self, kind: type[_InfoT]) -> Mapping[str, _InfoT]:
        return MappingProxyType(self._table(kind))

    def _table(self, kind: type[_InfoT]) -> dict[str, _InfoT]:
        if kind not in self._tables:
            package = import_module(f"pytest_unlearndiff.{_PACKAGES[kind]}")
            self._tables[kind] = {info.name: info for info in package.ROWS}
        return self._tables[kind]


_registry = Registry()


def registry() -> Registry:
    """Return this process's registry."""
    return _registry


def set_registry(new: Registry) -> None:
    """Replace this process's registry."""
    global _registry
    _registry = new
