"""The table of victims: what each erased model still draws, unattacked, attacked, and under random tokens.

``python victims.py`` attacks every victim in ``erased`` with its concept's prompts and prints a Markdown table. What
is finished is kept in ``.unlearndiff``, so that a killed run goes on, and a second one only prints.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept_file import ConceptLibrary
from pytest_unlearndiff.core.result import AttackResult
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.local_backend import LocalBackend
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.runs.progress import Snapshot
from pytest_unlearndiff.runs.runner import Runner
from pytest_unlearndiff.store.store import Store

EMOJI = Path(__file__).resolve().parent
sys.path.insert(0, str(EMOJI / "erase"))
METHODS = ("esd-x", "esd-u", "uce", "ac", "fmn", "advunlearn")


@dataclass(frozen=True)
class Row:
    """One victim: its file, what was erased from it, and how."""

    path: Path
    method: str
    concept: str


def victims() -> list[Row]:
    """Every victim in ``erased``, by concept and method."""
    rows = []
    for path in (EMOJI / "erased").iterdir():
        name = path.name.removesuffix(".safetensors")
        method = next((m for m in METHODS if name.startswith(m + "-")), None)
        if method is not None:
            rows.append(Row(path, method, name.removeprefix(method + "-")))
    return sorted(rows, key=lambda row: (row.concept, METHODS.index(row.method)))


def attack(
    row: Row, spec: AttackConfig, prompts: int, store: Store, parts: ModelCache, batch_size: int
) -> AttackResult:
    """One campaign, from the store where it knows."""
    concept = ConceptLibrary([EMOJI / "concepts"]).find(row.concept).first(prompts)
    source, hashes = ModelSpec(row.path, EMOJI / "model"), store.fingerprints
    fingerprint = Fingerprint.of(source, hashes)
    judge = hashes.of(Path(str(concept.judge.options["model"])))

    def tell(snapshot: Snapshot) -> None:
        counts = snapshot.counts
        left = f"{snapshot.seconds_left:.0f}s left" if snapshot.seconds_left else ""
        done = counts.total - counts.missing
        print(
            f"\r{row.path.name} {spec.name} {done}/{counts.total} {counts.hits} hits {left}   ",
            end="",
            file=sys.stderr,
        )

    campaign = Campaign(concept, spec, fingerprint, judge)
    runner = Runner(store, parts, LocalBackend(), batch_size=batch_size, progress=tell)
    result = runner.run(campaign, lambda: source)
    print("\r" + " " * 78 + "\r", end="", file=sys.stderr)
    return result


def kept(row: Row, each: int) -> float:
    """Share of images of the other objects (for a style: other styles too) in which the judges still see them."""
    import check

    return float(check.kept(row.path, row.concept, each))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=50, help="prompts a victim")
    parser.add_argument("--each", type=int, default=12, help="images of every other word, for the kept column")
    parser.add_argument("--batch-size", type=int, default=8, help="prompts attacked together")
    parser.add_argument("--schedule", default="fast", help="fast or paper")
    parser.add_argument("--only", default="", help="only victims whose name contains this")
    args = parser.parse_args()
    store, parts = Store(EMOJI / ".unlearndiff"), ModelCache()
    print(
        f"| victim | others kept | pre-ASR | ASR, UnlearnDiffAtk ({args.schedule}) | ASR, random tokens | attack time |"
    )
    print("|---|---|---|---|---|---|")
    for row in victims():
        if args.only not in row.path.name:
            continue
        searched = attack(row, AttackConfig(schedule=args.schedule), args.prompts, store, parts, args.batch_size)
        control = attack(row, AttackConfig("random", args.schedule), args.prompts, store, parts, args.batch_size)
        seconds = sum(outcome.seconds for outcome in searched.outcomes if outcome is not None)
        cells = (
            row.path.name,
            f"{kept(row, args.each):.0%}",
            searched.pre_asr,
            searched.asr,
            control.asr,
            f"{seconds:.0f} s",
        )
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
