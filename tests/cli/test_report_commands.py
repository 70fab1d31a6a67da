"""``report``, ``compare`` and ``export`` read the last session of a store or a JSON report."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from msgspec.structs import replace
from sessions import hostile, quality, record, retained, session

from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.cli.export import EXPORTS, export
from pytest_unlearndiff.core.prompt_sets import read_prompts
from pytest_unlearndiff.reports.gate_report import GateReport
from pytest_unlearndiff.reports.session_report import ReportOptions, SessionReport, json_report, schema
from pytest_unlearndiff.store.store import LastSession


def keep(folder: Path, *gates: GateReport) -> Path:
    """Write a JSON report, or the last session of a store."""
    text = json_report(session(*gates), ReportOptions())
    if folder.suffix == ".json":
        folder.write_text(text)
    else:
        folder.mkdir()
        LastSession(folder).keep(text)
    return folder


def test_exported_prompts_read_back_as_a_prompt_set(tmp_path: Path) -> None:
    """So that a concept file can name them and the control ``none`` tries them on another model."""
    # Every reader of text files turns a carriage return into a line end, so no prompt set has any.
    gates = [gate for gate in hostile().gates if "\r" not in gate.concept] + [record("gbrbb", "church")]
    text, count = export([*gates, *gates])
    path = tmp_path / "prompts.csv"
    path.write_bytes(text.encode())
    attacked = [prompt.attacked for gate in gates for prompt in gate.prompts if prompt.attacked is not None]
    assert count == len(attacked)
    assert [(prompt.digest, prompt.case) for prompt in read_prompts(path)] == [
        (prompt.digest, case) for case, prompt in enumerate(attacked)
    ]
    last = list(csv.DictReader(io.StringIO(text, newline="")))[-1]
    names = ("concept", "inserted", "original_case", "original_prompt", "original_seed")
    assert [last[name] for name in names] == ["church", "xyz", "104", "a church, number 4", "1004"]


def test_export_that_cannot_be_written_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = keep(tmp_path / "store", record("gb"))
    assert main(["export", str(store / "gates"), f"--from={store}"]) == 1
    assert f"{store / 'gates'} cannot be written" in capsys.readouterr().err


def test_export_of_other_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"--from={keep(tmp_path / 'a.json', record('gb', 'church'), record('rr', 'fish', victim='other.pt'))}"
    card = tmp_path / "README.md"
    card.write_text("# Mine\n")
    assert main(["export", "model-card", str(card), source]) == 1
    assert "gates on 2 (esd.pt, other.pt): choose one with --model" in capsys.readouterr().err
    assert main(["export", "model-card", str(card), source, "--model=other.pt"]) == 0
    assert card.read_text().count("# Mine") == 1
    assert "| fish |" in card.read_text()
    assert main(["export", "leaderboard", "-", source, "--concept=church"]) == 0
    assert "Unlearned Concept: church" in capsys.readouterr().out
    assert main(["export", "badge", "-", source]) == 0
    assert json.loads(capsys.readouterr().out)["color"] == "red"


def test_export_of_a_model_named_like_a_concept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gates = record("gb", "church", victim="deep/fish"), record("rr", "fish", victim="other.pt")
    source = f"--from={keep(tmp_path / 'a.json', *gates)}"
    for option, concept in (("--model=deep/fish", "church"), ("--model=fish", "church"), ("--concept=fish", "fish")):
        assert main(["export", "leaderboard", "-", source, option]) == 0
        assert re.findall(r"Unlearned Concept: (\w+)", capsys.readouterr().out) == [concept]


def test_export_of_a_model_has_its_gates_on_image_quality(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However it is named, and where nothing else was measured."""
    measured = quality()
    for number, victim in enumerate(("deep/esd.pt", "deep/other.pt")):
        on_victim = replace(measured, run=replace(measured.run, victim=victim))
        for gates in ([record("rr", "church", victim="deep/esd.pt")], []):
            path = tmp_path / f"{number}{len(gates)}.json"
            path.write_text(json_report(SessionReport(gates=gates, quality=[on_victim]), ReportOptions()))
            for option in ("--model=deep/esd.pt", "--model=esd.pt"):
                status = main(["export", "badge", "-", f"--from={path}", option])
                assert status == (0 if gates or not number else 1)
                told = capsys.readouterr().out
                assert ('"color": "red"' in told) == (not number)


@pytest.mark.parametrize("kind", EXPORTS)
def test_export_says_that_a_later_session_has_not_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    store = keep(tmp_path / "store", record("gb"))
    LastSession(store).begin("run")
    assert main(["export", kind, "-", f"--from={store}"]) == 0
    assert "it still runs, or it was killed" in capsys.readouterr().err


def test_leaderboard_without_an_attack_leaves_its_file_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.md"
    table.write_text("mine")
    source = keep(tmp_path / "a.json", record("rr", attack="none"), retained("gg", "gg"))
    assert main(["export", "leaderboard", str(table), f"--from={source}"]) == 1
    assert "no gate under attack" in capsys.readouterr().err
    assert table.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["badge"], "export badge needs a file to write"),
        (["badge", "-", "--model=esd"], "is on the model 'esd': did you mean 'esd.pt'"),
        (["badge", "-", "--concept=chruch"], "is on the concept 'chruch': did you mean 'church'"),
    ],
)
def test_export_of_something_else_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    assert main(["export", *words, f"--from={keep(tmp_path / 'a.json', record('gb'))}"]) == 1
    assert reason in capsys.readouterr().err


def test_compare_names_gates_that_have_no_partner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = keep(tmp_path / "a.json", record("gb", "church")), keep(tmp_path / "b", record("gb", "dog"))
    assert main(["compare", str(before), str(after)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines[:2]] == [f"only in {before}", f"only in {after}"]
    assert lines[2].startswith("nothing to compare")


@pytest.mark.parametrize(("concept", "change"), [("church", "newly broke"), ("dog", "")])
def test_report_names_what_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], concept: str, change: str
) -> None:
    before, store = keep(tmp_path / "a.json", record("rrr")), keep(tmp_path / "store", record("brr", concept))
    assert main(["report", f"--cache-dir={store}", f"--since={before}"]) == 0
    printed = capsys.readouterr()
    assert change in printed.out
    assert change or printed.err.startswith(f"{before}: nothing to compare")


def test_report_has_both_kinds_of_gates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = keep(tmp_path / "store", record("rrr"), retained("rr", "gg"))
    assert main(["report", f"--cache-dir={store}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("dog") and line.endswith("FAIL")]
    assert lines[0] == "1 of 2 gates did not pass"
    assert main(["report", f"--cache-dir={store}", "github"]) == 1
    assert "github is written by a session only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("report", "pdf:x"), "must be KIND:PATH"),
        (("report", "github"), "written by a session only"),
        (("report",), "holds no session's gates"),
        (("compare", "nowhere.json", "nowhere.json"), "cannot be read as a JSON report"),
        (("export", "x.csv"), "holds no session's gates"),
    ],
)
def test_wrong_arguments(
    arguments: tuple[str, ...],
    error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert error in line


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(schema())
