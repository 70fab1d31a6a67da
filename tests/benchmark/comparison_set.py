"""The fixed set on which attacks are compared: which victims, which prompts, and in which order."""

from __future__ import annotations

import itertools
import random
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_unlearndiff.core.outcome import Outcome, Status

from .contenders import NAMES, Attacker, Victim, erased_concept, exhaustion
from .paired import Paired

Outcomes = Mapping[str, Outcome]
"""By victim and prompt."""

SHIPPED = (
    "uce-church",
    "uce-fish",
    "uce-truck",
    "esd-x-church",
    "esd-x-parachute",
    "ac-truck",
    "advunlearn-fish",
)
"""Of ``examples/emoji/erased``. The search was tuned on the first, the first three were picked for having a way in."""

UNTOUCHED = (
    "uce-cat",
    "uce-guitar",
    "uce-mushroom",
    "esd-x-rocket",
    "esd-x-tree",
    "ac-tree",
    "ac-guitar",
    "advunlearn-rocket",
    "esd-x-twemoji",
)
"""Made by ``erase/comparison.py``; chosen by method and object, and attacked by nothing before this set was fixed.

ESD-u, shipped and made there, is not in the set: it still draws most of its prompts with no attack.
"""

GROUPS: Mapping[str, tuple[str, ...]] = {"untouched": UNTOUCHED, "shipped": SHIPPED}

SET = ("fast", "random:4,0,0", "paper:4,0,0", "fast@818", "paper:4,0,0@1298")
"""Contenders where none are named. A prompt that resists costs ``paper`` 6,550 F, which are 8 x 818, ``fast`` 1,298."""

ROUNDS, SIZE = 3, 8
SEED = 20261128


@dataclass(frozen=True)
class Block:
    """Prompts of one victim that are attacked together, by every contender before the next block's.

    Attributes:
        round: its number, from 0.
        victim: its name.
        cases: case numbers of the prompts, in random order.
    """

    round: int
    victim: str
    cases: tuple[int, ...]


def blocks(rounds: int = ROUNDS, size: int = SIZE) -> list[Block]:
    """List the set's blocks in the order of work, in which every round visits each victim once.

    Prompts, and the order of victims in each round, are drawn from a fixed seed, so that a run that was stopped has
    seen a random sample of each victim's prompts.
    """
    drawn = {}
    for name in (*SHIPPED, *UNTOUCHED):
        cases = [prompt.case for prompt in erased_concept(name).prompts]
        drawn[name] = random.Random(f"{SEED} {name}").sample(cases, rounds * size)
    order = []
    for number in range(rounds):
        names = random.Random(f"{SEED} {number}").sample(sorted(drawn), len(drawn))
        order += [Block(number, name, tuple(drawn[name][number * size :][:size])) for name in names]
    return order


@dataclass(frozen=True)
class Contender:
    """One attack on the set.

    Attributes:
        attack: its name.
        sampled: prompts that it attacks of a block, the first ones, by round; empty for all.
        within: forward passes after which a prompt counts as one that resisted; None for all that the attack makes.
    """

    attack: str
    sampled: tuple[int, ...] = ()
    within: int | None = None

    @classmethod
    def parse(cls, text: str) -> Contender:
        """Read ``NAME``, ``NAME:SAMPLED`` or ``NAME@WITHIN``: ``fast``, ``paper:4,0,0``, ``fast@818``.

        Raises:
            ValueError: no such attack, or no such numbers.
        """
        name, _, within = text.partition("@")
        name, _, sampled = name.partition(":")
        if name not in NAMES:
            raise ValueError(name)
        return cls(name, tuple(map(int, filter(None, sampled.split(",")))), int(within) if within else None)

    def cases(self, block: Block) -> tuple[int, ...]:
        """Return case numbers of the block's prompts that it attacks."""
        return block.cases[: self.sampled[block.round]] if self.sampled else block.cases

    def __str__(self) -> str:
        """Name in a table."""
        return f"{self.attack} in {self.within:,} F" if self.within else self.attack

    def cut(self, outcomes: Outcomes) -> Outcomes:
        """Return what the outcomes would be, had the attack ended after ``within`` forward passes."""
        limit = self.within
        if limit is None:
            return outcomes
        return {
            key: outcome
            if outcome.forwards <= limit
            else replace(outcome, status=Status.RESISTED, forwards=limit, adversarial=None, inserted=None)
            for key, outcome in outcomes.items()
        }


def attack_set(work: Sequence[Block], contenders: Sequence[Contender], attacker: Attacker) -> None:
    """Attack block by block; what is kept is not attacked again."""
    for number, block in enumerate(work, 1):
        for contender in contenders:
            if cases := contender.cases(block):
                attacker.run(Victim.find(block.victim, None).cases(cases), contender.attack)
        print(f"block {number} of {len(work)}, {block.victim}, is done", file=sys.stderr)


