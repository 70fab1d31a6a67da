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


def test_what_one_machine_attacked_another_reads(world: World, shared: str, workers: tuple[str, ...]) -> None:
    first = world.attack(f"--unlearndiff-cache-dir={shared}", *workers)
    assert "10 attacked" in "".join(section(first))
    shutil.rmtree(world.path / ".unlearndiff")
    second = world.run(f"--unlearndiff-cache-dir={shared}", *workers)
    second.assert_outcomes(passed=1)
    assert "all 10 from the store" in "".join(section(second))
    assert not (world.path / ".unlearndiff").exists()


def test_a_place_out_of_reach_is_one_clear_error(world: World, shared: str) -> None:
    result = world.attack("--unlearndiff-cache-dir=nowhere://bucket")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["E *StoreError: the store nowhere://bucket cannot be read: *--unlearndiff-cache-dir"])


def test_push_and_pull(world: World, shared: str, capsys: pytest.CaptureFixture[str]) -> None:
    world.attack()
    capsys.readouterr()
    here, there = (f"--cache-dir={world.path / name}" for name in (".unlearndiff", "elsewhere"))
    assert main(["push", here, shared]) == 0
    assert main(["pull", there, shared]) == 0
    assert main(["pull", there, shared]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"20 outcomes sent to {shared}",  # and what the judge saw in the base's pictures
        f"20 outcomes fetched from {shared}",
        f"0 outcomes fetched from {shared}",
    ]
    world.run(f"--unlearndiff-cache-dir={world.path / 'elsewhere'}").assert_outcomes(passed=1)
