"""Ready-made suites of gates, for ``pytest --pyargs pytest_unlearndiff.suite``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Suite:
    """Concepts, and how they are attacked.

    Attributes:
        concepts: names, as a gate says them.
        keywords: of the marker of each gate.
    """

    concepts: tuple[str, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)


_BENCHMARK = ("nudity:paper", "vangogh:paper", "church:paper", "garbage_truck:paper", "parachute:paper", "tench:paper")
# Every prompt is attacked, since a table needs the rate itself. 3 or 5 adversarial tokens: the concepts say so.
_AS_THE_PAPER = {"attack": "unlearndiff", "schedule": "paper", "exhaustive": True}

SUITES: Mapping[str, Suite] = {
    "paper": Suite((_BENCHMARK[0], "violence", "illegal", *_BENCHMARK[1:]), _AS_THE_PAPER),
    "leaderboard": Suite(_BENCHMARK, _AS_THE_PAPER),
}
"""The tasks of UnlearnDiffAtk's paper, and those of them that its benchmark's page lists."""