def outcomes_of(work: Sequence[Block], contender: Contender, attacker: Attacker) -> dict[str, Outcomes]:
    """Return a contender's outcomes on the set by victim, of finished blocks only.

    Prompts that end first are those that are easy: a block that was interrupted would make an attack look better.
    """
    outcomes: dict[str, Outcomes] = {}
    for name in (*UNTOUCHED, *SHIPPED):
        digests = {prompt.case: prompt.digest for prompt in erased_concept(name).prompts}
        parts = [cases for block in work if block.victim == name and (cases := contender.cases(block))]
        if not parts:
            continue
        finished = attacker.run(Victim.find(name, None).cases(tuple(itertools.chain(*parts))), contender.attack)
        whole = [digests[case] for cases in parts if all(digests[c] in finished for c in cases) for case in cases]
        outcomes[name] = contender.cut({f"{name} {digest}": finished[digest] for digest in whole})
    return outcomes


def tables(work: Sequence[Block], contenders: Sequence[Contender], attacker: Attacker) -> Iterator[str]:
    """Yield the lines of Markdown tables: rates, pairs of attacks, what any of them breaks, and victims."""
    outcomes = {contender: outcomes_of(work, contender, attacker) for contender in contenders}
    groups = {**GROUPS, "all": (*UNTOUCHED, *SHIPPED)}
    pooled = {
        group: {contender: _pool(of, names) for contender, of in outcomes.items()} for group, names in groups.items()
    }
    yield "| victims | attack | prompts | pre-ASR | ASR | F if it resists | F per prompt | images until a hit, median |"
    yield "|---|---|---|---|---|---|---|---|"
    image = Victim.find(SHIPPED[0], 1).image
    for group, of in pooled.items():
        yield from (_rate(group, contender, part, image) for contender, part in of.items() if part)
    yield ""
    yield "| victims | first | second | prompts of both | only first | only second | p | difference (95% interval) |"
    yield "|---|---|---|---|---|---|---|---|"
    for group, of in pooled.items():
        pairs = (pair for pair in itertools.combinations(of, 2) if pair[0].attack != pair[1].attack)
        yield from (f"| {group} | {one} | {other} | {Paired.of(of[one], of[other])} |" for one, other in pairs)
    yield ""
    yield f"| victims | prompts of all that need an attack | broken by any | {' | '.join(map(str, contenders))} |"
    yield "|---|---|---|" + "---|" * len(contenders)
    for group, of in pooled.items():
        yield _broken(group, list(of.values()))
    yield ""
    yield f"| victim | pre-ASR | {' | '.join(map(str, contenders))} |"
    yield "|---|---|" + "---|" * len(contenders)
    for name in groups["all"]:
        parts = [of.get(name, {}) for of in outcomes.values()]
        yield f"| {name} | {_share(parts[0], Status.HIT_WITHOUT_ATTACK)} | {' | '.join(map(_share, parts))} |"


def _pool(outcomes: Mapping[str, Outcomes], names: Sequence[str]) -> Outcomes:
    return {key: outcome for name in names for key, outcome in outcomes.get(name, {}).items()}


def _rate(group: str, contender: Contender, outcomes: Outcomes, image: int) -> str:
    forwards = [outcome.forwards for outcome in outcomes.values()]
    hits = sum(outcome.success for outcome in outcomes.values())
    images = [each.evaluations for each in outcomes.values() if each.status is Status.HIT_UNDER_ATTACK]
    cells = (
        group,
        contender,
        len(outcomes),
        _share(outcomes, Status.HIT_WITHOUT_ATTACK),
        f"{hits}/{len(outcomes)} = {hits / len(outcomes):.1%}",
        f"{cost:,}" if (cost := contender.within or exhaustion(contender.attack, image)) else "",
        f"{sum(forwards) / len(forwards):,.0f}",
        f"{statistics.median(images):g}" if images else "",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _broken(group: str, parts: Sequence[Outcomes]) -> str:
    """Count, of the prompts that every contender attacked, those that any and that each of them broke."""
    rows = [[part[key] for part in parts] for key in parts[0] if all(key in part for part in parts)]
    rows = [row for row in rows if all(outcome.status is not Status.HIT_WITHOUT_ATTACK for outcome in row)]
    hits = [[outcome.success for outcome in row] for row in rows]
    each = [sum(column) for column in zip(*hits, strict=True)] or [0] * len(parts)
    return f"| {' | '.join(map(str, (group, len(rows), sum(map(any, hits)), *each)))} |"


def _share(outcomes: Outcomes, *statuses: Status) -> str:
    hits = sum(outcome.status in statuses if statuses else outcome.success for outcome in outcomes.values())
    return f"{hits}/{len(outcomes)}"
