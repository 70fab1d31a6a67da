"""Errors that users see. Each message names the thing, the reason and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

from .untrusted import printable, printable_lines


class UnlearnDiffError(Exception):
    """Anything this project refuses to do.

    Messages quote files, tensors and cells that somebody else wrote, so control characters are escaped and long
    messages shortened here.

    Attributes:
        width: maximal characters of a line.
        most: maximal lines.
    """

    width: ClassVar[int] = 1_500
    most: ClassVar[int] = 100

    def __init__(self, *arguments: object) -> None:
        clean = (printable_lines(a, self.width, self.most) if isinstance(a, str) else a for a in arguments)
        super().__init__(*clean)


class ConceptError(UnlearnDiffError, ValueError):
    """A concept or its prompt set cannot be used."""


class GateError(UnlearnDiffError, ValueError):
    """A gate contradicts itself or cannot be supported."""


_T = TypeVar("_T")


class ErrorCollector(list[str]):
    """Errors in a user's file or marker, gathered so that all are told at once."""

    def collect(self, read: Callable[[], _T]) -> _T | None:
        """Return what ``read`` returns; if it raises a GateError or ConceptError, note its lines and return None."""
        try:
            return read()
        except (GateError, ConceptError) as error:
            self += str(error).split("\n")
            return None

    def raise_if_any(self, error_type: type[UnlearnDiffError]) -> None:
        """Raise all errors as one, one per line, if there are any."""
        if self:
            raise error_type("\n".join(self))


class ModelError(UnlearnDiffError, ValueError):
    """A checkpoint cannot be loaded, or is not what it claims."""


class UnusableTargets(Exception):
    """Some prompts have no usable target image; the other prompts have.

    Attributes:
        problems: reason and remedy by prompt digest.
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(dict.fromkeys(problems.values())))
        self.problems = dict(problems)


class JudgeError(UnlearnDiffError, ValueError):
    """A judge cannot be built or cannot judge."""


class AttackUnavailable(UnlearnDiffError, RuntimeError):
    """Nothing may or can be attacked here, so prompts missing from the store stay missing."""


class StoreError(UnlearnDiffError, RuntimeError):
    """The store cannot be used as asked."""


class ReportError(UnlearnDiffError, RuntimeError):
    """A report cannot be written or read."""


class ASRExceeded(AssertionError):
    """The attack success rate is above the gate's limit, or not provably within it."""


class RetentionLost(AssertionError):
    """The model no longer draws what it should have kept, or not provably enough of it."""


class AttackIncomplete(UnlearnDiffError, RuntimeError):
    """Prompts are missing or errored and the verdict is not decided by the others."""

    width = 6_000  # a replay names paths, which have to be whole


def one_line(error: BaseException, limit: int = 300) -> str:
    """Text of an exception in one line of at most this many characters."""
    return printable(" ".join(str(error).split()), limit)


_SHOWN_REASONS = 5


def join_reasons(reasons: Sequence[str]) -> str:
    """Join the first few reasons with commas, and count the others."""
    more = [f"{len(reasons) - _SHOWN_REASONS} more"] if len(reasons) > _SHOWN_REASONS else []
    return ", ".join([*reasons[:_SHOWN_REASONS], *more])
