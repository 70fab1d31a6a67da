"""Judges and attacks that plugins add: known by name and version, and imported only where they work."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .errors import GateError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SPELLING = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_TYPES = (str, int, float, bool, list, dict)
_RESERVED = ("kind", "device")


@dataclass(frozen=True)
class JudgeKind:
    """A kind of judge, for ``judge: kind:`` of a concept file.

    Attributes:
        name: of lower-case words with hyphens.
        make: ``package.module:callable``, imported only where images are judged. It is called with ``device`` and the
            options by keyword; what it gives is called with RGB images, and answers each with a ``Judgement``, with
            true or false for hit, or with a pair (hit, score).
        version: stands for the code of the judge in every outcome's key: raise it when an answer may change.
        required: options a concept has to give, each with its type: str, int, float, bool, list or dict.
        optional: options a concept may give, with theirs.
        weights: options that name a file or folder, whose content decides what the judge says.
    """

    name: str
    make: str
    version: str
    required: Mapping[str, type] = field(default_factory=dict)
    optional: Mapping[str, type] = field(default_factory=dict)
    weights: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            GateError: names what is wrong.
        """
        _check(self)
        for option, kind in self.options.items():
            if option in _RESERVED or not option.isidentifier():
                raise GateError(f"judge {self.name}: no option can be called {option!r}")
            if kind not in _TYPES:
                known = ", ".join(each.__name__ for each in _TYPES)
                raise GateError(f"judge {self.name}: the type of option {option} must be one of {known}, not {kind!r}")
        if unknown := [option for option in self.weights if self.options.get(option) is not str]:
            raise GateError(f"judge {self.name}: weights names {unknown[0]!r}, which is no option of type str")

    @property
    def options(self) -> dict[str, type]:
        """All options it knows."""
        return {**self.required, **self.optional}


@dataclass(frozen=True)
class AttackKind:
    """A kind of attack, for ``attack=`` of a gate.

    Attributes:
        name: of lower-case words with hyphens.
        make: ``package.module:callable``, imported only where something is attacked. It is called with an
            ``AttackConfig`` and the victim, and gives what ``attacks.lane.Attack`` describes.
        version: stands for the code of the attack in every outcome's key: raise it when an outcome may change.
        needs_targets: whether it asks for target images, which the un-erased model draws or the concept names.
        needs_base: whether it asks for the un-erased model itself, for which images of the user's cannot stand in.
    """

    name: str
    make: str
    version: str
    needs_targets: bool = False
    needs_base: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            GateError: names what is wrong.
        """
        _check(self)


def _check(kind: JudgeKind | AttackKind) -> None:
    what = _what(kind)
    texts: tuple[object, ...] = (kind.name, kind.make, kind.version)  # as annotated, or whatever a plugin gave
    name, make, version = texts
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise GateError(f"{what} {kind.name!r} must be named with lower-case letters, digits and hyphens")
    if not isinstance(make, str) or not _SPELLING.fullmatch(make):
        raise GateError(f"{what} {kind.name}: make={kind.make!r} must be package.module:callable, as text")
    if not isinstance(version, str) or not version.strip():
        raise GateError(f"{what} {kind.name}: version={kind.version!r} must be a text, such as '1'")


def _what(kind: JudgeKind | AttackKind) -> str:
    return "judge" if isinstance(kind, JudgeKind) else "attack"


@dataclass(frozen=True)
class PluginRegistry:
    """What plugins add to a process. Builtin types all through, so that it can be sent to others.

    Attributes:
        judges: by name.
        attacks: by name.
    """

    judges: Mapping[str, JudgeKind] = field(default_factory=dict)
    attacks: Mapping[str, AttackKind] = field(default_factory=dict)

    @classmethod
    def of(cls, kinds: Iterable[object], judges: Iterable[str], attacks: Iterable[str]) -> PluginRegistry:
        """What plugins say, put in order.

        Args:
            kinds: all of them.
            judges: names that are taken.
            attacks: names that are taken.

        Raises:
            GateError: one is no such thing, or has a name that is taken.
        """
        found: dict[str, dict[str, JudgeKind | AttackKind]] = {"judge": {}, "attack": {}}
        taken = {"judge": frozenset(judges), "attack": frozenset(attacks)}
        for kind in kinds:
            if not isinstance(kind, (JudgeKind, AttackKind)):
                raise GateError(f"a plugin gave {kind!r}, which is neither a JudgeKind nor an AttackKind")
            what = _what(kind)
            if kind.name in taken[what]:
                raise GateError(f"a plugin names its {what} {kind.name!r}, as a built-in one: give it another name")
            if found[what].setdefault(kind.name, kind) != kind:
                raise GateError(f"two plugins name their {what} {kind.name!r}: one of them needs another name")
        return cls(
            {name: kind for name, kind in found["judge"].items() if isinstance(kind, JudgeKind)},
            {name: kind for name, kind in found["attack"].items() if isinstance(kind, AttackKind)},
        )


EMPTY_REGISTRY = PluginRegistry()
_here = EMPTY_REGISTRY


def plugged() -> PluginRegistry:
    """What plugins have added to this process."""
    return _here


def set_registry(found: PluginRegistry) -> None:
    """Let this be what plugins have added to this process."""
    global _here
    _here = found
