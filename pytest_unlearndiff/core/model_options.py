"""Facts that a user adds to a model's files: inference-time erasers, and a version, since no hash stands for code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ModelError
from .registry import registry

LONGEST = 200
"""Characters of a version at most."""


@dataclass(frozen=True)
class VersionedPipeline:
    """A pipeline that more than its weights acts on at inference, such as a hook, and the version of all that.

    An ``unlearned_pipe`` fixture or a ``pkg.mod:callable`` returns it in place of the pipeline. Outcomes are kept under
    the version and the hash of the weights: give another version whenever the pipeline would draw anything else.

    Attributes:
        pipe: the pipeline.
        version: any text that is not empty, such as a commit or a release.

    Raises:
        ModelError: the version is no such text.
    """

    pipe: Any
    version: str

    def __post_init__(self) -> None:
        """Refuse what is no version."""
        try:
            read_version(self.version)
        except ValueError as error:
            shown = repr(self.version)
            raise ModelError(
                f"VersionedPipeline: version={shown[:60]}{'...' * (len(shown) > 60)} must be {error}"
            ) from None


def read_version(text: object) -> str:
    """Check a version.

    Raises:
        ValueError: says what a version has to be.
    """
    if not isinstance(text, str) or not text.strip() or not text.isprintable() or len(text) > LONGEST:
        raise ValueError(
            f"text that is not empty, of at most {LONGEST} printable characters, such as a commit or a release"
        )
    return text


def split_version(given: Any) -> tuple[Any, str]:
    """Split what a user returns into the pipeline and its version, empty where there is none."""
    return (given.pipe, given.version) if isinstance(given, VersionedPipeline) else (given, "")


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
