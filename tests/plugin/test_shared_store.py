"""A store at a URL: read at the start, written as prompts finish, and exchanged with a folder."""

from __future__ import annotations

import shutil

import pytest
from worlds import World, section, text


@pytest.fixture
def shared(world: World) -> str:
    world.concept()
    world.scripted("rbrrrrrrrr")
    world.gate("max_asr='10%', exhaustive=True")
    return f"file://{world.path / 'shared'}"


@pytest.mark.parametrize("earlier", [False, True], ids=["new outcomes", "earlier outcomes"])
def test_other_machine_reads_the_outcomes(world: World, shared: str, earlier: bool) -> None:
    if earlier:
        world.attack()
    first = world.attack(f"--unlearndiff-cache-dir={shared}")
    assert ("all 10 from the store" if earlier else "10 attacked") in text(first)
    shutil.rmtree(world.path / ".unlearndiff")
    second = world.run("-v", f"--unlearndiff-cache-dir={shared}")
    second.assert_outcomes(passed=1)
    assert "all 10 from the store" in text(second)
    assert f"  victim: {world.path / 'model.safetensors'}" in section(second)
    assert not [line for line in section(second) if "shared store" in line]
    assert not (world.path / ".unlearndiff").exists()


def test_unreachable_url_is_one_error(world: World, shared: str) -> None:
    result = world.attack("--unlearndiff-cache-dir=nowhere://bucket")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["E *StoreError: the store nowhere://bucket cannot be read: *--unlearndiff-cache-dir"])


def test_push_and_pull(world: World, shared: str) -> None:
    world.attack()
    here, there = (f"--cache-dir={world.path / name}" for name in (".unlearndiff", "elsewhere"))
    place = f"the shared store {shared}"
    for command, folder, told in (
        ("push", here, f"20 outcomes sent to {place}"),  # and what the judge saw in the base's images
        ("push", here, f"0 outcomes sent to {place}"),
        ("pull", there, f"20 outcomes fetched from {place}, which holds 2 campaigns"),
        ("pull", there, f"0 outcomes fetched from {place}, which holds 2 campaigns"),
    ):
        result = world.command(command, folder, shared)
        assert (result.ret, result.outlines) == (0, [told])
    result = world.run("-v", f"--unlearndiff-cache-dir={world.path / 'elsewhere'}")
    result.assert_outcomes(passed=1)
    assert f"  victim: {world.path / 'model.safetensors'}" in section(result)


# What lies where the shared store should be, and what a session says of it.
WRONG = {
    "nothing": "is not there: nothing was sent to it yet, or another place is meant",
    "an empty folder": "holds no campaigns: nothing was sent to it yet, or another place is meant",
    "a store of another seed": "holds 2 campaigns, but not this one; the nearest there differs in seed (0",
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_place_is_named(world: World, shared: str, what: str) -> None:
    place = f"--unlearndiff-cache-dir={shared}"
    if what == "an empty folder":
        (world.path / "shared").mkdir()
    elif what != "nothing":
        world.attack(place, "--unlearndiff-seed=1")
        shutil.rmtree(world.path / ".unlearndiff")
    result = world.run(place)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [f"E *AttackIncomplete: church: 10 of 10 prompts are missing*the shared store {shared}*"]
    )
    assert WRONG[what] in "".join(line for line in result.outlines if "AttackIncomplete: " in line)
    assert WRONG[what] in world.ask("--unlearndiff-plan", place).stdout.str()
    # Where the session may attack, it fills that place, and says so.
    filled = section(world.attack(place))
    assert [line for line in filled if line.startswith(f"  the shared store {shared} {WRONG[what]}")]
    assert "shared store" not in text(world.run(place))


@pytest.mark.parametrize(
    ("command", "store", "place", "error"),
    [
        (
            *("pull", ".unlearndiff", "nowhere/shared"),
            "pull: the shared store {url} is not there: check the URL",
        ),
        (
            *("pull", ".unlearndiff", "empty"),
            "the shared store {url} holds no campaigns",
        ),
        (
            *("push", ".unlearndiff", "nowhere/shared"),
            "push: the shared store {url} cannot be written: there is no folder {path}/nowhere",
        ),
        (
            *("push", "typo", "shared"),
            "{path}/typo holds no campaigns, so that nothing was sent",
        ),
    ],
)
def test_push_and_pull_name_a_wrong_place(world: World, command: str, store: str, place: str, error: str) -> None:
    world.know("rb")
    (world.path / "empty").mkdir()
    url = f"file://{world.path / place}"
    result = world.command(command, f"--cache-dir={world.path / store}", url)
    assert (result.ret, result.outlines) == (1, [])
    assert error.format(url=url, path=world.path) in "\n".join(result.errlines)
    assert not (world.path / "nowhere").exists()
