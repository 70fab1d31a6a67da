"""Who ran a session, and on which commit: from the CI service, else from git and the account."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_unlearndiff.core.session_info import author_info, git_commit

ACTIONS = {
    "GITHUB_SHA": "ab" * 20,
    "GITHUB_ACTOR": "ada",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "o/n",
    "GITHUB_RUN_ID": "7",
}


def test_a_ci_service_is_believed(tmp_path: Path) -> None:
    log = "https://github.com/o/n/actions/runs/7"
    assert author_info(tmp_path, ACTIONS) == {"commit": "ab" * 20, "user": "ada", "log": log}


def test_nothing_is_invented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: (_ for _ in ()).throw(OSError("no account")))
    assert author_info(tmp_path, {}) == {}
    monkeypatch.setenv("PATH", "")
    assert git_commit(tmp_path) == ""


def test_the_commit_says_where_files_differ(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", *names, *arguments], cwd=tmp_path, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "x")
    git("tag", "v1")
    commit = git("rev-parse", "HEAD")
    assert git_commit(tmp_path) == commit
    (tmp_path / "b").write_text("untracked")
    assert git_commit(tmp_path) == commit
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path) == f"{commit}-dirty"
