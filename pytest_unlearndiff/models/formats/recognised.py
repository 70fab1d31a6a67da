"""What a file was recognised as."""

from __future__ import annotations

from dataclasses import dataclass

from ..edits import Edit


@dataclass(frozen=True)
class Recognised:
    """A format, and what it does to a base.

    Attributes:
        format: for people.
        edits: one a component.
        notes: what was left out or assumed, for the report.
    """

    format: str
    edits: tuple[Edit, ...]
    notes: tuple[str, ...] = ()
