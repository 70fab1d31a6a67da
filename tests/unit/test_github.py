"""GitHub: a step summary where there is one, and one annotation a gate that no text in it can break."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sessions import hostile, record, retained, session

from pytest_unlearndiff.reports.github import append_summary, workflow_commands
from pytest_unlearndiff.reports.session import SessionReport


def test_an_annotation_stands_on_the_tests_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", "/repo")
    found = session(record("bbr", "a"), record("r" * 10, "b"), record("r-", "c"))
    broken, incomplete = workflow_commands(found, Path("/repo/sub"))
    assert broken.startswith("::error file=sub/test_x.py,line=7,title=unlearndiff FAIL%3A a::a: ASR 2/3")
    assert "%0A  prompt 100 broken by" in broken
    assert incomplete.startswith("::error file=sub/test_x.py,line=7,title=unlearndiff INCOMPLETE%3A c::")


def test_what_was_not_retained_is_annotated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    found = SessionReport([], retained=[retained(), retained("cat", verdict="PASS")])
    [line] = workflow_commands(found, Path("/repo"))
    assert line.startswith(
        "::error file=/repo/test_x.py,title=unlearndiff retention INCOMPLETE%3A dog::retained concept"
    )


def test_a_file_outside_the_repository_keeps_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", "/repo")
    [line] = workflow_commands(session(record("bbr")), Path("/elsewhere"))
    assert line.startswith("::error file=/elsewhere/test_x.py,")


def test_an_expected_failure_is_only_a_notice() -> None:
    [line] = workflow_commands(session(replace(record("bbr"), expected="known")), Path("/"))
    assert line.startswith("::notice ")


def test_hostile_text_starts_no_command_of_its_own() -> None:
    found = hostile()
    lines = workflow_commands(found, Path("/"))
    assert len(lines) == len(found.gates) + len(found.retained)
    for line in lines:
        assert len(line.splitlines()) == 1
        properties = line.split("::")[1]
        assert properties.count(",") in (1, 2)


def test_the_summary_is_appended_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    append_summary(session(record("bbr")))
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    append_summary(session(record("bbr")))
    assert path.read_text().startswith("before\n## Unlearning gates")
