"""The geometry of the HTML report's charts: shares and paths, no markup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from ..core.rate import Rate
from .gate_report import MISSING, GateReport, PromptRecord

_SCALES = (0.1, 0.2, 0.5, 1.0)

WIDTH, HEIGHT = 300, 120
"""Size of the drawing area of the effort chart, in its own units."""


def scale(records: list[GateReport]) -> float:
    """The share at which the common axis ends: the smallest round one with room for every interval and limit."""
    limits = [_limit(text) for record in records for text in (record.max_asr, record.max_pre_asr)]
    shares = [record.high for record in records] + [limit for limit in limits if limit is not None]
    return next((end for end in _SCALES if max(shares, default=0.0) <= end), 1.0)


def _limit(text: str | None) -> float | None:
    return None if text is None else float(Fraction(text))


def tick(share: float) -> str:
    """A share where the axis is labelled: ``50%``."""
    return f"{100 * share:g}%"


@dataclass(frozen=True)
class Axis:
    """One gate on the common axis; positions in percent of its length.

    Attributes:
        low, high: the interval; least, most: ASR as far as it is known; pre: pre-ASR.
        limit: on ASR, None for none.
        pre_limit: on pre-ASR, None for none.
        bound: the one-sided upper bound, where the gate reads it.
    """

    low: float
    high: float
    least: float
    most: float
    pre: float
    limit: float | None
    pre_limit: float | None
    bound: float | None

    @classmethod
    def of(cls, record: GateReport, end: float) -> Axis:
        """Lay a gate along an axis that ends at this share."""

        def at(share: float) -> float:
            return round(100 * share / end, 3)

        limit, pre_limit, bound = _limit(record.max_asr), _limit(record.max_pre_asr), None
        if record.reading == "upper" and limit is not None:
            bound = Rate(record.successes + record.undecided, record.total).upper_bound(record.confidence)
        return cls(
            low=at(record.low),
            high=at(record.high),
            least=at(record.successes / record.total),
            most=at((record.successes + record.undecided) / record.total),
            pre=at(record.hits_without_attack / record.total),
            limit=None if limit is None else at(limit),
            pre_limit=None if pre_limit is None else at(pre_limit),
            bound=None if bound is None else at(min(bound, end)),
        )


@dataclass(frozen=True)
class Effort:
    """How ASR rises with what one prompt may cost.

    Attributes:
        unit: what is counted.
        path: of the share of prompts that succeeded within so many of them.
        band: around what undecided prompts may add; empty where none is undecided.
        limit: height of the limit, None for none.
        most: of the unit, at the right end.
        end: the share at the top.
    """

    unit: str
    path: str
    band: str
    limit: float | None
    most: int
    end: float

    @classmethod
    def of(cls, record: GateReport, unit: str, cost: Callable[[PromptRecord], int]) -> Effort | None:
        """The curve of a gate; None where every prompt cost the same, so that there is nothing to see.

        Args:
            record: the gate.
            unit: what is counted.
            cost: of a prompt.
        """
        costs = {cost(prompt) for prompt in record.prompts if prompt.status != MISSING}
        if len(costs) < 2:
            return None
        most, end, limit = max(costs), scale([record]), _limit(record.max_asr)

        def y(successes: int) -> float:
            return round(HEIGHT * (1 - successes / record.total / end), 2)

        spent = sorted(cost(prompt) for prompt in record.prompts if prompt.success)
        corners = [(0.0, 0), *((round(WIDTH * f / most, 2), n + 1) for n, f in enumerate(spent))]
        up = _steps([(x, y(n)) for x, n in corners])
        band = ""
        if record.undecided:
            above = _steps([(x, y(n + record.undecided)) for x, n in corners])
            band = f"M{' L'.join(up)} L{' L'.join(reversed(above))} Z"
        at_limit = None if limit is None else round(HEIGHT * (1 - limit / end), 2)
        return cls(unit, f"M{' L'.join(up)}", band, at_limit, most, end)


def efforts(record: GateReport) -> list[Effort]:
    """The curves of a gate that show anything: over UNet forward passes, and over steps of the optimiser."""
    forwards = Effort.of(record, "UNet forwards", lambda prompt: prompt.forwards)
    steps = Effort.of(record, "steps of the search", lambda prompt: prompt.steps)
    return [effort for effort in (forwards, steps) if effort is not None]


def _steps(corners: list[tuple[float, float]]) -> list[str]:
    """Points of a staircase to the right end."""
    points, last = [], corners[0][1]
    for x, height in corners:
        points += [f"{x:g},{last:g}", f"{x:g},{height:g}"]
        last = height
    return [*points, f"{WIDTH},{last:g}"]
