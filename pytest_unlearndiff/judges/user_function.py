"""A user's own function as a judge."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ..core.errors import JudgeError
from ..sources.import_string import import_string
from .base import CheckedJudge


def user_function(call: str, options: Mapping[str, Any] | None = None, *, device: str = "cpu") -> CheckedJudge:
    """Return the judge that calls a function of the user's own.

    Args:
        call: ``package.module:function``, called with RGB images; see ``CheckedJudge`` for what it returns.
        options: passed on by keyword.
        device: ignored.

    Raises:
        JudgeError: no such function.
    """
    try:
        return CheckedJudge(f"judge function {call}", partial(import_string(call), **(options or {})))
    except ImportError as error:
        raise JudgeError(f"judge function {error}") from None
