"""The errors users see. Each message names the thing, the reason and the mend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

from .untrusted import printable, printable_lines


class UnlearnDiffError(Exception):
    """Anything this project refuses to do, said in one message.

    Messages name files, tensors and cells that somebody else wrote. Whoever raises one need not think of that: no
    character of it steers a terminal, and neither a line nor all of them are endless.

    Attributes:
        width: characters of a line.
        most: lines.
    """

    width: ClassVar[int] = 1_500
    most: ClassVar[int] = 100

    def __init__(self, *arguments: object) -> None:
        clean = (printable_lines(a, self.width, self.most) if isinstance(a, str) else a for a in arguments)
        super().__init__(*clean)


class ConceptError(UnlearnDiffError, ValueError):
    """A concept or its prompt set cannot be used."""


class GateError(UnlearnDiffError, ValueError):
    """A gate asks for something that cannot be meant or cannot be supported."""


_T = TypeVar("_T")


class ErrorCollector(list[str]):
    """What is wrong with something that a user wrote, gathered so that all of it is said at once."""

    def collect(self, make: Callable[[], _T]) -> _T | None:
        """What ``make`` gives, or None with its complaint noted."""
        try:
            return make()
        except (GateError, ConceptError) as error:
            self += str(error).split("\n")
            return None


class ModelError(UnlearnDiffError, ValueError):
    """A checkpoint cannot be loaded, or cannot be trusted to be what it claims."""


class UnusableTargets(Exception):
    """Some prompts have no target image that could be used; the others' are as good as ever.

    Attributes:
        problems: why, with the remedy, by prompt digest.
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(dict.fromkeys(problems.values())))
        self.problems = dict(problems)


class JudgeError(UnlearnDiffError, ValueError):
    """A judge cannot be built or cannot judge."""


class AttackUnavailable(UnlearnDiffError, RuntimeError):
    """Nothing may or can be attacked here, so what the store lacks stays missing."""


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
    """What an exception says, in one line of at most this many characters."""
    return printable(" ".join(str(error).split()), limit)
