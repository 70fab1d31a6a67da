"""What becomes of finished gates at the end of a session: kept in the store, and written as the user asked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ..core.environment import environment_info
from ..core.errors import UnlearnDiffError
from ..core.untrusted import printable
from ..reports.gate_report import GateReport
from ..reports.github import append_summary, workflow_commands
from ..reports.retention import RetentionReport
from ..reports.session import SessionReport, UnmeasuredTest, with_retention
from ..reports.writers import write
from ..store.last_session import Gates
from .session import SessionState
from .settings import without_secrets


def unmeasured(report: pytest.TestReport) -> UnmeasuredTest:
    """A test that failed or was skipped, as its report says it."""
    expected = hasattr(report, "wasxfail")
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    crash = getattr(report.longrepr, "reprcrash", None)
    text = getattr(crash, "message", "") or str(why)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    how = "failed" if report.failed or expected else "skipped"
    return UnmeasuredTest(report.nodeid, how, (lines or ["no reason given"])[0].removeprefix("Skipped: "))


def note_retention(state: SessionState) -> None:
    """Note in each finished gate whether the session gates what its model must keep, which is known at its end."""
    retained = [RetentionReport.from_wire(data) for data in state.retained]
    gates = with_retention([GateReport.from_wire(data) for data in state.records], retained)
    for data, gate in zip(state.records, gates, strict=True):
        data["retention_gated"] = gate.retention_gated


def finish(session: pytest.Session, state: SessionState) -> list[tuple[str, str]]:
    """Keep and write what the session found.

    Returns:
        Lines for the summary, each with its colour, or an empty string.
    """
    record = _gather(session, state)
    lines = []
    state.store.save_fingerprints()
    if state.store.mode.writes:
        try:
            Gates(state.store.root).keep(record.to_wire(), state.run)
        except UnlearnDiffError as error:
            lines.append((str(error), "yellow"))
    for kind, path in state.settings.report:
        try:
            lines += _write(kind, path, record, state, session.config)
        except (UnlearnDiffError, OSError) as error:
            state.report_failed = True
            lines.append((printable(str(error), 1_500), "red"))
    return lines


def _write(
    kind: str, path: Any, record: SessionReport, state: SessionState, config: pytest.Config
) -> list[tuple[str, str]]:
    if kind == "github":
        append_summary(record)
        return [(line, "") for line in workflow_commands(record, config.rootpath)]
    images = state.store if state.settings.images != "none" else None
    write(kind, path, record, images)
    return [(printable(f"{kind} report: {path}", 1_500), "")]


def _gather(session: pytest.Session, state: SessionState) -> SessionReport:
    records = [GateReport.from_wire(data) for data in state.records]
    retained = [RetentionReport.from_wire(data) for data in state.retained]
    gates: list[GateReport | RetentionReport] = [*records, *retained]
    measured, failing = {gate.nodeid for gate in gates}, {gate.nodeid for gate in gates if not gate.passed}
    lacking = [test for test in state.unmeasured if test.nodeid not in measured]
    lacking += [UnmeasuredTest(nodeid, "failed", said) for nodeid, said in state.unreached]
    lacking += [gate for gate in state.lacking if gate.nodeid not in {test.nodeid for test in lacking}]
    # By test: one that fails in its call and in its teardown is one.
    failed = {test.nodeid: test for test in reversed(state.unmeasured) if test.how == "failed"}
    otherwise = [test for nodeid, test in failed.items() if nodeid in measured - failing]
    return SessionReport(records, lacking, _facts(session, state), retained, otherwise)


def _facts(session: pytest.Session, state: SessionState) -> dict[str, Any]:
    """When, where and with what the session ran."""
    facts: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "arguments": [without_secrets(str(argument)) for argument in session.config.invocation_params.args],
        "rootdir": str(session.config.rootpath),
        **environment_info("pytest", "pytest-unlearndiff"),
    }
    stopped = state.interrupted or session.shouldstop or session.shouldfail
    return facts | ({"cut_short": str(stopped)} if stopped else {})
