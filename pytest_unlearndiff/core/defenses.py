"""Defenses: erasing at inference time, by what is done to images as they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .registry import registry


@dataclass(frozen=True)
class DefenseConfig:
    """A defense that the user asks for.

    Attributes:
        name: row of ``registry().defenses``.
        options: name and value of each of its options, sorted.

    Raises:
        ValueError: there is no such defense, or its options are not as its row says.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what its row does not know."""
        rows = registry().defenses
        if self.name not in rows:
            raise ValueError(f"{self.name!r} is no defense; there are {', '.join(rows)}")
        rows[self.name].check_options(dict(self.options))

    def __str__(self) -> str:
        """Describe it in words, for reports and keys."""
        return registry().defenses[self.name].describe(dict(self.options))


def defense(name: str, **options: str) -> DefenseConfig:
    """Return a defense with these options."""
    return DefenseConfig(name, tuple(sorted(options.items())))


def parse_defense(text: str) -> DefenseConfig:
    """Parse ``NAME`` or ``NAME:OPTION=VALUE,OPTION=VALUE``.

    Raises:
        ValueError: names what is wrong.
    """
    name, _, rest = text.partition(":")
    pairs = [part.partition("=") for part in rest.split(",")] if rest else []
    if wrong := next((option for option, equals, _ in pairs if not equals), None):
        raise ValueError(f"{wrong!r} gives an option no value: write {name}:OPTION=VALUE")
    return defense(name.strip(), **{option.strip(): value.strip() for option, _, value in pairs})


def describe_defenses(defenses: Sequence[DefenseConfig]) -> str:
    """Describe defenses in words, for reports and keys; empty where there are none."""
    return " and ".join(map(str, defenses))
