"""The store in a session: its modes, its key, and that damage is never believed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from worlds import MODEL, REQUIRE, World, text, verdict

from pytest_unlearndiff.core.outcome import Outcome, Status


@pytest.mark.parametrize("mode", ["rw", "ro", "require"])
def test_reading_modes_need_no_torch(world: World, mode: str) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    world.without_torch()
    before = world.files()
    # pytest's own cache is another.
    result = world.bare(*MODEL, f"--unlearndiff-cache={mode}", "--cache-clear")
    assert result.ret == 0
    # Where the store may be written, gates are kept for reports, and hashes of files that are no longer young.
    hashes, after = ".unlearndiff/fingerprints.json", world.files()
    gates = {name for name in after if name.startswith(".unlearndiff/gates/")}
    same = after.keys() - gates - ({hashes} if mode == "rw" else set())
    assert after.keys() - gates == before.keys()
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert bool(gates) is (mode == "rw")


@pytest.mark.parametrize(("mode", "stored"), [("off", True), ("refresh", True), ("rw", False), ("off", False)])
def test_nothing_is_read_or_created_without_an_outcome(world: World, mode: str, stored: bool) -> None:
    """Here no attack can begin."""
    world.know("r" * 10) if stored else world.concept()
    world.gate("max_asr=0.1")
    world.without_torch()
    result = world.bare(*MODEL, f"--unlearndiff-cache={mode}")
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    assert "10 of 10 prompts are missing" in result.stdout.str()
    assert (world.path / ".unlearndiff").exists() is stored


@pytest.mark.parametrize("arguments", [(), (*MODEL, REQUIRE)], ids=["skipped", "require"])
def test_session_that_may_not_attack_creates_nothing(world: World, arguments: tuple[str, ...]) -> None:
    world.concept()
    world.gate("max_asr=0.1")
    before = world.files()
    world.bare(*arguments)
    assert world.files() == before


@pytest.mark.parametrize("mode", ["ro", "off"])
def test_other_modes_attack_and_keep_nothing(world: World, mode: str) -> None:
    world.concept()
    world.scripted("r" * 10)
    world.gate("max_asr=0.1, exhaustive=True")
    result = world.attack(f"--unlearndiff-cache={mode}")
    result.assert_outcomes(passed=1)
    assert "10 attacked" in text(result)
    assert not (world.path / ".unlearndiff").exists()


def rewrite(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / name
        before = path.read_text(encoding="utf-8")
        assert old in before
        path.write_text(before.replace(old, new), encoding="utf-8")

    return change


def copied_over(folder: Path) -> None:
    """As ``cp -p`` of another erased model does it."""
    model, other = folder / "model.safetensors", folder / "other.safetensors"
    other.write_bytes(model.read_bytes().swapcase())
    os.utime(other, ns=(0, model.stat().st_mtime_ns))
    subprocess.run(["cp", "-p", other, model], check=True)


def rename(old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / old).rename(folder / new)


def nothing(folder: Path) -> None:
    """Only the session's arguments differ."""


CSV = "concepts/church.csv"
# What happens between the campaign and the gate, the gate's arguments, and how many of 10 prompts are still known.
CHANGES: dict[str, tuple[Callable[[Path], object], tuple[str, ...], int]] = {
    "nothing": (nothing, (), 10),
    "weights": (rewrite("model.safetensors", "unlearned", "unlearNed"), (), 0),
    "weights of the same size and time": (copied_over, (), 0),
    "base weights": (rewrite("base/unet.safetensors", "weights", "Weights"), (), 0),
    "judge weights": (rewrite("judge/model.safetensors", "weights", "Weights"), (), 0),
    "judge label": (rewrite("concepts/church.yaml", '"label": "church"', '"label": "chapel"'), (), 0),
    "a file more in the base": (lambda folder: (folder / "base/config.json").write_text("{}"), (), 0),
    "documentation": (lambda folder: (folder / "base/README.md").write_text("new"), (), 10),
    "model renamed": (rename("model.safetensors", "new.safetensors"), ("--unlearndiff-model=new.safetensors",), 10),
    "one prompt's text": (rewrite(CSV, "church number 3", "chapel number 3"), (), 9),
    "one prompt's seed": (rewrite(CSV, "number 3,3,", "number 3,33,"), (), 9),
    "guidance": (rewrite(CSV, "7.5", "7"), (), 0),
    "a case number": (rewrite(CSV, "103,", "903,"), (), 10),
    "a prompt more": (rewrite(CSV, "103,a", "200,a new prompt,1,7.5\n103,a"), (), 10),
    "run seed": (nothing, ("--unlearndiff-seed=1",), 0),
    "attack": (nothing, ("--unlearndiff-attack=p4d",), 0),
    "schedule": (nothing, ("--unlearndiff-schedule=paper",), 0),
    "loss": (nothing, ("--unlearndiff-loss=classifier",), 0),
    "dtype": (nothing, ("--unlearndiff-dtype=float16",), 0),
    "machinery": (
        nothing,
        ("--unlearndiff-batch-size=2", "--unlearndiff-device=cuda", "--unlearndiff-progress=off"),
        10,
    ),
}

