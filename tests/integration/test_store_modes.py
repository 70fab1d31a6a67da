"""The store: which modes believe it, what is a hit and what a miss, and that reading it leaves no trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from worlds import MODEL, REQUIRE, World, section


@pytest.mark.parametrize("mode", ["rw", "ro", "require"])
def test_modes_that_read_need_nothing_else(world: World, mode: str) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    world.without_torch()
    before = world.files()
    result = world.bare(*MODEL, f"--unlearndiff-cache={mode}")
    assert result.ret == 0
    # Where the store may be written, the session's gates are kept for its reports.
    after = world.files()
    gates = {name for name in after if name.startswith(".unlearndiff/gates/")}
    assert {name: content for name, content in after.items() if name not in gates} == before
    assert bool(gates) is (mode == "rw")


@pytest.mark.parametrize("mode", ["off", "refresh"])
def test_modes_that_do_not_read_do_not_believe(world: World, mode: str) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    world.without_torch()
    result = world.bare(*MODEL, f"--unlearndiff-cache={mode}")
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    assert "10 of 10 prompts are missing" in result.stdout.str()


@pytest.mark.parametrize("mode", ["ro", "off", "require"])
def test_modes_that_do_not_write_leave_no_folder_behind_a_miss(world: World, mode: str) -> None:
    world.concept()
    world.gate("max_asr=0.1")
    world.without_torch()
    result = world.bare(*MODEL, f"--unlearndiff-cache={mode}")
    assert "10 of 10 prompts are missing" in result.stdout.str()
    assert not (world.path / ".unlearndiff").exists()


def test_nothing_is_created_before_the_first_outcome_is_kept(world: World) -> None:
    """As the Store promises; here the attack cannot begin."""
    world.concept()
    world.gate("max_asr=0.1")
    world.without_torch()
    assert "10 of 10 prompts are missing" in world.bare(*MODEL).stdout.str()
    assert not (world.path / ".unlearndiff").exists()


def test_a_skipped_session_leaves_no_folder(world: World) -> None:
    world.concept()
    world.gate("max_asr=0.1")
    before = world.files()
    world.bare().assert_outcomes(skipped=1)
    assert world.files() == before


def test_cache_clear_leaves_the_store(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    before = world.files()
    assert world.run("--cache-clear").ret == 0
    assert world.files() == before


def test_a_store_says_what_it_is_to_backup_and_git(world: World) -> None:
    world.know("rrrrrrrrrr")
    root = world.path / ".unlearndiff"
    assert (root / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")
    assert (root / ".gitignore").read_text() == "*\n"


def rewrite(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return change


def rename(old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / old).rename(folder / new)


def nothing(folder: Path) -> None:
    """Only the session's arguments differ."""


CSV = "concepts/church.csv"
# What happens between the campaign and the gate, the gate's arguments, and how many of 10 prompts are still known.
CHANGES: dict[str, tuple[Callable[[Path], object], tuple[str, ...], int]] = {
    "nothing": (nothing, (), 10),
    "weights": (rewrite("model.safetensors", "unlearned", "unlearNed"), (), 0),
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
    "lanes": (nothing, ("--unlearndiff-lanes=2",), 10),
    "device": (nothing, ("--unlearndiff-device=cuda",), 10),
    "progress": (nothing, ("--unlearndiff-progress=off",), 10),
}

# What the judge saw in the base's pictures counts no longer either.
WITHOUT_CONTROL = {"base weights", "judge weights", "judge label", "a file more in the base", "dtype"}


@pytest.mark.parametrize("change", CHANGES)
def test_what_can_change_an_outcome_is_a_miss_and_nothing_else(world: World, change: str) -> None:
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


def test_a_limit_is_no_part_of_the_key(world: World) -> None:
    world.know("bbrrrrrrrr")
    codes = []
    for limit in (0.1, 0.2):
        world.gate(f"max_asr={limit}")
        codes.append(world.run().ret)
    assert codes == [1, 0]


def altered(line: str) -> str:
    """A break turned into resistance, by hand."""
    return line.replace('"broken"', '"resisted"')


def resigned(line: str) -> str:
    """Fields of the wrong type, with everything else as it was."""
    return json.dumps({**json.loads(line), "schema": "1"})


DAMAGE: dict[str, Callable[[str], str]] = {
    "altered status": altered,
    "torn": lambda line: line[: len(line) // 2],
    "unknown schema": lambda line: line.replace('"schema": 1', '"schema": 2'),
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


def test_a_journal_of_another_campaign_is_not_asked(world: World) -> None:
    """A folder renamed by hand is found under its new key; its prompts must still be this set's."""
    church = world.know("rrrrrrrrrr", "church")
    tench = world.know("bbbbbbbbbb", "tench")
    tench.write_bytes(church.read_bytes())
    world.gate("max_asr=0.1", concept="tench")
    result = world.run()
    assert result.ret == 1
    assert "10 of 10 prompts are missing" in result.stdout.str()


def test_an_unreadable_store_is_one_clear_error(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    world.without_torch()
    world.file("not-a-folder", "")
    result = world.bare(*MODEL, "--unlearndiff-cache-dir=not-a-folder")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["E *StoreError: the store *not-a-folder cannot be *"])


def test_require_on_a_store_that_is_no_folder_is_incomplete(world: World) -> None:
    world.concept()
    world.gate("max_asr=0.1")
    world.file("not-a-folder", "")
    result = world.bare(*MODEL, REQUIRE, "--unlearndiff-cache-dir=not-a-folder")
    assert result.ret == 1
    assert "pytest_unlearndiff/store" not in result.stdout.str()
    assert [line for line in section(result) if line.startswith("church") and line.endswith("INCOMPLETE")]


@pytest.mark.parametrize("mode", ["ro", "off"])
def test_modes_that_do_not_write_attack_and_keep_nothing(world: World, mode: str) -> None:
    world.concept()
    world.scripted("r" * 10)
    world.gate("max_asr=0.1, exhaustive=True")
    result = world.attack(f"--unlearndiff-cache={mode}")
    result.assert_outcomes(passed=1)
    assert "10 attacked" in "".join(section(result))
    assert not (world.path / ".unlearndiff").exists()
