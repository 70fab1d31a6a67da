"""Small questions about values that people wrote."""

from __future__ import annotations


def is_count(value: object) -> bool:
    """Whether this is a whole number of at least 1; ``True`` is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
