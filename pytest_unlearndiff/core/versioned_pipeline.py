"""A pipeline object with a version that its user gives it, since a hash cannot stand for code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import ModelError

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
