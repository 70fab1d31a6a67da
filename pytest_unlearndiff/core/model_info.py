"""Rows of what models are: checkpoint formats, families and defenses."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from .concept import Sampling
from .errors import GateError
from .info import IMPORT_STRING, Info


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
class ShapeRule:
    """A size of some matrices by which a base is told.

    Attributes:
        name: pattern that is found in the matrices' names.
        size: of the dimension that tells.
        meaning: of that number, for people.
        dimension: 0 for rows (outputs), 1 for columns (inputs).
    """

    name: str
    size: int
    meaning: str
    dimension: int = 1

    def holds(self, name: str, shape: tuple[int, ...]) -> bool:
        """Tell whether a tensor is one of these matrices."""
        return len(shape) == 2 and shape[self.dimension] == self.size and re.search(self.name, name) is not None

    def __str__(self) -> str:
        """``text states of 768 numbers``."""
        return f"{self.meaning} of {self.size} numbers"


@dataclass(frozen=True)
class KnownBase:
    """A published pipeline that checkpoints of a family are made from.

    Attributes:
        title: of the models with its shapes, for people.
        hub_id: on the Hugging Face Hub.
        remark: why another base is possible too.
        shapes: matrices by which it is told; any of them suffices.
        holds: pattern that some tensor's name must have, where shapes do not tell it from a relative.
        lacks: pattern that no tensor's name may have.
        declared: pattern of what its checkpoints call their architecture in metadata, in lower case.
    """

    title: str
    hub_id: str
    remark: str
    shapes: tuple[ShapeRule, ...]
    holds: str | None = None
    lacks: str | None = None
    declared: str | None = None

    def suits(self, names: Collection[str]) -> bool:
        """Tell whether a checkpoint with tensors of these names may be made from it."""
        if self.lacks is not None and any(re.search(self.lacks, name) for name in names):
            return False
        return self.holds is None or any(re.search(self.holds, name) for name in names)


@dataclass(frozen=True)
class FamilyDefaults:
    """Sampling of a family's images, where a concept does not say otherwise.

    Attributes:
        sampling: steps and scheduler.
        guidance: guidance scale of prompts without one of their own; None for what the prompt set's format says.
        config: settings of the network or its pipeline that has these defaults, where not all of the family do.
    """

    sampling: Sampling = field(default_factory=Sampling)
    guidance: float | None = None
    config: Mapping[str, object] = field(default_factory=dict)


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
        bases: published pipelines, by which a checkpoint's base is guessed; of several that suit, the first.
        own_name: pattern found only in names of this family's tensors, where shapes alone would mislead.
        defaults: sampling, the first whose ``config`` a network and its pipeline have.
        flow: whether its networks are trained by flow matching, instead of on DDPM's noise schedule.
        ragged_texts: whether encodings of its texts differ in length, so that each text is encoded, predicted for and
            drawn alone.
        refused_defenses: why these cannot act on its images, by the defense's name.
        optional: components that its pipelines may lack, as those of Stable Diffusion 3 without T5 do.
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
    defaults: tuple[FamilyDefaults, ...] = (FamilyDefaults(),)
    flow: bool = False
    ragged_texts: bool = False
    refused_defenses: Mapping[str, str] = field(default_factory=dict)
    optional: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a pipeline that is no import string, and a network that is no component."""
        super().__post_init__()
        if not IMPORT_STRING.fullmatch(self.pipeline):
            raise GateError(f"family {self.name}: pipeline={self.pipeline!r} must be package.module:class, as text")
        if self.network not in self.components:
            raise GateError(f"family {self.name}: network={self.network!r} is none of its components")

    @property
    def pipeline_classes(self) -> tuple[str, ...]:
        """Names of all pipeline classes that belong to the family."""
        return (self.pipeline.rpartition(":")[2], *self.other_pipelines)

    def defaults_of(self, config: Mapping[str, object]) -> FamilyDefaults:
        """Return the defaults of a network and pipeline with this configuration; the first ones where none fit."""
        fitting = (
            row for row in self.defaults if all(config.get(setting) == value for setting, value in row.config.items())
        )
        return next(fitting, self.defaults[0])

    noun: ClassVar[str] = "family"


@dataclass(frozen=True)
class DefenseInfo(Info):
    """A defense: an inference-time eraser.

    The implementation is called with its options by keyword, and returns a ``models.defenses.Defense``.

    Attributes:
        description: for reports and keys, with options in braces: ``negative prompt {prompt!r}``.
        options: names of its options, all of which are texts that must be given, but for those with a default.
        choices: values that an option may have, where not any text.
        defaults: values of options that may be left out.
        numbers: options that must be numbers.
        positive: those of them that must be above 0.
        files: options that are paths of files; descriptions have their names and digests.
        attacked_through: whether it also acts where attacks encode and predict, with gradients through it. Otherwise
            only images show it, and attacks search on the weights alone.
        predicts_concept: whether it appends its concept's prediction to those that guide the text's; only one can.
        families: names of the only families on whose images it can act; empty for all.
    """

    description: str = ""
    options: tuple[str, ...] = ()
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    numbers: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    attacked_through: bool = False
    predicts_concept: bool = False
    families: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a description that its options do not complete, and properties of no option."""
        super().__post_init__()
        for name in (*self.defaults, *self.numbers, *self.positive, *self.files):
            if name not in self.options:
                raise GateError(f"defense {self.name}: {name!r} is none of its options")
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
        """Refuse missing and unknown options, and values that an option cannot have.

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
        for name in self.numbers:
            if not _is_number(options[name]):
                raise ValueError(f"{self.name}: {name}={options[name]!r} is no finite number")
        for name in self.positive:
            if float(options[name]) <= 0:
                raise ValueError(f"{self.name}: {name}={options[name]!r} is not above 0")
        for name in self.files:
            if not Path(options[name]).is_file():
                raise ValueError(f"{self.name}: {name}={options[name]!r} is no file")

    noun: ClassVar[str] = "defense"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
