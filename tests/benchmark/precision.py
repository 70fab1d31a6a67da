"""Verdicts by arithmetic: ``python -m benchmark.precision`` in ``tests``, on any device.

Attacks the same prompts of emoji victims in each precision, and counts prompts that end otherwise than in the first.
``auto`` may only become an arithmetic that changes none. Finished prompts are kept in ``examples/emoji``, each
precision's in a store of its own.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from pytest_unlearndiff.core.device import PRECISIONS
from pytest_unlearndiff.core.outcome import Outcome
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.store.store import Store

from .contenders import ATTACKS, EMOJI, Attacker, Victim, provenance


def row(victim: Victim, first: dict[str, Outcome], outcomes: dict[str, Outcome]) -> str:
    """Return one line of the table."""
    both = [(first[digest], outcomes[digest]) for digest in outcomes if digest in first]
    status = sum(one.status is not other.status for one, other in both)
    text = sum(one.adversarial != other.adversarial for one, other in both)
    hits = sum(outcome.success for outcome in outcomes.values())
    errors = sum(outcome.error is not None for outcome in outcomes.values())
    seconds = sum(outcome.seconds for outcome in outcomes.values())
    forwards = sum(outcome.forwards for outcome in outcomes.values())
    cells = (victim.name, victim.dtype, len(outcomes), hits, errors, status, text, f"{forwards:,}", f"{seconds:.0f}")
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--victims", nargs="+", default=["uce-fish", "uce-church", "esd-x-church"])
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--attack", default="fast", choices=ATTACKS)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"], choices=PRECISIONS[1:])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    print("| victim | precision | prompts | hits | errors | other status | other text | F | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in args.victims:
        victim, first = Victim.find(name, args.prompts), dict[str, Outcome]()
        for precision in args.precisions:
            store = Store(EMOJI / ".unlearndiff" / "precision" / args.device.replace(":", "-") / precision)
            mine = replace(victim, dtype=precision, device=args.device)
            outcomes = Attacker(store, ModelCache(), 8).run(mine, args.attack)
            first = first or outcomes
            print(row(mine, first, outcomes), flush=True)
    print("", *(f"{name}: {value}" for name, value in provenance().items()), sep="\n")


if __name__ == "__main__":
    main()
