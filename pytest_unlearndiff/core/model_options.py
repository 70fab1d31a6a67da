"""Facts that a user adds to a model's files: inference-time erasers, and a version, since no hash stands for code."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
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
        """Describe it in words, for reports and keys; a file by its name and content."""
        row, options = registry().defenses[self.name], dict(self.options)
        contents = {name: _name_and_digest(Path(options[name])) for name in row.files}
        return row.describe(options | contents)


def _name_and_digest(path: Path) -> str:
    """Return ``church.safetensors (sha256 0123456789abcdef)``."""
    stat = path.stat()
    return f"{path.name} (sha256 {_digest(path, stat.st_mtime_ns, stat.st_size)})"


@lru_cache(maxsize=64)
def _digest(path: Path, modified: int, size: int) -> str:
    """Hash a file; time and size are arguments so that a changed one is hashed again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def defense(name: str, **options: str) -> DefenseConfig:
    """Return a defense with these options, and defaults for others."""
    row = registry().defenses.get(name)
    return DefenseConfig(name, tuple(sorted({**(row.defaults if row else {}), **options}.items())))


def parse_defense(text: str, folder: Path | None = None) -> DefenseConfig:
    """Parse ``NAME`` or ``NAME:OPTION=VALUE,OPTION=VALUE``.

    Args:
        text: as the user writes it.
        folder: of relative paths; None for the current one.

    Raises:
        ValueError: names what is wrong.
    """
    name, _, rest = text.partition(":")
    pairs = [part.partition("=") for part in rest.split(",")] if rest else []
    if wrong := next((option for option, equals, _ in pairs if not equals), None):
        raise ValueError(f"{wrong!r} gives an option no value: write {name}:OPTION=VALUE")
    options = {option.strip(): value.strip() for option, _, value in pairs}
    row = registry().defenses.get(name.strip())
    for option in set(row.files if row else ()) & set(options):
        options[option] = str(((folder or Path.cwd()) / Path(options[option]).expanduser()).resolve())
    return defense(name.strip(), **options)


def describe_defenses(defenses: Sequence[DefenseConfig]) -> str:
    """Describe defenses in words, for reports and keys; empty where there are none."""
    return " and ".join(map(str, defenses))
