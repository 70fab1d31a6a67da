"""The report for GitHub Actions: a step summary, and annotations on the lines of the tests."""

from __future__ import annotations

import os
from pathlib import Path

from ..core.gate import Verdict
from .failure_text import failure_text
from .gate_report import GateReport
from .markdown import markdown_report
from .quality_report import QualityReport, quality_failure
from .session_report import ReportOptions, SessionReport
from .text import sanitize


def github_report(session: SessionReport, options: ReportOptions) -> str:
    """Append the Markdown report to the step's summary, if there is one, and return workflow commands.

    There is a command for each gate that did not pass, and for each test that failed otherwise.

    Raises:
        OSError: the summary cannot be written.
    """
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(markdown_report(session, options) + "\n")
    commands = [_annotation(gate, options.root) for gate in session.failing]
    for gate in session.failing_quality:
        title = f"unlearndiff quality {gate.verdict}: {gate.captions}"
        commands.append(_command("error", gate, title, quality_failure(gate), options.root))
    for test in session.failed_otherwise:
        file_name = _from_workspace(options.root / test.nodeid.split("::")[0])
        commands.append(
            f"::error file={_property(file_name)},title=unlearndiff test failed::{_data(sanitize(test.why, 1000))}"
        )
    return "\n".join(commands)


def _annotation(gate: GateReport, root: Path) -> str:
    level = "warning" if gate.verdict is Verdict.INCONCLUSIVE and not gate.kept else "error"
    kind = "unlearndiff retention" if gate.kept else "unlearndiff"
    return _command(level, gate, f"{kind} {gate.verdict}: {gate.concept}", failure_text(gate), root)


def _command(level: str, gate: GateReport | QualityReport, title: str, text: str, root: Path) -> str:
    """Write a workflow command that annotates the test of a gate."""
    place = f"file={_property(_from_workspace(root / gate.path))}," if gate.path else ""
    line = f"line={gate.line}," if gate.line else ""
    level = "notice" if gate.expected_failure else level
    return f"::{level} {place}{line}title={_property(sanitize(title, 100))}::{_data(text)}"


def _from_workspace(path: Path) -> str:
    """Name a file from the repository's root, as GitHub does."""
    path = Path(sanitize(str(path), 1000))
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if workspace and path.is_relative_to(workspace):
        return path.relative_to(workspace).as_posix()
    return path.as_posix()


def _data(text: str) -> str:
    """Escape text as a workflow command takes it (actions/toolkit, packages/core/src/command.ts)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
