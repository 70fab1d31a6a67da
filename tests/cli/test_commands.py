"""The command line ``python -m pytest_unlearndiff`` and its commands on stores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from worlds import World

from pytest_unlearndiff.__main__ import COMMANDS, main


def test_show(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    store = f"--cache-dir={world.path / '.unlearndiff'}"
    journal = world.know("gbrrk.", base="......")
    assert main(["show", store]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("church-")
    statuses = "1 hit without attack, 1 hit under attack, 2 resisted, 1 blocked"
    assert f": unlearndiff, 5 prompts, {statuses}, last written 20" in line
    with journal.open("a") as file:
        file.write("torn\n")
    assert main(["show", store]) == 0
    assert "1 line that cannot be trusted" in capsys.readouterr().out


def test_show_of_an_empty_store(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, reason in ((world.path / "nowhere", ": no such folder"), (world.path, "")):
        assert main(["show", f"--cache-dir={folder}"]) == 1
        assert capsys.readouterr().out == f"{folder} holds no campaigns{reason}\n"


def test_missing_torch_names_the_extra(world: World) -> None:
    """In a process of its own, since diffusers remembers that it was imported without torch."""
    words = ["inspect", str(world.path / "base")]
    code = f"import sys; sys.modules['torch'] = None\nfrom pytest_unlearndiff.__main__ import main; main({words!r})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stderr.endswith('inspect: needs torch: pip install "pytest-unlearndiff[torch]"\n')


def test_missing_own_module_is_raised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pytest_unlearndiff.models.libraries", None)
    with pytest.raises(ModuleNotFoundError, match="libraries"):
        main(["inspect", str(tmp_path)])


def test_closed_pipe_is_no_error(world: World) -> None:
    world.know("gbrr.", base=".....")
    command = [sys.executable, "-m", "pytest_unlearndiff", "show", f"--cache-dir={world.path / '.unlearndiff'}"]
    show = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert show.stdout is not None
    assert show.stderr is not None
    show.stdout.close()
    with show.stderr:
        assert show.stderr.read() == ""
    assert show.wait() == 1


def campaigns(world: World) -> list[str]:
    return sorted(path.name.rsplit("-", 1)[0] for path in world.path.glob(".unlearndiff/campaigns/*"))


@pytest.fixture
def store(world: World) -> str:
    """A store with campaigns over two concepts."""
    world.know("gbrr.", base=".....")
    world.know("rrrr", "church-tower", base="....")
    return f"--cache-dir={world.path / '.unlearndiff'}"


def test_clear(world: World, store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise OSError("read-only")

    assert main(["clear", store]) == 1
    assert capsys.readouterr().out.endswith("2 campaigns would be deleted: add --yes\n")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", refuse)
        assert main(["clear", store, "--yes"]) == 1
    assert "cannot be deleted: read-only" in capsys.readouterr().err
    assert campaigns(world) == ["church", "church-tower"]
    assert main(["clear", store, "--concept=church", "--yes"]) == 0
    assert campaigns(world) == ["church-tower"]
    for _ in range(2):
        assert main(["clear", store, "--yes"]) == 0
        assert campaigns(world) == []


@pytest.mark.parametrize("change", ["older version", "unreadable key", "not written for days"])
def test_prune_deletes_outdated_campaigns(world: World, store: str, change: str) -> None:
    assert main(["prune", store, "--days=1", "--yes"]) == 0
    assert campaigns(world) == ["church", "church-tower"]
    (folder,) = world.path.glob(".unlearndiff/campaigns/church-tower-*")
    key = json.loads((folder / "key.json").read_text())
    if change == "older version":
        (folder / "key.json").write_text(json.dumps({**key, "algorithm": key["algorithm"] - 1}))
    elif change == "unreadable key":
        (folder / "key.json").write_text("[")
    else:
        os.utime(folder / "journal.jsonl", (0, 0))
    assert main(["prune", store, "--days=1", "--yes"]) == 0
    assert campaigns(world) == ["church"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune", "--days=-1"], "'-1' must be a number of days above 0"),
        (["show", "--cache-dir=s3://me:secret@bucket/x"], "bucket/x is a shared store: bring it here with pull s3://"),
    ],
)
def test_argument_that_cannot_be_meant(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    error = capsys.readouterr().err
    assert message in error
    assert "secret" not in error


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as usage:
        main([])
    with pytest.raises(SystemExit) as shown:
        main(["--help"])
    assert (usage.value.code, shown.value.code) == (2, 0)
    printed = capsys.readouterr()
    assert "COMMAND" in printed.err
    for command in COMMANDS:
        assert f"{command.name} {command.summary}" in " ".join(printed.out.split())


def test_prune_keeps_fetched_campaigns(world: World) -> None:
    """A shared store has journals alone, so nothing says yet what it was attacked with."""
    world.know("gbrr", base="....")
    (folder,) = world.path.glob(".unlearndiff/campaigns/church-*")
    (folder / "key.json").unlink(missing_ok=True)
    store = f"--cache-dir={world.path / '.unlearndiff'}"
    assert main(["prune", store, "--yes"]) == 0
    assert campaigns(world) == ["church"]
    os.utime(folder / "journal.jsonl", (0, 0))
    assert main(["prune", store, "--days=1", "--yes"]) == 0
    assert campaigns(world) == []
