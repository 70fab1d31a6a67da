"""What GitHub Actions shows: a step summary, and annotations on the lines of the tests."""

from __future__ import annotations

import os
from pathlib import Path

from ..core.gate import Verdict
from .failure import failure_text
from .gate_report import GateReport
from .markdown import markdown_report
from .retention import RetentionReport, retention_text
from .session import SessionReport, UnmeasuredTest
from .text import safe


def append_summary(session: SessionReport) -> None:
    """Add the Markdown report to the step's summary, if there is one.

    Raises:
        OSError: the file cannot be written.
    """
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(markdown_report(session) + "\n")


def workflow_commands(session: SessionReport, root: Path) -> list[str]:
    """Workflow commands, one for each gate that did not pass and each test that failed otherwise.

    Args:
        session: the gates.
        root: pytest's rootdir, from which the tests' files are named.
    """
    attacked = [_annotation(record, root) for record in session.failing]
    retained = [_not_retained(record, root) for record in session.not_retained]
    return [*attacked, *retained, *(_otherwise(test, root) for test in session.otherwise)]


def _otherwise(test: UnmeasuredTest, root: Path) -> str:
    file = _seen_from_workspace(root / test.nodeid.split("::")[0])
    return f"::error file={_property(file)},title=unlearndiff test failed::{_data(safe(test.why, 1000))}"


def _not_retained(record: RetentionReport, root: Path) -> str:
    title = f"unlearndiff retention {record.verdict}: {safe(record.concept, 60)}"
    file = _seen_from_workspace(root / record.nodeid.split("::")[0])
    level = "notice" if record.expected else "error"
    return f"::{level} file={_property(file)},title={_property(title)}::{_data(retention_text(record))}"


def _annotation(record: GateReport, root: Path) -> str:
    level = "notice" if record.expected else "error" if record.verdict == Verdict.FAIL else "warning"
    if record.verdict == Verdict.INCOMPLETE and not record.expected:
        level = "error"
    title = f"unlearndiff {record.verdict}: {safe(record.concept, 60)}"
    place = f"file={_property(_seen_from_workspace(root / record.path))}," if record.path else ""
    line = f"line={record.line}," if record.line else ""
    return f"::{level} {place}{line}title={_property(title)}::{_data(failure_text(record))}"


def _seen_from_workspace(path: Path) -> str:
    """GitHub names files from the repository's root."""
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if workspace and path.is_relative_to(workspace):
        return path.relative_to(workspace).as_posix()
    return path.as_posix()


def _data(text: str) -> str:
    """Text as a workflow command takes it (actions/toolkit, packages/core/src/command.ts)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
