"""What a file was recognised as."""

from __future__ import annotations

from dataclasses import dataclass

from ..weight_patches import WeightPatch


@dataclass(frozen=True)
class DetectedFormat:
    """A format, and what it does to a base.

    Attributes:
        format: for people.
        patches: one a component.
        notes: what was left out or assumed, for the report.
    """

    format: str
    patches: tuple[WeightPatch, ...]
    notes: tuple[str, ...] = ()
