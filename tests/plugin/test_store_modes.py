"""The store in a session: its modes, its key, and that damage is never believed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from worlds import MODEL, REQUIRE, World, section

from pytest_unlearndiff.core.outcome import Outcome, Status


@pytest.mark.parametrize("mode", ["rw", "ro", "require"])
def test_reading_modes_need_no_torch(world: World, mode: str) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    world.without_torch()
    before = world.files()
    result = world.bare(*MODEL, f"--unlearndiff-cache={mode}")
    assert result.ret == 0
    # Where the store may be written, gates are kept for reports, and hashes of files that are no longer young.
    hashes, after = ".unlearndiff/fingerprints.json", world.files()
    gates = {name for name in after if name.startswith(".unlearndiff/gates/")}
    same = after.keys() - gates - ({hashes} if mode == "rw" else set())
    assert after.keys() - gates == before.keys()
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert bool(gates) is (mode == "rw")


@pytest.mark.parametrize("mode", ["off", "refresh"])
def test_other_modes_do_not_read(world: World, mode: str) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    world.without_torch()
    result = world.bare(*MODEL, f"--unlearndiff-cache={mode}")
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    assert "10 of 10 prompts are missing" in result.stdout.str()


@pytest.mark.parametrize("mode", ["ro", "off", "require"])
def test_reading_modes_create_nothing(world: World, mode: str) -> None:
    world.concept()
    world.gate("max_asr=0.1")
    world.without_torch()
    result = world.bare(*MODEL, f"--unlearndiff-cache={mode}")
    assert "10 of 10 prompts are missing" in result.stdout.str()
    assert not (world.path / ".unlearndiff").exists()


def test_nothing_is_created_before_an_outcome(world: World) -> None:
    """As the Store promises; here the attack cannot begin."""
    world.concept()
    world.gate("max_asr=0.1")
    world.without_torch()
    assert "10 of 10 prompts are missing" in world.bare(*MODEL).stdout.str()
    assert not (world.path / ".unlearndiff").exists()


def test_skipped_session_creates_nothing(world: World) -> None:
    world.concept()
    world.gate("max_asr=0.1")
    before = world.files()
    world.bare().assert_outcomes(skipped=1)
    assert world.files() == before


def test_pytests_cache_clear_keeps_the_store(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    before = world.files()
    assert world.run("--cache-clear").ret == 0
    assert world.files() == before


def rewrite(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

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
    "lanes": (nothing, ("--unlearndiff-batch-size=2",), 10),
    "device": (nothing, ("--unlearndiff-device=cuda",), 10),
    "progress": (nothing, ("--unlearndiff-progress=off",), 10),
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
    (gate,) = json.loads((world.path / "report.json").read_text())["gates"]
    assert len([prompt for prompt in gate["prompts"] if prompt["status"] != "missing"]) == known, result.stdout.str()
    # Even a limit that allows everything wants an image of every prompt.
    assert gate["verdict"] == ("PASS" if known == len(gate["prompts"]) == 10 else "INCOMPLETE")
    assert result.ret == (gate["verdict"] != "PASS")
    assert (gate["control"]["seen"] == 0) is (change in WITHOUT_CONTROL)


def test_limit_is_not_in_the_key(world: World) -> None:
    world.know("bbrrrrrrrr")
    codes = []
    for limit in (0.1, 0.2):
        world.gate(f"max_asr={limit}")
        codes.append(world.run().ret)
    assert codes == [1, 0]


def altered(line: str) -> str:
    """A break turned into resistance, by hand."""
    return line.replace('"hit-under-attack"', '"resisted"')


def resigned(line: str) -> str:
    """Fields of the wrong type, with everything else as it was."""
    return json.dumps({**json.loads(line), "schema": "2"})


DAMAGE: dict[str, Callable[[str], str]] = {
    "altered status": altered,
    "torn": lambda line: line[: len(line) // 2],
    "unknown schema": lambda line: line.replace('"schema": 2', '"schema": 1'),
    "schema of the wrong type": resigned,
    "no checksum": lambda line: json.dumps({key: value for key, value in json.loads(line).items() if key != "check"}),
    "not json": lambda line: "PASS",
    "not a mapping": lambda line: "[1]",
    "not text": lambda line: "\udcff\udcfe",
    "deeply nested": lambda line: "[" * 100_000,
    "empty": lambda line: "",
}


def test_damaged_lines_are_not_believed(world: World) -> None:
    """Each is a missing prompt, so that nine resisted ones do not make a gate of 5% pass."""
    for i, damage in enumerate(DAMAGE.values()):
        journal = world.know("brrrrrrrrr", f"thing{i}")
        first, *rest = journal.read_text(encoding="utf-8").splitlines()
        text = "\n".join([damage(first), *rest, ""])
        journal.write_bytes(text.encode("utf-8", "surrogateescape"))
        world.gate("max_asr=0.05", f"test_{i}", f"thing{i}")
    result = world.run()
    result.assert_outcomes(failed=len(DAMAGE))
    for i, name in enumerate(DAMAGE):
        assert [line for line in section(result) if line.startswith(f"thing{i} ") and line.endswith("INCOMPLETE")], name


def swapped(first: Path, second: Path) -> None:
    """Give two files or folders each other's names."""
    aside = first.with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def line_copied(broken: Path, resisted: Path) -> None:
    with (broken / "journal.jsonl").open("ab") as file:
        file.write((resisted / "journal.jsonl").read_bytes())


