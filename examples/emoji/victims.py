"""The table of victims: what each erased model still draws, unattacked, attacked, and under random tokens.

``python victims.py`` attacks every victim in ``erased`` with its concept's prompts and prints a Markdown table;
``python victims.py --flow`` does so for those in ``flow_erased``, ``--attack concept-inversion`` with a learned
embedding, whose rate is no ASR. What is finished is kept in ``.unlearndiff``, so that a killed run goes on, and a
second one only prints.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept_file import ConceptLibrary
from pytest_unlearndiff.core.info import Threat
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


@dataclass(frozen=True)
class Victims:
    """The erased models of one pipeline.

    Attributes:
        folder: of the victims, under this one.
        base: folder of the un-erased pipeline.
        methods: with which names of victims begin, in the order of the table.
        prefix: of the names of the concepts that have this pipeline's sampling.
        check: module in ``erase`` that measures what a victim kept.
    """

    folder: str
    base: str
    methods: tuple[str, ...]
    prefix: str
    check: str


UNET = Victims("erased", "model", ("esd-x", "esd-u", "uce", "ac", "fmn", "advunlearn"), "", "check")
FLOW = Victims("flow_erased", "flow", ("esd-x", "lora", "uce"), "flow-", "flow_check")


@dataclass(frozen=True)
class Row:
    """One victim.

    Attributes:
        path: of its file or folder.
        method: that erased.
        concept: that was erased.
        victims: those it is one of.
    """

    path: Path
    method: str
    concept: str
    victims: Victims


def list_rows(victims: Victims = UNET) -> list[Row]:
    """List every victim in the folder, by concept and method."""
    rows = []
    for path in (EMOJI / victims.folder).iterdir():
        name = path.name.removesuffix(".safetensors")
        method = next((m for m in victims.methods if name.startswith(m + "-")), None)
        if method is not None:
            rows.append(Row(path, method, name.removeprefix(method + "-"), victims))
    return sorted(rows, key=lambda row: (row.concept, victims.methods.index(row.method)))


def attack(
    row: Row, spec: AttackConfig, prompts: int, store: Store, parts: ModelCache, batch_size: int
) -> AttackResult:
    """Run one campaign; outcomes that the store has are read."""
    concept = ConceptLibrary([EMOJI / "concepts"]).find(row.victims.prefix + row.concept).first(prompts)
    source, hashes = ModelSpec(row.path, EMOJI / row.victims.base), store.fingerprints
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
    """Measure the share of images of the other objects (for a style: other styles too) that the judges still see."""
    check = importlib.import_module(row.victims.check)
    return float(check.kept(row.path, row.concept, each))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flow", action="store_true", help="victims of the flow-matching pipeline")
    parser.add_argument("--prompts", type=int, default=50, help="prompts of a victim")
    parser.add_argument("--paper", type=int, default=0, help="prompts of a victim attacked with schedule paper too")
    parser.add_argument(
        "--each", type=int, default=12, help="images of every other word, for the kept column; 0 for none"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="prompts attacked together")
    parser.add_argument("--attack", default="unlearndiff", help="attack, beside random tokens if it is one with text")
    parser.add_argument("--schedule", default="fast", help="fast or paper")
    parser.add_argument("--only", default="", help="only victims whose name contains this")
    args = parser.parse_args()
    store, parts = Store(EMOJI / ".unlearndiff"), ModelCache()
    attacks = [(AttackConfig(args.attack, args.schedule, flow=args.flow), args.prompts)]
    threat = attacks[0][0].info.threat
    if threat is Threat.TEXT:
        attacks.append((AttackConfig("random", args.schedule, flow=args.flow), args.prompts))
    if args.paper:
        attacks.append((AttackConfig(args.attack, "paper", flow=args.flow), args.paper))
    titles = [f"{threat.rate}, {spec.title}" for spec, _ in attacks]
    print("| " + " | ".join(["victim", "others kept", threat.rate_without_attack, *titles, "attack time"]) + " |")
    print("|" + "---|" * (len(titles) + 4))
    for row in list_rows(FLOW if args.flow else UNET):
        if args.only not in row.path.name:
            continue
        results = [attack(row, spec, count, store, parts, args.batch_size) for spec, count in attacks]
        seconds = [
            sum(outcome.seconds for outcome in result.outcomes if outcome is not None)
            for result, (spec, _) in zip(results, attacks, strict=True)
            if spec.name == args.attack
        ]
        cells = (
            row.path.name,
            f"{kept(row, args.each):.0%}" if args.each else "-",
            results[0].rate_without_attack,
            *(result.rate for result in results),
            " + ".join(f"{value:.0f} s" for value in seconds),
        )
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
