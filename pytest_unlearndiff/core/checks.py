"""Small questions about values that people wrote."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from .untrusted import MOST_COUNT, is_whole, printable, shown


def is_count(value: object, most: int = MOST_COUNT) -> bool:
    """Whether this is a whole number from 1 to ``most``; ``True`` is none."""
    return is_whole(value, 1, most)


def is_number(value: object, least: float, most: float) -> bool:
    """Whether this is a number in [``least``, ``most``]; ``True`` is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def hint(wrong: str, known: Iterable[str]) -> str:
    """What may have been meant: ``did you mean 'church'?``, or what is known where nothing is near."""
    names = sorted(known)
    if near := difflib.get_close_matches(wrong[:_LONGEST], names, n=3):
        return f"did you mean {' or '.join(map(shown, near))}?"
    listed = ", ".join(printable(name, _LONGEST) for name in names[:20])
    return f"known: {listed or 'none'}{', ...' if len(names) > 20 else ''}"


_LONGEST = 100
"""Characters of a name that are looked at."""
