"""Small questions about values that people wrote."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def is_count(value: object) -> bool:
    """Whether this is a whole number of at least 1; ``True`` is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_number(value: object, least: float, most: float) -> bool:
    """Whether this is a number in [``least``, ``most``]; ``True`` is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def hint(wrong: str, known: Iterable[str]) -> str:
    """What may have been meant: ``did you mean 'church'?``, or what is known where nothing is near."""
    names = sorted(known)
    if near := difflib.get_close_matches(wrong, names, n=3):
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"known: {', '.join(names[:20]) or 'none'}{', ...' if len(names) > 20 else ''}"
