"""A store at a URL: read at the start, written as prompts finish, and exchanged with a folder."""

from __future__ import annotations

import shutil

import pytest
from worlds import World, section

from pytest_unlearndiff.__main__ import main


@pytest.fixture
def shared(world: World) -> str:
    world.concept()
    world.scripted("rbrrrrrrrr")
    world.gate("max_asr='10%', exhaustive=True")
    return f"file://{world.path / 'shared'}"


def test_other_machine_reads_the_outcomes(world: World, shared: str, workers: tuple[str, ...]) -> None:
    first = world.attack(f"--unlearndiff-cache-dir={shared}", *workers)
    assert "10 attacked" in "".join(section(first))
    shutil.rmtree(world.path / ".unlearndiff")
    second = world.run(f"--unlearndiff-cache-dir={shared}", *workers)
    second.assert_outcomes(passed=1)
    assert "all 10 from the store" in "".join(section(second))
    assert not (world.path / ".unlearndiff").exists()


def test_unreachable_url_is_one_error(world: World, shared: str) -> None:
    result = world.attack("--unlearndiff-cache-dir=nowhere://bucket")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["E *StoreError: the store nowhere://bucket cannot be read: *--unlearndiff-cache-dir"])


def test_push_and_pull(world: World, shared: str, capsys: pytest.CaptureFixture[str]) -> None:
    world.attack()
    capsys.readouterr()
    here, there = (f"--cache-dir={world.path / name}" for name in (".unlearndiff", "elsewhere"))
    assert main(["push", here, shared]) == 0
    assert main(["push", here, shared]) == 0
    assert main(["pull", there, shared]) == 0
    assert main(["pull", there, shared]) == 0
    place = f"the shared store {shared}"
    assert capsys.readouterr().out.splitlines() == [
        f"20 outcomes sent to {place}",  # and what the judge saw in the base's images
        f"0 outcomes sent to {place}",
        f"20 outcomes fetched from {place}, which holds 2 campaigns",
        f"0 outcomes fetched from {place}, which holds 2 campaigns",
    ]
    result = world.run("-v", f"--unlearndiff-cache-dir={world.path / 'elsewhere'}")
    result.assert_outcomes(passed=1)
    assert f"  victim: {world.path / 'model.safetensors'}" in section(result)


def test_summary_names_the_shared_model(world: World, shared: str) -> None:
    world.attack(f"--unlearndiff-cache-dir={shared}")
    shutil.rmtree(world.path / ".unlearndiff")
    result = world.run("-v", f"--unlearndiff-cache-dir={shared}")
    assert f"  victim: {world.path / 'model.safetensors'}" in section(result)


def test_earlier_outcomes_are_sent(world: World, shared: str) -> None:
    world.attack()
    again = world.attack(f"--unlearndiff-cache-dir={shared}")
    assert "all 10 from the store" in "".join(section(again))
    shutil.rmtree(world.path / ".unlearndiff")
    other = world.run(f"--unlearndiff-cache-dir={shared}")
    other.assert_outcomes(passed=1)
    assert "all 10 from the store" in "".join(section(other))
    assert not [line for line in section(other) if "shared store" in line]


def make_nothing(world: World) -> None:
    """There is no folder."""


def make_folder(world: World) -> None:
    (world.path / "shared").mkdir()


def make_other_store(world: World) -> None:
    """Of the same prompts, attacked with another seed."""
    world.attack(f"--unlearndiff-cache-dir=file://{world.path / 'shared'}", "--unlearndiff-seed=1")
    shutil.rmtree(world.path / ".unlearndiff")


# What lies where the shared store should be, and what a session says of it.
WRONG = {
    "nothing": (make_nothing, "is not there: nothing was sent to it yet, or another place is meant"),
    "an empty folder": (make_folder, "holds no campaigns: nothing was sent to it yet, or another place is meant"),
    "another store": (make_other_store, "holds 2 campaigns, but not this one; the nearest there differs in seed (0"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_place_is_named(world: World, shared: str, what: str) -> None:
    make, said = WRONG[what]
    make(world)
    place = f"--unlearndiff-cache-dir={shared}"
    result = world.run(place)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [f"E *AttackIncomplete: church: 10 of 10 prompts are missing*the shared store {shared}*"]
    )
    assert said in "".join(line for line in result.outlines if "AttackIncomplete: " in line)
    assert said in world.ask("--unlearndiff-plan", place).stdout.str()
    # Where the session may attack, it fills that place, and says so.
    assert [line for line in section(world.attack(place)) if line.startswith(f"  the shared store {shared} {said}")]
    assert not [line for line in section(world.run(place)) if "shared store" in line]


@pytest.mark.parametrize(
    ("command", "place", "said"),
    [
        ("pull", "nowhere/shared", "pull: the shared store {url} is not there: check the URL"),
        ("pull", "empty", "the shared store {url} holds no campaigns"),
        ("push", "nowhere/shared", "push: the shared store {url} cannot be written: there is no folder {path}/nowhere"),
    ],
)
def test_push_and_pull_name_a_wrong_place(
    world: World, shared: str, command: str, place: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.know("rb")
    (world.path / "empty").mkdir()
    url = f"file://{world.path / place}"
    assert main([command, f"--cache-dir={world.path / '.unlearndiff'}", url]) == 1
    printed = capsys.readouterr()
    assert said.format(url=url, path=world.path) in printed.err
    assert printed.out == ""
    assert not (world.path / "nowhere").exists()


def test_push_of_an_empty_store(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", f"--cache-dir={world.path / 'typo'}", f"file://{world.path / 'shared'}"]) == 1
    assert capsys.readouterr().err == f"{world.path / 'typo'} holds no campaigns, so that nothing was sent\n"