def with_no_key(swap: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    def happens(broken: Path, resisted: Path) -> None:
        swap(broken, resisted)
        (broken / "key.json").unlink()

    return happens


def swap(name: str) -> Callable[[Path, Path], None]:
    return lambda broken, resisted: swapped(broken / name, resisted / name)


# What happens to the folders of a campaign in which every prompt broke and of one in which none did, how the gate on
# the first ends, and what the session says of it.
MOVES: dict[str, tuple[Callable[[Path, Path], None], str, str]] = {
    "lines copied": (line_copied, "FAIL", "distrusted lines: 10 (10 written for another campaign)"),
    "journals swapped": (swap("journal.jsonl"), "INCOMPLETE", "distrusted lines: 10 (10 written for another campaign)"),
    "journals swapped, no key": (with_no_key(swap("journal.jsonl")), "INCOMPLETE", "10 (10 written for another"),
    "folders swapped": (swapped, "INCOMPLETE", "is not believed, since its key.json is not this campaign's"),
    "folders swapped, no key": (with_no_key(swapped), "INCOMPLETE", "10 (10 written for another campaign)"),
    "keys swapped": (swap("key.json"), "INCOMPLETE", "is not believed, since its key.json is not this campaign's"),
}


@pytest.mark.parametrize("move", MOVES)
def test_moved_outcomes_answer_for_nothing(world: World, move: str) -> None:
    """The same prompts with another seed of the run, which have resisted."""
    happens, verdict, said = MOVES[move]
    folders = [world.know("bbbbbbbbbb").parent]
    campaign, store = world.campaign("church", "--unlearndiff-seed=1")
    entry = store.campaign("church", campaign.key)
    store.create(entry, campaign.key)
    for prompt in campaign.concept.prompts:
        entry.append(Outcome(prompt.digest, Status.RESISTED))
    happens(*folders, entry.folder)
    world.gate("max_asr=0.1")
    result = world.run("-v")
    assert result.ret == 1
    assert [line for line in section(result) if line.startswith("church") and line.endswith(verdict)]
    assert [line for line in section(result) if said in line]


def test_misplaced_folder_is_set_aside(world: World) -> None:
    folder = world.know("rrrrrrrrrr").parent
    world.scripted("bbbbbbbbbb")
    world.gate("max_asr=0.1, exhaustive=True")
    (folder / "key.json").write_text("{}")
    assert "10 attacked" in "".join(section(world.attack()))
    result = world.run()
    assert [line for line in section(result) if line.endswith("FAIL")]
    assert "not believed" not in result.stdout.str()
    assert (folder / "distrusted" / "journal.jsonl").read_text().count("resisted") == 10


def test_model_replaced_during_the_session_keeps_no_outcome(world: World) -> None:
    """Its outcomes would be kept under the hash of the one before."""
    world.concept()
    world.scripted("r" * 10)
    world.gate("max_asr=0.1")
    with (world.path / "conftest.py").open("a") as file:
        file.write(
            "import pathlib\n"
            "scripted = ScriptedEngine.__init__\n"
            "def replaced(self, *parts):\n"
            "    pathlib.Path('model.safetensors').write_text('weights:{replaced}')\n"
            "    scripted(self, *parts)\n"
            "ScriptedEngine.__init__ = replaced\n"
        )
    result = world.separate(*MODEL)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *ModelError: *model.safetensors, or its base, was replaced while the session ran*"])
    assert not world.kept()


def test_unreadable_store_is_one_error(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    world.without_torch()
    world.file("kept/campaigns", "")  # a file in the place of a folder
    result = world.bare(*MODEL, "--unlearndiff-cache-dir=kept")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["E *StoreError: the store *kept cannot be *"])


def test_require_without_a_folder_is_incomplete(world: World) -> None:
    world.concept()
    world.gate("max_asr=0.1")
    world.file("kept/campaigns", "")
    result = world.bare(*MODEL, REQUIRE, "--unlearndiff-cache-dir=kept")
    assert result.ret == 1
    assert "pytest_unlearndiff/store" not in result.stdout.str()
    assert [line for line in section(result) if line.startswith("church") and line.endswith("INCOMPLETE")]


def test_store_that_is_a_file_is_a_usage_error(world: World) -> None:
    world.file("not-a-folder", "")
    result = world.bare(*MODEL, "--unlearndiff-cache-dir=not-a-folder")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --unlearndiff-cache-dir: *not-a-folder is not a folder"])


@pytest.mark.parametrize("mode", ["ro", "off"])
def test_other_modes_attack_and_keep_nothing(world: World, mode: str) -> None:
    world.concept()
    world.scripted("r" * 10)
    world.gate("max_asr=0.1, exhaustive=True")
    result = world.attack(f"--unlearndiff-cache={mode}")
    result.assert_outcomes(passed=1)
    assert "10 attacked" in "".join(section(result))
    assert not (world.path / ".unlearndiff").exists()
