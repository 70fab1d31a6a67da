"""GitHub: a step summary where there is one, and one annotation per gate that did not pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sessions import TENTH, hostile, record, retained, session

from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.reports.github import github_report
from pytest_unlearndiff.reports.session_report import ReportOptions

SEVEN = "file=sub/test_x.py,line=7,title="


@pytest.mark.parametrize(
    ("gate", "start"),
    [
        (record("bbr", "a"), f"::error {SEVEN}unlearndiff FAIL%3A a::a: ASR 2/3 = 66.7%25"),
        (record("r-", "c"), f"::error {SEVEN}unlearndiff INCOMPLETE%3A c::c: 1 of 2 prompts"),
        (record("b" * 4 + "r" * 46, gate=Gate(TENTH, reading="upper")), f"::warning {SEVEN}"),
        (replace(record("bb"), expected_failure="known"), f"::notice {SEVEN}"),
        (retained("rr", "gg"), "::error file=sub/test_x.py,line=9,title=unlearndiff retention FAIL%3A dog::retained"),
        (record("r" * 10), ""),
    ],
)
def test_annotation(monkeypatch: pytest.MonkeyPatch, gate: Any, start: str) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", "/repo")
    commands = github_report(session(gate), ReportOptions(Path("/repo/sub")))
    assert commands.startswith(start)
    assert len(commands.splitlines()) == (start != "")
    outside = github_report(session(gate), ReportOptions(Path("/elsewhere")))
    assert outside == commands.replace("file=sub/", "file=/elsewhere/")


def test_hostile_text_starts_no_command_of_its_own() -> None:
    report = hostile()
    commands = github_report(report, ReportOptions(Path("/"))).split("\n")
    assert len(commands) == len(report.failing) + len(report.failing_quality) + len(report.failed_otherwise)
    for command in commands:
        assert len(command.splitlines()) == 1
        assert command.split("::")[1].count(",") in (1, 2)


def test_summary_is_appended_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    github_report(session(record("bbr")), ReportOptions())
    assert path.read_text().startswith("before\n## Unlearning gates")
