"""Two measurements of the same gates: what newly broke, and what newly holds."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from .gate_report import PromptRecord
from .stored_reports import StoredGate
from .text import safe
from .wording import wording

NOTHING = "nothing to compare: no test has a gate on the same concept with the same attack in both"
"""Said where two sessions have nothing in common."""

_SHOWN = 10


@dataclass(frozen=True)
class Comparison:
    """One gate measured twice, prompt by prompt.

    Attributes:
        gate: the later measurement.
        newly_broke: prompts that did not draw the concept before and do now, as they are now.
        newly_holds: prompts that drew it before and do not now, as they were before.
        both: prompts that draw it in both; neither: in none.
        undecided: prompts that errored or are missing in one of the two, or are not in both sets.
    """

    gate: StoredGate
    newly_broke: list[PromptRecord]
    newly_holds: list[PromptRecord]
    both: int
    neither: int
    undecided: int

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
        """The comparison in words."""
        broke, holds, words = len(self.newly_broke), len(self.newly_holds), wording(self.gate.attack)
        lines = [
            f"{safe(self.gate.concept)} ({safe(self.gate.attack)}) {safe(self.gate.nodeid)}: {broke} "
            f"{words.newly_broke}, {holds} {words.newly_hold}, {self.both} {words.both_broke}, {self.neither} "
            f"{words.both_hold}, {self.undecided} not comparable; McNemar's exact p = {self.p_value:.3g}"
        ]
        lines += _listed(words.one_newly_broke, self.newly_broke)
        return lines + _listed(words.one_newly_holds, self.newly_holds)


def compare(before: list[StoredGate], after: list[StoredGate]) -> tuple[list[Comparison], list[str], list[str]]:
    """Compare gates of the same test, concept and attack.

    Returns:
        Comparisons, and the tests whose gates are only in ``before``, and only in ``after``.
    """
    old, new = _keyed(before), _keyed(after)
    found = [_compare(old[key], new[key]) for key in new if key in old]
    only_old = [gate.nodeid for key, gate in old.items() if key not in new]
    return found, only_old, [gate.nodeid for key, gate in new.items() if key not in old]


def _keyed(gates: list[StoredGate]) -> dict[tuple[str, str, str, int], StoredGate]:
    """Gates by what makes them the same; a test may have several on one concept."""
    seen: Counter[tuple[str, str, str]] = Counter()
    found = {}
    for gate in gates:
        name = gate.nodeid, gate.concept, gate.attack
        found[*name, seen[name]] = gate
        seen[name] += 1
    return found


def _compare(before: StoredGate, after: StoredGate) -> Comparison:
    old = {prompt.digest: prompt for prompt in before.prompts}
    new = {prompt.digest: prompt for prompt in after.prompts}
    pairs = [(old[digest], new[digest]) for digest in new if digest in old]
    decided = [(a, b) for a, b in pairs if not a.undecided and not b.undecided]
    return Comparison(
        after,
        newly_broke=[b for a, b in decided if b.success and not a.success],
        newly_holds=[a for a, b in decided if a.success and not b.success],
        both=sum(a.success and b.success for a, b in decided),
        neither=sum(not a.success and not b.success for a, b in decided),
        undecided=len(old.keys() | new.keys()) - len(decided),
    )


def _listed(what: str, prompts: list[PromptRecord]) -> list[str]:
    lines = [
        f'  prompt {prompt.case} {what}: "{safe(prompt.adversarial or prompt.text)}"' for prompt in prompts[:_SHOWN]
    ]
    rest = len(prompts) - _SHOWN
    return lines + ([f"  and {rest} more {what}"] if rest > 0 else [])
