"""Two measurements of the same gates: what newly broke, and what newly holds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from .failure_text import wording
from .gate_report import GateReport
from .gate_report_parts import PromptReport
from .text import sanitize

NOTHING = "nothing to compare: no test has a gate on the same concept with the same attack in both"
"""Message where two sessions have nothing in common."""

_SHOWN = 10


@dataclass(frozen=True)
class Comparison:
    """One gate measured twice, prompt by prompt.

    Attributes:
        gate: the later measurement.
        newly_broke: prompts that did not draw the concept before and do now, as they are now.
        newly_holds: prompts that drew it before and do not now, as they were before.
        both: prompts that draw it in both; neither: in none.
        unknown: prompts that errored or are missing in one of the two, or are not in both sets.
    """

    gate: GateReport
    newly_broke: list[PromptReport]
    newly_holds: list[PromptReport]
    both: int
    neither: int
    unknown: int

    @property
    def p_value(self) -> float:
        """McNemar's exact test, two-sided: how often chance alone splits the changed prompts at least so unevenly.

        Under the null hypothesis each changed prompt went either way with probability 1/2 (McNemar 1947), so the
        smaller count is binomial.
        """
        changed = len(self.newly_broke) + len(self.newly_holds)
        fewer = min(len(self.newly_broke), len(self.newly_holds))
        tail = sum(math.comb(changed, count) for count in range(fewer + 1))
        return min(1.0, float(Fraction(2 * tail, 2**changed)))

    def lines(self) -> list[str]:
        """Describe the comparison."""
        broke, holds, words = len(self.newly_broke), len(self.newly_holds), wording(self.gate.attack)
        lines = [
            f"{sanitize(self.gate.concept)} ({sanitize(self.gate.attack)}) {sanitize(self.gate.nodeid)}: {broke} "
            f"{words.newly_broke}, {holds} {words.newly_hold}, {self.both} {words.both_broke}, {self.neither} "
            f"{words.both_hold}, {self.unknown} not comparable; McNemar's exact p = {self.p_value:.3g}"
        ]
        for one, many, prompts in (
            (words.one_newly_broke, words.newly_broke, self.newly_broke),
            (words.one_newly_holds, words.newly_hold, self.newly_holds),
        ):
            lines += [
                f'  prompt {prompt.case} {one}: "{sanitize(prompt.adversarial or prompt.text)}"'
                for prompt in prompts[:_SHOWN]
            ]
            rest = len(prompts) - _SHOWN
            lines += [f"  and {rest} more {many if rest > 1 else one}"] if rest > 0 else []
        return lines


def compare(before: Sequence[GateReport], after: Sequence[GateReport]) -> tuple[list[Comparison], list[str], list[str]]:
    """Compare gates of the same test, concept and attack.

    Returns:
        Comparisons, and the tests whose gates are only in ``before``, and only in ``after``.
    """
    old, new = _by_identity(before), _by_identity(after)
    comparisons = [_compare(old[key], new[key]) for key in new if key in old]
    only_old = [gate.nodeid for key, gate in old.items() if key not in new]
    return comparisons, only_old, [gate.nodeid for key, gate in new.items() if key not in old]


def _by_identity(gates: Sequence[GateReport]) -> dict[tuple[str, ...], GateReport]:
    """Map gates by what makes them the same; a test may have several on one concept."""
    seen: Counter[tuple[str, ...]] = Counter()
    keyed: dict[tuple[str, ...], GateReport] = {}
    for gate in gates:
        name = gate.nodeid, gate.concept, gate.attack, gate.expects
        keyed[*name, str(seen[name])] = gate
        seen[name] += 1
    return keyed


def _compare(before: GateReport, after: GateReport) -> Comparison:
    old = {prompt.digest: prompt for prompt in before.prompts}
    new = {prompt.digest: prompt for prompt in after.prompts}
    pairs = [(old[digest], new[digest]) for digest in new if digest in old]
    decided = [(a, b) for a, b in pairs if not a.unknown and not b.unknown]
    return Comparison(
        after,
        newly_broke=[b for a, b in decided if b.hit and not a.hit],
        newly_holds=[a for a, b in decided if a.hit and not b.hit],
        both=sum(a.hit and b.hit for a, b in decided),
        neither=sum(not a.hit and not b.hit for a, b in decided),
        unknown=len(old.keys() | new.keys()) - len(decided),
    )
