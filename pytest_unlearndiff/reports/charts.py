"""Geometry of the HTML report's charts: shares and paths, no markup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from ..core.rate import Rate
from .gate_report import GateReport
from .gate_report_parts import MISSING, PromptReport

_SCALES = (0.1, 0.2, 0.5, 1.0)

WIDTH, HEIGHT = 300, 120
"""Size of the drawing area of the effort chart, in its own units."""


def scale(gates: list[GateReport]) -> float:
    """Return the share at which the common axis ends: the smallest round one with room for all intervals and limits."""
    limits = [_limit(text) for gate in gates for text in (gate.limits.max_rate, gate.limits.max_pre_asr)]
    shares = [gate.rate.interval[1] for gate in gates] + [limit for limit in limits if limit is not None]
    return next((end for end in _SCALES if max(shares, default=0.0) <= end), 1.0)


def _limit(text: str | None) -> float | None:
    return None if text is None else float(Fraction(text))


def tick(share: float) -> str:
    """Format a share where the axis is labelled: ``50%``."""
    return f"{100 * share:g}%"


@dataclass(frozen=True)
class Axis:
    """One gate on the common axis; positions in percent of its length.

    Attributes:
        low, high: the interval; least, most: the rate under attack, or the share that is kept, as far as it is known.
        reference: the rate without attack or, of a concept that must be kept, the base's share; None for none.
        limit: on the rate under attack, or on the share that is kept; None for none.
        pre_limit: on pre-ASR, None for none.
        bound: the one-sided upper bound, where the gate reads it.
    """

    low: float
    high: float
    least: float
    most: float
    reference: float | None
    limit: float | None
    pre_limit: float | None
    bound: float | None

    @classmethod
    def of(cls, gate: GateReport, end: float) -> Axis:
        """Lay a gate along an axis that ends at this share."""

        def at(share: float) -> float:
            return round(100 * share / end, 3)

        limit, pre_limit, bound = _limit(gate.limits.max_rate), _limit(gate.limits.max_pre_asr), None
        total = gate.counts.total
        reference: float | None = gate.counts.hits_without_attack / total
        if gate.kept:
            limit, pre_limit = _limit(gate.limits.min_rate), None
            reference = None if gate.base is None else gate.base.hits / total
        if gate.limits.reading == "upper" and limit is not None:
            bound = Rate(gate.hits + gate.unknown, total).upper_bound(gate.limits.confidence)
        return cls(
            low=at(gate.rate.interval[0]),
            high=at(gate.rate.interval[1]),
            least=at(gate.rate.at_least),
            most=at(gate.rate.at_most),
            reference=None if reference is None else at(reference),
            limit=None if limit is None else at(limit),
            pre_limit=None if pre_limit is None else at(pre_limit),
            bound=None if bound is None else at(min(bound, end)),
        )


@dataclass(frozen=True)
class Pair:
    """Prompts of a kept concept that model and base draw alike, or not.

    Attributes:
        name: of the class, for styles.
        label: for people.
        count: prompts.
        start, width: of its part of the bar, in percent.
    """

    name: str
    label: str
    count: int
    start: float
    width: float


def pairs(gate: GateReport) -> list[Pair]:
    """Divide the prompts of a kept concept by what model and base draw; empty without a base or an outcome."""
    base, total = gate.base, gate.counts.total
    if base is None or base.unknown or gate.unknown:
        return []
    both = base.hits - base.lost
    gained = gate.hits - both
    counts = (
        ("both", "both draw it", both),
        ("lost", "only the base draws it", base.lost),
        ("gained", "only the model under test draws it", gained),
        ("neither", "neither draws it", total - both - base.lost - gained),
    )
    parts, start = [], 0
    for name, label, count in counts:
        if count:
            parts.append(Pair(name, label, count, round(100 * start / total, 3), round(100 * count / total, 3)))
            start += count
    return parts


@dataclass(frozen=True)
class Effort:
    """Rise of the rate with what one prompt may cost.

    Attributes:
        unit: what is counted.
        path: of the share of prompts that succeeded within so many of them.
        band: around what unknown prompts may add; empty where none is unknown.
        interval: around both, of Clopper and Pearson at each point.
        limit: height of the limit, None for none.
        most: of the unit, at the right end.
        end: the share at the top.
    """

    unit: str
    path: str
    band: str
    interval: str
    limit: float | None
    most: int
    end: float

    @classmethod
    def of(cls, gate: GateReport, unit: str, cost: Callable[[PromptReport], int]) -> Effort | None:
        """Draw the curve of a gate; None where every prompt cost the same, so that there is nothing to see.

        Args:
            gate: the gate.
            unit: what is counted.
            cost: of a prompt.
        """
        costs = {cost(prompt) for prompt in gate.prompts if prompt.status != MISSING}
        if len(costs) < 2:
            return None
        most, end, limit = max(costs), scale([gate]), _limit(gate.limits.max_rate)

        def y(successes: int) -> float:
            return round(HEIGHT * (1 - successes / gate.counts.total / end), 2)

        def bound(successes: int, side: int) -> float:
            rate = Rate(successes, gate.counts.total, gate.unknown)
            return round(HEIGHT * (1 - rate.interval(gate.limits.confidence)[side] / end), 2)

        spent = sorted(cost(prompt) for prompt in gate.prompts if prompt.hit)
        corners = [(0.0, 0), *((round(WIDTH * f / most, 2), n + 1) for n, f in enumerate(spent))]
        up = _steps([(x, y(n)) for x, n in corners])
        band = _area(up, _steps([(x, y(n + gate.unknown)) for x, n in corners])) if gate.unknown else ""
        low, high = (_steps([(x, bound(n, side)) for x, n in corners]) for side in (0, 1))
        at_limit = None if limit is None else round(HEIGHT * (1 - limit / end), 2)
        return cls(unit, f"M{' L'.join(up)}", band, _area(low, high), at_limit, most, end)


def efforts(gate: GateReport) -> list[Effort]:
    """Return the curves of a gate that show anything: over network forward passes, and over steps of the search."""
    forwards = Effort.of(gate, "network forwards", lambda prompt: prompt.forwards)
    steps = Effort.of(gate, "steps of the search", lambda prompt: prompt.steps)
    return [effort for effort in (forwards, steps) if effort is not None]


def _area(below: list[str], above: list[str]) -> str:
    """Return the path around what lies between two staircases."""
    return f"M{' L'.join(below)} L{' L'.join(reversed(above))} Z"


def _steps(corners: list[tuple[float, float]]) -> list[str]:
    """Return the points of a staircase to the right end."""
    points, last = [], corners[0][1]
    for x, height in corners:
        points += [f"{x:g},{last:g}", f"{x:g},{height:g}"]
        last = height
    return [*points, f"{WIDTH},{last:g}"]