# What the judge saw in the base's images counts no longer either.
WITHOUT_CONTROL = {"base weights", "judge weights", "judge label", "a file more in the base", "dtype"}


@pytest.mark.parametrize("change", CHANGES)
def test_only_outcome_changing_changes_miss(world: World, change: str) -> None:
    happens, arguments, known = CHANGES[change]
    world.know("r" * 10)
    happens(world.path)
    world.gate("max_asr=1")
    result = world.run("--unlearndiff-report=json:report.json", *arguments)
    (gate,) = world.gates()
    assert len([prompt for prompt in gate["prompts"] if prompt["status"] != "missing"]) == known, result.stdout.str()
    # Even a limit that allows everything wants an image of every prompt.
    assert gate["verdict"] == ("PASS" if known == len(gate["prompts"]) == 10 else "INCOMPLETE")
    assert result.ret == (gate["verdict"] != "PASS")
    assert (gate["control"]["seen"] == 0) is (change in WITHOUT_CONTROL)


def test_limit_is_not_in_the_key(world: World) -> None:
    world.know("bbrrrrrrrr")
    for limit, status in ((0.1, 1), (0.2, 0)):
        world.gate(f"max_asr={limit}")
        assert world.run().ret == status


DAMAGE: dict[str, Callable[[str], str]] = {
    "altered status": lambda line: line.replace('"hit-under-attack"', '"resisted"'),
    "torn": lambda line: line[: len(line) // 2],
    "no checksum": lambda line: json.dumps({key: value for key, value in json.loads(line).items() if key != "check"}),
    "not text": lambda line: "\udcff\udcfe",
    "deeply nested": lambda line: "[" * 100_000,
}


def test_damaged_lines_are_not_believed(world: World) -> None:
    """Each is a missing prompt, so that nine resisted ones do not make a gate of 5% pass."""
    for i, damage in enumerate(DAMAGE.values()):
        journal = world.know("brrrrrrrrr", f"thing{i}")
        first, *rest = journal.read_text(encoding="utf-8").splitlines()
        journal.write_bytes("\n".join([damage(first), *rest, ""]).encode("utf-8", "surrogateescape"))
        world.gate("max_asr=0.05", f"test_{i}", f"thing{i}")
    result = world.run()
    result.assert_outcomes(failed=len(DAMAGE))
    for i, name in enumerate(DAMAGE):
        assert verdict(result, f"thing{i}") == "INCOMPLETE", name


def swap(name: str) -> Callable[[Path, Path], None]:
    """Give two files of the folders, or the folders themselves, each other's names."""

    def happens(broken: Path, resisted: Path) -> None:
        first, second, aside = broken / name, resisted / name, broken.parent / "aside"
        first.rename(aside)
        second.rename(first)
        aside.rename(second)

    return happens


def line_copied(broken: Path, resisted: Path) -> None:
    with (broken / "journal.jsonl").open("ab") as file:
        file.write((resisted / "journal.jsonl").read_bytes())


def with_no_key(change: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    def happens(broken: Path, resisted: Path) -> None:
        change(broken, resisted)
        (broken / "key.json").unlink()

    return happens


FOREIGN = "10 (10 written for another campaign)"
# What happens to the folders of a campaign in which every prompt broke and of one in which none did, how the gate on
# the first ends, and what the session says of it.
MOVES: dict[str, tuple[Callable[[Path, Path], None], str, str]] = {
    "lines copied": (line_copied, "FAIL", f"distrusted lines: {FOREIGN}"),
    "journals swapped": (swap("journal.jsonl"), "INCOMPLETE", f"distrusted lines: {FOREIGN}"),
    "journals swapped, no key": (with_no_key(swap("journal.jsonl")), "INCOMPLETE", FOREIGN),
    "folders swapped": (swap("."), "INCOMPLETE", "is not believed, since its key.json is not this campaign's"),
    "folders swapped, no key": (with_no_key(swap(".")), "INCOMPLETE", FOREIGN),
    "keys swapped": (swap("key.json"), "INCOMPLETE", "is not believed, since its key.json is not this campaign's"),
}


@pytest.mark.parametrize("move", MOVES)
def test_moved_outcomes_answer_for_nothing(world: World, move: str) -> None:
    """The same prompts with another seed of the run, which have resisted."""
    happens, ends, reason = MOVES[move]
    folder = world.know("bbbbbbbbbb").parent
    campaign, store = world.campaign("church", "--unlearndiff-seed=1")
    entry = store.campaign("church", campaign.key)
    store.create(entry, campaign.key)
    for prompt in campaign.concept.prompts:
        entry.append(Outcome(prompt.digest, Status.RESISTED))
    happens(folder, entry.folder)
    world.gate("max_asr=0.1")
    result = world.run("-v")
    assert result.ret == 1
    assert verdict(result) == ends
    assert reason in text(result)


def test_misplaced_folder_is_set_aside(world: World) -> None:
    folder = world.know("rrrrrrrrrr").parent
    world.scripted("bbbbbbbbbb")
    world.gate("max_asr=0.1, exhaustive=True")
    (folder / "key.json").write_text("{}")
    assert "10 attacked" in text(world.attack())
    result = world.run()
    assert verdict(result) == "FAIL"
    assert "not believed" not in result.stdout.str()
    assert (folder / "distrusted" / "journal.jsonl").read_text().count("resisted") == 10


def test_model_replaced_during_the_session_keeps_no_outcome(world: World) -> None:
    """Its outcomes would be kept under the hash of the one before."""
    world.concept()
    world.scripted("r" * 10)
    world.gate("max_asr=0.1")
    world.conftest(
        """
        import pathlib

        scripted = ScriptedEngine.__init__

        def replaced(self, *parts):
            pathlib.Path('model.safetensors').write_text('weights:{replaced}')
            scripted(self, *parts)

        ScriptedEngine.__init__ = replaced
        """
    )
    result = world.attack()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *ModelError: *model.safetensors, or its base, was replaced while the session ran*"])
    assert not world.kept()


@pytest.mark.parametrize("mode", ["rw", "require"])
def test_file_in_the_place_of_a_folder(world: World, mode: str) -> None:
    """It is one error where something is to be kept, and an empty store where nothing is."""
    world.concept()
    world.gate("max_asr=0.1")
    world.scripted("r" * 10)
    world.file("kept/campaigns", "")
    result = world.attack("--unlearndiff-cache-dir=kept", f"--unlearndiff-cache={mode}")
    assert result.ret == 1
    assert "pytest_unlearndiff/store" not in result.stdout.str()
    if mode == "rw":
        result.stdout.fnmatch_lines(["E *StoreError: the store *kept cannot be *"])
    else:
        assert verdict(result) == "INCOMPLETE"


def test_place_of_the_store(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    world.file("not-a-folder", "")
    refused = world.run("--unlearndiff-cache-dir=not-a-folder")
    assert refused.ret == 4
    refused.stderr.fnmatch_lines(["ERROR: --unlearndiff-cache-dir: *not-a-folder is not a folder"])
    assert world.run("--unlearndiff-cache-dir=elsewhere").ret == 1
    (world.path / ".unlearndiff").rename(world.path / "elsewhere")
    assert world.run("--unlearndiff-cache-dir=elsewhere").ret == 0
