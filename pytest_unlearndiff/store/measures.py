"""Figures by prompt beside a campaign's journal, so that a session which finds them loads nothing to measure again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .hashing import write_atomically
from .regular_files import read_object

_LARGEST = 64 * 2**20

Figures = dict[str, list[float]]
"""Numbers by prompt digest."""


class Measures:
    """Figures of one campaign, by what they were measured with.

    Args:
        folder: the campaign's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "drift.json"

    def read(self, what: str) -> Figures:
        """What is kept under a name; nothing where it is not there or not readable."""
        found = self._all().get(what)
        return {str(d): v for d, v in found.items() if _are_numbers(v)} if isinstance(found, dict) else {}

    def keep(self, what: str, figures: Mapping[str, list[float]]) -> None:
        """Keep figures under a name; where that fails, they are measured again."""
        with suppress(OSError):
            write_atomically(self._path, json.dumps({**self._all(), what: figures}, indent=1) + "\n")

    def _all(self) -> dict[str, object]:
        return read_object(self._path, _LARGEST) or {}


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(number) in (int, float) for number in value)
