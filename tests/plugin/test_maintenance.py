"""--unlearndiff-cache-show, -clear and -prune: what the commands do, on the session's own store, and no test runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from worlds import World

YES = "--unlearndiff-cache-yes"


@pytest.fixture
def kept(world: World) -> World:
    """A store with campaigns over two concepts, and a test that would fail."""
    world.know("gbrr.", base=".....")
    world.know("rrrr", "church-tower", base="....")
    world.tests("def test_never(): assert False")
    return world


def campaigns(world: World) -> list[str]:
    return sorted(path.name.rsplit("-", 1)[0] for path in world.path.glob(".unlearndiff/campaigns/*"))


def ask(world: World, *arguments: str) -> tuple[int, list[str]]:
    """A session in this process; how it ended, and every line it printed."""
    result = world.pytester.runpytest_inprocess(*arguments)
    return result.ret, result.outlines


def test_show_lists_what_is_kept_and_runs_nothing(kept: World) -> None:
    status, lines = ask(kept, "--unlearndiff-cache-show")
    assert status == 0
    assert [line.split(":")[0].rsplit("-", 1)[0] for line in lines if line] == ["church", "church-tower"]
    assert "4 prompts, 1 hit without attack, 1 hit under attack, 2 resisted" in lines[0]


def test_show_under_xdist_and_from_a_folder_below(kept: World) -> None:
    """It is rootdir's store that counts; no worker is started."""
    (kept.path / "below").mkdir()
    result = kept.bare("-n2", "--unlearndiff-cache-show", f"--rootdir={kept.path}", "below")
    assert result.ret == 0
    assert [line.split(":")[0].rsplit("-", 1)[0] for line in result.outlines if line] == ["church", "church-tower"]


def test_clear_asks_before_it_deletes(kept: World) -> None:
    status, lines = ask(kept, "--unlearndiff-cache-clear")
    assert status == 1
    assert lines[-1] == f"2 campaigns would be deleted: add {YES}"
    assert campaigns(kept) == ["church", "church-tower"]
    assert ask(kept, "--unlearndiff-cache-clear", YES)[0] == 0
    assert campaigns(kept) == []
    assert ask(kept, "--unlearndiff-cache-clear", YES) == (0, ["nothing to delete"])


def test_clear_one_concept(kept: World) -> None:
    assert ask(kept, "--unlearndiff-cache-clear=church", YES)[0] == 0
    assert campaigns(kept) == ["church-tower"]


def test_prune_what_no_session_asks_for(kept: World) -> None:
    (folder,) = kept.path.glob(".unlearndiff/campaigns/church-tower-*")
    key = json.loads((folder / "key.json").read_text())
    (folder / "key.json").write_text(json.dumps({**key, "algorithm": key["algorithm"] - 1}))
    assert ask(kept, "--unlearndiff-cache-prune")[0] == 1
    assert ask(kept, "--unlearndiff-cache-prune", YES)[0] == 0
    assert campaigns(kept) == ["church"]
    assert ask(kept, "--unlearndiff-cache-prune=1", YES) == (0, ["nothing to delete"])
    assert ask(kept, "--unlearndiff-cache-prune=0.0000001", YES)[0] == 0
    assert campaigns(kept) == []


def test_another_store_is_the_one_that_is_given(kept: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty: Path = tmp_path_factory.mktemp("empty")
    assert ask(kept, "--unlearndiff-cache-clear", YES, f"--unlearndiff-cache-dir={empty}")[1] == ["nothing to delete"]
    assert campaigns(kept) == ["church", "church-tower"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--unlearndiff-cache-show", "--unlearndiff-cache-clear"), "give one of them"),
        (("--unlearndiff-cache-clear", "--unlearndiff-cache=ro"), "nothing may be deleted with --unlearndiff-cache=ro"),
        (("--unlearndiff-cache-prune", "tests"), "'tests' must be a number of days"),
        (("--unlearndiff-cache-prune=-1",), "must be a number of days"),
        (("--unlearndiff-cache-prune=nan",), "must be a number of days"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(kept: World, arguments: tuple[str, ...], said: str) -> None:
    result = kept.pytester.runpytest_inprocess(YES, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()
    assert campaigns(kept) == ["church", "church-tower"]


def test_what_cannot_be_deleted_is_said(kept: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise OSError("read-only")

    monkeypatch.setattr("shutil.rmtree", refuse)
    result = kept.pytester.runpytest_inprocess("--unlearndiff-cache-clear", YES)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--unlearndiff-cache-clear: " in result.stderr.str()
    assert "cannot be deleted: read-only" in result.stderr.str()


def test_help_wins(kept: World) -> None:
    status, lines = ask(kept, "--unlearndiff-cache-clear", YES, "--help")
    assert status == 0
    assert any("--unlearndiff-cache-prune=[DAYS]" in line for line in lines)
    assert campaigns(kept) == ["church", "church-tower"]
