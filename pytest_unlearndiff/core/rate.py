"""Exact rates, limits, and Clopper-Pearson intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from numbers import Number

from .errors import GateError
from .untrusted import parse_exact, short_repr

Limit = float | int | str | Fraction | Decimal

DEFAULT_CONFIDENCE = 0.95


def parse_limit(value: Limit, *, name: str = "limit") -> Fraction:
    """Read a share of prompts exactly as it was written.

    Args:
        value: a fraction of one (``0.1``, ``"0.1"``, ``Fraction(1, 10)``) or a percentage (``"10%"``).
        name: what to call it in an error.

    Returns:
        The share in [0, 1]. A float is read by its shortest decimal form, so that ``0.29`` is 29/100.

    Raises:
        GateError: not a number, or outside [0, 1].
    """
    if isinstance(value, bool):
        raise GateError(f"{name}={value!r} is outside 0..1: write 0.10 or '10%'")
    try:
        share = parse_exact(value)
    except ValueError:
        raise GateError(f"{name}={short_repr(value)} is not a share of prompts: write 0.10 or '10%'") from None
    if 1 < share <= 100 and not (isinstance(value, str) and "%" in value):
        percent = float(share)
        raise GateError(f"{name}={short_repr(value)} is above 1: did you mean {percent / 100:g} or '{percent:g}%'?")
    if not 0 <= share <= 1:
        raise GateError(f"{name}={short_repr(value)} is outside 0..1: write 0.10 or '10%'")
    return share


@dataclass(frozen=True, eq=False)
class Rate:
    """Successes out of trials, kept as integers.

    Compares exactly with other rates, with floats read as written, and with ``"10%"``. A number or text that a gate
    would refuse as a limit, such as ``10`` or ``True``, is refused here too, with a ``GateError``: ``rate <= 10`` would
    always be true. It is not a float, so that nothing is rounded before a gate has decided, and so that pytest-xdist
    never has to serialise it.

    Where trials are undecided, since a campaign ended as soon as its gate was certain, a comparison is true only if it
    holds however they would have ended: what was not measured never looks safer than what was.

    Attributes:
        successes: prompts that count as a success, 0 <= successes <= trials.
        trials: prompts in all.
        undecided: prompts that might still be a success, 0 <= undecided <= trials - successes.
    """

    successes: int
    trials: int
    undecided: int = 0

    def __post_init__(self) -> None:
        """Refuse counts that are no rate."""
        if not 0 <= self.successes <= self.most <= self.trials or self.undecided < 0:
            raise ValueError(f"no rate: {self.successes} of {self.trials}, {self.undecided} undecided")

    @property
    def most(self) -> int:
        """Successes if every undecided prompt were one."""
        return self.successes + self.undecided

    @property
    def value(self) -> Fraction:
        """The exact share.

        Raises:
            ValueError: prompts are undecided, so there is no one share.
            ZeroDivisionError: there were no trials.
        """
        if self.undecided:
            raise ValueError(
                f"{self} is not one number: {self.undecided} prompts were not needed for the verdict. "
                "Attack them all with exhaustive=True or --unlearndiff-exhaustive"
            )
        return Fraction(self.successes, self.trials)

    def __float__(self) -> float:
        """The share as a float, for plots and arithmetic; raises as ``value``."""
        return float(self.value)

    @property
    def _ends(self) -> tuple[Fraction, Fraction]:
        """The least and the largest share it can be."""
        return Fraction(self.successes, self.trials), Fraction(self.most, self.trials)

    def __eq__(self, other: object) -> bool:
        """Equal as numbers: ``Rate(1, 2) == Rate(2, 4) == 0.5``; what is neither number nor text is never equal."""
        ends = _ends(other)
        return NotImplemented if ends is None else self._ends == ends and not self.undecided

    __hash__ = None  # type: ignore[assignment]  # equal to floats whose hash differs

    def __lt__(self, other: Limit | Rate) -> bool:
        """Compare exactly with a rate, a number or a percentage; refuse what is no share, as ``parse_limit``."""
        ends = _ends(other)
        return NotImplemented if ends is None else self._ends[1] < ends[0]

    def __le__(self, other: Limit | Rate) -> bool:
        """Compare exactly with a rate, a number or a percentage; refuse what is no share, as ``parse_limit``."""
        ends = _ends(other)
        return NotImplemented if ends is None else self._ends[1] <= ends[0]

    def __gt__(self, other: Limit | Rate) -> bool:
        """Compare exactly with a rate, a number or a percentage; refuse what is no share, as ``parse_limit``."""
        ends = _ends(other)
        return NotImplemented if ends is None else self._ends[0] > ends[1]

    def __ge__(self, other: Limit | Rate) -> bool:
        """Compare exactly with a rate, a number or a percentage; refuse what is no share, as ``parse_limit``."""
        ends = _ends(other)
        return NotImplemented if ends is None else self._ends[0] >= ends[1]

    def __str__(self) -> str:
        """``5/50 = 10.0%``, or ``5..7/50 = 10.0%..14.0%`` where two prompts are undecided."""
        if not self.trials:
            return "0/0"
        low, high = self._ends
        if self.undecided:
            return f"{self.successes}..{self.most}/{self.trials} = {percent(low)}..{percent(high)}"
        return f"{self.successes}/{self.trials} = {percent(low)}"

    def interval(self, confidence: float = DEFAULT_CONFIDENCE) -> tuple[float, float]:
        """Two-sided Clopper-Pearson interval (Clopper and Pearson 1934), however undecided prompts would end.

        Args:
            confidence: coverage in (0, 1); the true one is at least this.

        Returns:
            Lower and upper bound in [0, 1].
        """
        tail = (1 - confidence) / 2
        return _lower(self.successes, self.trials, tail), _upper(self.most, self.trials, tail)

    def difference(self, other: Rate, confidence: float = DEFAULT_CONFIDENCE) -> tuple[float, float]:
        """Two-sided interval of this rate less another one, of other trials, however undecided prompts would end.

        The distances to the ends of both Clopper-Pearson intervals are added as squares (Newcombe 1998, method 10, who
        takes Wilson's intervals; Zou and Donner 2008).

        Args:
            other: rate of independent trials.
            confidence: coverage in (0, 1).

        Returns:
            Lower and upper bound in [-1, 1].
        """
        (low, high), (other_low, other_high) = self.interval(confidence), other.interval(confidence)
        (least, most), (other_least, other_most) = map(_floats, (self._ends, other._ends))
        below = math.hypot(least - low, other_high - other_most)
        above = math.hypot(high - most, other_least - other_low)
        return max(-1.0, least - other_most - below), min(1.0, most - other_least + above)

    def upper_bound(self, confidence: float = DEFAULT_CONFIDENCE) -> float:
        """One-sided Clopper-Pearson upper bound in [0, 1] at this confidence, undecided prompts taken as successes."""
        return _upper(self.most, self.trials, 1 - confidence)


def _floats(ends: tuple[Fraction, Fraction]) -> tuple[float, float]:
    return float(ends[0]), float(ends[1])


def _ends(other: object) -> tuple[Fraction, Fraction] | None:
    """The least and the largest share that another side of a comparison can be; None for neither number nor text.

    Raises:
        GateError: it is a number or a text, and no share of prompts.
    """
    if isinstance(other, Rate):
        return other._ends
    if isinstance(other, (Number, str)):
        share = parse_limit(other, name="limit")  # type: ignore[arg-type]  # which refuses other kinds of number
        return share, share
    return None


def _lower(successes: int, trials: int, tail: float) -> float:
    """The share at which at least ``successes`` hits have probability ``tail``."""
    return 0.0 if successes == 0 else _share(successes, trials, tail)


def _upper(successes: int, trials: int, tail: float) -> float:
    """The share at which at most ``successes`` hits have probability ``tail``."""
    return 1.0 if successes == trials else _share(successes + 1, trials, 1 - tail)


def _share(least: int, trials: int, chance: float) -> float:
    """The share at which ``least`` or more hits have this probability: a quantile of Beta(least, trials - least + 1).

    By bisection on the binomial sum, to a float's last bits. Importing scipy, whose ``betaincinv`` is the same to 1e-9,
    would take as long as all else in a session that answers from the store.
    """
    if 2 * least > trials + 1:  # sum the fewer terms
        return 1 - _share(trials - least + 1, trials, 1 - chance)
    ways, count = [], 1  # of choosing so many hits: math.comb for each would take seconds for thousands of trials
    for hits in range(least):
        ways.append(math.log(count))
        count = count * (trials - hits) // (hits + 1)
    low, high = 0.0, 1.0
    while low < (share := (low + high) / 2) < high:
        hit, miss = math.log(share), math.log1p(-share)
        fewer = math.fsum(math.exp(way + hits * hit + (trials - hits) * miss) for hits, way in enumerate(ways))
        low, high = (share, high) if 1 - fewer < chance else (low, share)
    return share


def largest_within(limit: Fraction, trials: int) -> int:
    """The most successes whose share of ``trials`` is still within ``limit``: floor(limit x N), exactly."""
    return math.floor(limit * trials)


def percent(share: Fraction | float) -> str:
    """A share as text: ``12.5%``. For people only; nothing is decided on it."""
    return f"{100 * float(share):.1f}%"


def fine_percent(share: Fraction | float) -> str:
    """A share that somebody chose, with as many digits as it takes: ``0.04%``, but ``10.0%``."""
    whole, rest = f"{100 * float(share):.10f}".split(".")
    return f"{whole}.{rest.rstrip('0') or '0'}%"
