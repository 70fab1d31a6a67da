"""Judges that others wrote: a user's own function, and what plugins add."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from PIL import Image

from ..core.errors import JudgeError
from ..core.judgement import Judgement
from ..core.registry import JudgeKind
from ..sources.import_string import imported


class Answers:
    """Asks ``function(images, **options)``, which gives one answer a image.

    An answer is a ``Judgement``, or true or false for hit, or a pair (hit, score).

    Args:
        name: of the judge, for people.
        function: asked.
        options: passed on by keyword.
    """

    def __init__(
        self, name: str, function: Callable[..., Iterable[Any]], options: Mapping[str, Any] | None = None
    ) -> None:
        self._name, self._function, self._options = name, function, dict(options or {})

    def __call__(self, images: Sequence[Image.Image]) -> list[Judgement]:
        """Judge RGB images, one judgement each, in order.

        Raises:
            JudgeError: not one answer a image came back, or an answer that is none.
        """
        answers = list(self._function(list(images), **self._options))
        if len(answers) != len(images):
            raise JudgeError(f"{self._name} gave {len(answers)} answers on {len(images)} images")
        return [self._judgement(answer) for answer in answers]

    def _judgement(self, answer: Any) -> Judgement:
        if isinstance(answer, Judgement):
            return answer
        hit, score = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)
        try:
            if bool(hit) == hit:  # numpy's and torch's truth values too, but no score taken for one
                return Judgement(bool(hit), float(bool(hit) if score is None else score), str(bool(hit)))
        except (TypeError, ValueError, RuntimeError):
            pass
        raise JudgeError(f"{self._name} gave {answer!r}: an answer is a Judgement, True or False, or (hit, score)")


def user_function(call: str, options: Mapping[str, Any] | None = None) -> Answers:
    """The judge that is a function of the user's own.

    Args:
        call: ``package.module:function``.
        options: passed on by keyword.

    Raises:
        JudgeError: there is no such function.
    """
    try:
        return Answers(f"judge function {call}", imported(call), options)
    except ImportError as error:
        raise JudgeError(f"judge function {error}") from None


def plugged_judge(kind: JudgeKind, options: Mapping[str, Any], device: str) -> Answers:
    """The judge that a plugin adds.

    Args:
        kind: which.
        options: as the concept gives them; paths are absolute by now.
        device: where its networks run.

    Raises:
        JudgeError: it cannot be imported, or gives nothing that can be asked.
    """
    try:
        made = imported(kind.make)
    except ImportError as error:
        raise JudgeError(f"judge {kind.name}: {error}") from None
    judge = made(device=device, **options)
    if not callable(judge):
        raise JudgeError(f"judge {kind.name}: {kind.make} gave a {type(judge).__name__}, which cannot be called")
    return Answers(f"judge {kind.name}", judge)
