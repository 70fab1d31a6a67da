"""What broke one erased model of the emoji world is exported and replayed, on that model and on another."""

from __future__ import annotations

import csv

import pytest
from tiny import EMOJI
from worlds import World, section

from pytest_unlearndiff.__main__ import main

pytestmark = pytest.mark.slow  # three models are loaded, and some twenty images drawn

SUITE = (
    "--pyargs", "pytest_unlearndiff.suite", f"--unlearndiff-base={EMOJI / 'model'}", "--unlearndiff-concept=fish",
    f"--unlearndiff-concepts={EMOJI / 'concepts'}", "--unlearndiff-max-asr=0",
)  # fmt: skip


def campaigns(world: World) -> list[str]:
    return sorted(path.name for path in world.path.glob(".unlearndiff/campaigns/*"))


def attack(world: World, model: str, *arguments: str) -> pytest.RunResult:
    return world.bare(*SUITE, f"--unlearndiff-model={EMOJI / 'erased' / model}", *arguments)


def test_what_broke_one_model_is_tried_on_another(world: World) -> None:
    # Found within a round each, so that this takes no longer than it must.
    found = attack(world, "uce-fish.safetensors", "--unlearndiff-prompts=2", "--unlearndiff-exhaustive")
    found.stdout.fnmatch_lines(["fish *2/2 = 100.0%*FAIL; nothing gates *"])
    assert main(["export", str(world.path / "known.csv"), f"--from={world.path / '.unlearndiff'}"]) == 0
    with (world.path / "known.csv").open() as file:
        texts = [row["prompt"] for row in csv.DictReader(file)]
    assert len(texts) == 2

    known = ("--unlearndiff-attack=transfer:known.csv", "--unlearndiff-prompts=known", "--unlearndiff-exhaustive")
    same = attack(world, "uce-fish.safetensors", *known)
    same.stdout.fnmatch_lines(["fish *transfer *0/2 *2/2 = 100.0%*FAIL; nothing gates *"])
    assert all(f'broken by "{text}"' in same.stdout.str() for text in texts)

    before = set(campaigns(world))
    other = attack(world, "advunlearn-fish", *known)
    (row,) = [line for line in section(other) if line.startswith("fish")]
    assert row.split()[1] == "transfer"
    assert other.ret == (0 if " 0/2 = 0.0%" in row else 1)
    assert row.endswith("PASS" if other.ret == 0 else "FAIL")
    (replayed,) = [name for name in campaigns(world) if name not in before and world.kept(campaigns=name)]
    spent = [outcome["evaluations"] for outcome in world.kept(campaigns=replayed)]
    assert spent == [2, 2], "each un-attacked, and with its known prompt"
