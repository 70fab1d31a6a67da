"""A user's own function as a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from PIL import Image

from ..core.errors import JudgeError
from ..core.judgement import Judgement


class UserFunction:
    """Asks ``function(images, **options)``, which gives one answer a picture.

    An answer is a ``Judgement``, or true or false for hit, or a pair (hit, score).

    Args:
        call: ``package.module:function``.
        options: passed on by keyword.

    Raises:
        JudgeError: there is no such function.
    """

    def __init__(self, call: str, options: Mapping[str, Any] | None = None) -> None:
        module, _, name = call.partition(":")
        try:
            self._function = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise JudgeError(f"judge function {call} cannot be loaded: {error}") from None
        if not callable(self._function):
            raise JudgeError(f"judge function {call} is a {type(self._function).__name__}, which cannot be called")
        self._call, self._options = call, dict(options or {})

    def __call__(self, images: Sequence[Image.Image]) -> list[Judgement]:
        """Judge RGB pictures, one judgement each, in order.

        Raises:
            JudgeError: not one answer a picture came back, or an answer that is none.
        """
        answers = list(self._function(list(images), **self._options))
        if len(answers) != len(images):
            raise JudgeError(f"judge function {self._call} gave {len(answers)} answers on {len(images)} pictures")
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
        raise JudgeError(
            f"judge function {self._call} gave {answer!r}: an answer is a Judgement, True or False, or (hit, score)"
        )
