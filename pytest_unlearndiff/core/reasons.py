"""Reasons for people, in one bounded line."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 5


def reasons_in_words(reasons: Sequence[str]) -> str:
    """The first few reasons with commas, and how many more there are."""
    more = [f"{len(reasons) - _SHOWN} more"] if len(reasons) > _SHOWN else []
    return ", ".join([*reasons[:_SHOWN], *more])
