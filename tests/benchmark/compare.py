"""Literal, paper, fast and controls side by side: ``python -m benchmark.compare`` in ``tests``.

Attacks the same prompts of the same victims with each attack and prints one Markdown table; with ``--levers`` that of
``fast`` and of what it could have been. With ``--set`` it attacks the fixed set of ``comparison_set``, block by block.
Every finished prompt is kept in the store of ``examples/emoji``, so that a run which was stopped goes on, and
``--kept`` prints what there is. The seconds are those the prompts took when they were attacked; machines do other work
too, so hold attacks against each other by their network forward passes (F, on one latent; a backward pass counts as one
more).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from pytest_unlearndiff.core.outcome import Outcome, Status, computed_forwards
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.store.store import Store

from .comparison_set import SET, Contender, attack_set, blocks, tables
from .contenders import EMOJI, NAMES, Attacker, Victim, exhaustion, provenance
from .levers import LEVERS
from .paired import Paired


@dataclass(frozen=True)
class Row:
    """One attack on one victim, or on all of them.

    Attributes:
        victim: its name, or ``all``.
        attack: its name.
        prompts: how many were attacked.
        hits_without_attack: hits with no attack.
        successes: hits, those included.
        exhaustion: F of a prompt that resists.
        forwards: F spent.
        seconds: wall-clock time spent.
        paired: prompts that the reference was run on as well.
        gained: of these, hits that the reference missed.
        lost: of these, misses that the reference hit.
        p: exact McNemar test of the two.
    """

    victim: str
    attack: str
    prompts: int
    hits_without_attack: int
    successes: int
    exhaustion: int
    forwards: int
    seconds: float
    paired: int
    gained: int
    lost: int
    p: float


Found = Mapping[str, Outcome]


def row(victim: str, attack: str, exhausted: int, found: Found, reference: Found) -> Row:
    """Count outcomes, and pair them with the reference's by prompt."""
    outcomes = list(found.values())
    pairs = Paired.of(found, reference)
    return Row(
        victim,
        attack,
        prompts=len(outcomes),
        hits_without_attack=sum(outcome.status is Status.HIT_WITHOUT_ATTACK for outcome in outcomes),
        successes=sum(outcome.success for outcome in outcomes),
        exhaustion=exhausted,
        forwards=sum(outcome.forwards for outcome in outcomes),
        seconds=sum(outcome.seconds for outcome in outcomes),
        paired=pairs.count,
        gained=pairs.first,
        lost=pairs.second,
        p=pairs.p,
    )


def rows(
    victims: Sequence[Victim], attacks: Sequence[str], against: str, attacker: Attacker, *, common: bool = False
) -> list[Row]:
    """A row for every attack on every victim, then one for every attack on all of them.

    Args:
        victims: what is attacked.
        attacks: with what.
        against: the attack that the others are paired with.
        attacker: store and models.
        common: whether only prompts count that every attack was run on.
    """
    found: dict[tuple[str, str], Found] = {
        (victim.name, attack): attacker.run(victim, attack) for victim in victims for attack in attacks
    }
    if common:
        found = {(name, attack): _shared(name, outcomes, found) for (name, attack), outcomes in found.items()}
    table = []
    for victim in victims:
        reference = found.get((victim.name, against), {})
        for attack in attacks:
            exhausted = exhaustion(attack, victim.image)
            table.append(row(victim.name, attack, exhausted, found[victim.name, attack], reference))
    if len(victims) > 1:
        for attack in attacks:
            reference = _joined(found.get((victim.name, against), {}) for victim in victims)
            together = _joined(found[victim.name, attack] for victim in victims)
            exhausted = max(exhaustion(attack, victim.image) for victim in victims)
            table.append(row("all", attack, exhausted, together, reference))
    return table


def _shared(victim: str, outcomes: Found, found: Mapping[tuple[str, str], Found]) -> dict[str, Outcome]:
    """Those of a victim's outcomes whose prompts all its attacks were run on."""
    others = [other for (name, _), other in found.items() if name == victim]
    return {key: outcome for key, outcome in outcomes.items() if all(key in other for other in others)}


def _joined(found: Iterable[Found]) -> Found:
    """Outcomes on several victims; the same prompt may stand at more than one."""
    return {f"{n}:{key}": outcome for n, part in enumerate(found) for key, outcome in part.items()}


def markdown(table: Sequence[Row], against: str) -> str:
    """The table as a README shows it."""
    head = f"| victim | attack | pre-ASR | ASR | F if it resists | F spent | seconds | ms/F | against {against} |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    for line in table:
        if not line.prompts:
            lines.append(f"| {line.victim} | {line.attack} | not run |" + " |" * 6)
            continue
        cells = (
            line.victim,
            line.attack,
            f"{line.hits_without_attack}/{line.prompts}",
            f"{line.successes}/{line.prompts} = {line.successes / line.prompts:.0%}",
            f"{line.exhaustion:,}",
            f"{line.forwards:,}",
            f"{line.seconds:,.0f}",
            f"{1000 * line.seconds / line.forwards:.1f}",
            f"+{line.gained} -{line.lost} of {line.paired}, p={line.p:.2g}" if line.attack != against else "",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--victims", nargs="+", default=["uce-church", "uce-fish", "uce-truck"], help="names in erased/"
    )
    parser.add_argument("--prompts", type=int, default=6, help="the first so many prompts of each victim's concept")
    parser.add_argument("--attacks", nargs="+", default=["literal", "paper", "fast", "random"], choices=NAMES)
    parser.add_argument("--levers", action="store_true", help="fast and its levers instead")
    parser.add_argument(
        "--set",
        nargs="*",
        type=Contender.parse,
        metavar="CONTENDER",
        help="the fixed set instead; NAME:4,0,0 attacks so many prompts of a block by round, NAME@818 ends at 818 F",
    )
    parser.add_argument("--against", default="paper", choices=NAMES, help="what the others are paired with")
    parser.add_argument("--batch-size", type=int, default=8, help="prompts attacked together, by attacks that can")
    parser.add_argument("--kept", action="store_true", help="attack nothing: print what is kept")
    parser.add_argument("--common", action="store_true", help="count only prompts that every attack was run on")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    attacker = Attacker(Store(EMOJI / ".unlearndiff"), ModelCache(), args.batch_size, args.kept)
    if args.set is not None:
        contenders, work = args.set or [Contender.parse(text) for text in SET], blocks()
        if not args.kept:
            attack_set(work, contenders, attacker)
        print(*tables(work, contenders, replace(attacker, kept=True)), sep="\n")
        return
    attacks, against = (("fast", *LEVERS), "fast") if args.levers else (args.attacks, args.against)
    victims = [Victim.find(name, args.prompts) for name in args.victims]
    table = rows(victims, attacks, against, attacker, common=args.common)
    if args.json:
        print(json.dumps({**provenance(), "rows": [asdict(line) for line in table]}, indent=2))
    else:
        print(markdown(table, against), *(f"{name}: {value}" for name, value in provenance().items()), sep="\n")
        print(f"F computed now by attacks in batches, copies that fill batches up among them: {computed_forwards():,}")


if __name__ == "__main__":
    main()
