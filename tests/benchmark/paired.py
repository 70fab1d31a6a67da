"""Two attacks on the same prompts: McNemar's test, and an interval of the difference of their rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.stats import binomtest, norm

from pytest_unlearndiff.core.outcome import Outcome

CONFIDENCE = 0.95


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar test: how often discordant pairs fall this unevenly where both are alike."""
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


@dataclass(frozen=True)
class Paired:
    """Counts of prompts that two attacks were both run on.

    Attributes:
        both: hit by both.
        first: hit by the first alone.
        second: hit by the second alone.
        neither: hit by none.
    """

    both: int
    first: int
    second: int
    neither: int

    @classmethod
    def of(cls, first: Mapping[str, Outcome], second: Mapping[str, Outcome]) -> Paired:
        """Count outcomes by the keys that both have."""
        pairs = [(outcome.success, second[key].success) for key, outcome in first.items() if key in second]
        return cls(*(pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))))

    @property
    def count(self) -> int:
        """Prompts."""
        return self.both + self.first + self.second + self.neither

    @property
    def p(self) -> float:
        """McNemar's test of the two."""
        return mcnemar(self.first, self.second)

    @property
    def difference(self) -> float:
        """Rate of the first less that of the second, in [-1, 1]; of at least one prompt."""
        return (self.first - self.second) / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Confidence interval of ``difference``: method 10 of Newcombe 1998 (Statistics in Medicine 17, 2635-2650).

        Wilson's intervals of both rates, squared and added with the correlation of the pairs, which is taken from
        counts that a continuity correction has moved towards none.
        """
        n, hits = self.count, (self.both + self.first, self.both + self.second)
        spread = math.sqrt(math.prod(hits) * math.prod(n - successes for successes in hits))
        product: float = self.both * self.neither - self.first * self.second
        if product > 0:
            product = max(product - n / 2, 0)
        correlation = product / spread if spread else 0.0
        (low1, high1), (low2, high2) = (_wilson(successes, n) for successes in hits)
        down, up = (
            math.sqrt(a * a - 2 * correlation * a * b + b * b)
            for a, b in ((hits[0] / n - low1, high2 - hits[1] / n), (high1 - hits[0] / n, hits[1] / n - low2))
        )
        return self.difference - down, self.difference + up

    def __str__(self) -> str:
        """Cells of a Markdown table."""
        if not self.count:
            return "0 | | | |"
        low, high = self.interval
        change = f"{self.difference:+.1%} ({low:+.1%} .. {high:+.1%})"
        return f"{self.count} | {self.first} | {self.second} | {self.p:.2g} | {change}"


def _wilson(successes: int, n: int) -> tuple[float, float]:
    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    share, centre = successes / n, (successes + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(n * share * (1 - share) + z * z / 4)
    return centre - half, centre + half
