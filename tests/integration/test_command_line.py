"""``python -m pytest_unlearndiff`` beside a session."""

from __future__ import annotations

import pytest
from worlds import World

from pytest_unlearndiff.__main__ import main


def test_show_lists_what_is_kept(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.know("gbrr.")
    assert main(["show", f"--cache-dir={world.path / '.unlearndiff'}"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("church-")
    assert line.endswith(": 4 prompts, 1 generated, 1 broken, 2 resisted")


def test_show_of_no_store_is_empty(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", f"--cache-dir={world.path / 'nowhere'}"]) == 0
    assert capsys.readouterr().out == ""


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([])
    assert exit_.value.code == 2
    assert "COMMAND" in capsys.readouterr().err
