"""Reports at the end of a session: one kept in the store, and those that the user asked for."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

# pytest has no public way to add to a test's properties after its teardown; the fixture record_xml_attribute asks the
# same object for the same thing.
from _pytest.junitxml import xml_key

from ..core.environment import environment_info
from ..core.errors import UnlearnDiffError
from ..core.registry import registry
from ..core.untrusted import printable
from ..reports.failure_text import UNGATED
from ..reports.gate_report import GateReport
from ..reports.json_report import json_report
from ..reports.junit import RETENTION
from ..reports.session_report import SessionReport, UnmeasuredTest
from ..reports.writers import ReportOptions, render, write
from ..store.last_session import LastSession
from .session import SessionState
from .settings import without_secrets


def unmeasured(report: pytest.TestReport) -> UnmeasuredTest:
    """Describe a test that failed or was skipped, as its report says it."""
    expected = hasattr(report, "wasxfail")
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    crash = getattr(report.longrepr, "reprcrash", None)
    text = getattr(crash, "message", "") or str(why)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    how: Literal["failed", "skipped"] = "failed" if report.failed or expected else "skipped"
    return UnmeasuredTest(report.nodeid, how, (lines or ["no reason given"])[0].removeprefix("Skipped: "))


def finish(session: pytest.Session, state: SessionState) -> list[tuple[str, str]]:
    """Keep and write the reports of the session.

    Returns:
        Lines for the summary, each with its colour, or an empty string.
    """
    report, lines = _gather(session, state), []
    images = state.store if state.settings.images != "none" else None
    options = ReportOptions(session.config.rootpath, images)
    state.store.save_fingerprints()
    if state.store.mode.writes:
        try:
            LastSession(state.store.root).keep(json_report(report, options), state.run)
        except UnlearnDiffError as error:
            lines.append((str(error), "yellow"))
    for name, path in state.settings.report:
        try:
            if registry().reports[name].takes_path:
                write(name, path, report, options)
                lines.append((printable(f"{name} report: {path}", 1_500), ""))
            else:
                lines += [(line, "") for line in render(name, report, options).split("\n") if line]
        except (UnlearnDiffError, OSError) as error:
            state.report_failed = True
            lines.append((printable(str(error), 1_500), "red"))
    return lines


def _gather(session: pytest.Session, state: SessionState) -> SessionReport:
    measured, failing = ({gate.nodeid for gate in gates} for gates in (state.gates, _failing(state)))
    lacking = [test for test in state.unmeasured if test.nodeid not in measured]
    lacking += [UnmeasuredTest(nodeid, "failed", note) for nodeid, note in state.unreached]
    lacking += [test for test in state.lacking if test.nodeid not in {other.nodeid for other in lacking}]
    # By test: one that fails in its call and in its teardown is one.
    failed = {test.nodeid: test for test in reversed(state.unmeasured) if test.how == "failed"}
    otherwise = [test for nodeid, test in failed.items() if nodeid in measured - failing]
    return SessionReport(gates=state.gates, unmeasured=lacking, failed_otherwise=otherwise, run=_facts(session, state))


def _failing(state: SessionState) -> list[GateReport]:
    return [gate for gate in state.gates if not gate.passed]


def _facts(session: pytest.Session, state: SessionState) -> dict[str, Any]:
    """Return when, where and with what the session ran."""
    facts: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "arguments": [without_secrets(str(argument)) for argument in session.config.invocation_params.args],
        "rootdir": str(session.config.rootpath),
        **environment_info("pytest", "pytest-unlearndiff"),
    }
    stopped = state.interrupted or session.shouldstop or session.shouldfail
    return facts | ({"cut_short": str(stopped)} if stopped else {})


class JUnitFile:
    """Additions to pytest's own JUnit file, if it writes one, of what is known only once all tests have run.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._cases: list[tuple[str, Any]] = []

    def add(self, report: pytest.TestReport) -> None:
        """Remember a test whose call has ended."""
        if (file := self._config.stash.get(xml_key, None)) is not None:
            self._cases.append((report.nodeid, file.node_reporter(report)))

    def complete(self, gates: Sequence[GateReport]) -> None:
        """Note on each gate whether the session gates what its model must keep, before the file is written."""
        ungated = {gate.nodeid for gate in gates if gate.retention_gated is False}
        for nodeid, case in self._cases:
            properties: ET.Element | None = case.to_xml().find("properties") if nodeid in ungated else None
            if properties is not None and properties.find(f"property[@name='{RETENTION}']") is None:
                ET.SubElement(properties, "property", name=RETENTION, value=UNGATED)
