"""The end of a session: reports are gathered, kept and written, the summary is printed, required gates are counted."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from html import escape
from typing import Any, Literal

import msgspec
import pytest

# pytest has no public way to add to a test's properties after its teardown; the fixture record_xml_attribute asks the
# same object for the same thing.
from _pytest.junitxml import xml_key

from ..core.device import environment_info
from ..core.errors import UnlearnDiffError
from ..core.registry import registry
from ..core.session_info import author_info
from ..core.untrusted import printable
from ..reports.failure_text import UNGATED
from ..reports.gate_report import GateReport, from_builtins
from ..reports.junit import RETENTION
from ..reports.quality_report import quality_from_builtins
from ..reports.session_report import (
    ReportOptions,
    SessionReport,
    UnmeasuredTest,
    json_report,
    render,
    with_retention,
    write,
)
from ..reports.terminal import quality_lines, summary_lines
from ..reports.text import pluralize, sanitize
from ..store.store import LastSession
from .options import RUNS_TESTS, is_gate
from .running import join_node_ids, remote_interrupt_message, sigterm_as_ctrl_c
from .session import CARRIED, CARRIED_QUALITY, GATE, RERUN, STATE, UNREACHED, SessionState, expected_failure, state_of
from .settings import without_secrets


class Progress(Enum):
    """Progress of a gate, by the reports of its test."""

    WAITING = auto()
    RUNNING = auto()
    ENDED = auto()


_COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow", "INCOMPLETE": "yellow"}


class Controller:
    """Gathers what test reports carry, in the same way with and without xdist.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._worker = hasattr(config, "workerinput")
        self._told: list[tuple[str, str]] = []
        self._junit: JUnitFile | None = None
        self._gates: dict[str, Progress] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Note the gates of the session; let SIGTERM end it as Ctrl-C does."""
        # Under xdist nothing is collected here; workers tell.
        self._gates = {item.nodeid: Progress.WAITING for item in getattr(session, "items", ()) if is_gate(item)}
        with sigterm_as_ctrl_c():
            return (yield)

    def note_gates(self, nodeids: list[str], deselected: list[str]) -> None:
        """Note gates that a worker of xdist has collected, and those that it was told to leave out."""
        for nodeid in nodeids:
            self._gates.setdefault(nodeid, Progress.WAITING)
        state_of(self._config).deselected = deselected  # the same in every worker

    @pytest.hookimpl
    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Note gates that the command line leaves out."""
        state_of(self._config).deselected += [item.nodeid for item in items if is_gate(item)]

    @pytest.hookimpl
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note that a gate has begun, whose setup may load a model."""
        if nodeid in self._gates:
            self._gates[nodeid] = Progress.RUNNING

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a finished test's report carries."""
        if not getattr(report, GATE, False) or report.outcome == RERUN:
            return
        state = state_of(self._config)
        self._follow(report)
        expected = expected_failure(report) or None
        gates = from_builtins(getattr(report, CARRIED, []))
        state.gates += [msgspec.structs.replace(gate, expected_failure=expected) for gate in gates]
        quality = quality_from_builtins(getattr(report, CARRIED_QUALITY, []))
        state.quality += [msgspec.structs.replace(gate, expected_failure=expected) for gate in quality]
        state.unreached += [(report.nodeid, note) for note in getattr(report, UNREACHED, [])]
        if gates and not self._worker:
            self._in_junit(report)
        if report.failed or not (gates or quality or report.passed):
            state.unmeasured.append(unmeasured(report))
        if report.skipped and not hasattr(report, "wasxfail"):
            state.skipped.append(report.nodeid)

    def _in_junit(self, report: pytest.TestReport) -> None:
        self._junit = self._junit or JUnitFile(self._config)
        self._junit.add(report)

    def _follow(self, report: pytest.TestReport) -> None:
        """Note how far a gate is; a test that is run again begins again."""
        if report.when == "setup":
            self._gates[report.nodeid] = Progress.RUNNING
        elif report.when == "teardown":
            self._gates[report.nodeid] = Progress.ENDED

    def _at(self, progress: Progress) -> list[str]:
        """The gates that are so far."""
        return [nodeid for nodeid, reached in self._gates.items() if reached is progress]

    @pytest.hookimpl
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note where the session was interrupted and what is kept of campaigns that ran in workers.

        They know more, but only this process prints. What stops pytest after a test, such as errors of collection, is
        no such interruption.
        """
        if STATE not in self._config.stash or self._worker:
            return
        state, running = state_of(self._config), self._at(Progress.RUNNING)
        here = not self._config.pluginmanager.hasplugin("dsession")
        stopped = isinstance(excinfo.value, pytest.Session.Interrupted)
        if here and (state.interrupted or stopped or not (running or self._at(Progress.WAITING))):
            return
        state.interrupted = remote_interrupt_message(state.store, running)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Write reports; with --unlearndiff-require, a gate that was skipped or did not run fails the session.

        What the whole session tells of a gate is noted before others write files of their own.
        """
        if not self._reports():
            return (yield)
        state = state_of(self._config)
        state.gates = with_retention(state.gates, state.quality)
        if self._junit is not None:
            self._junit.complete(state.gates)
        yield
        self._cut_short(session)
        if state.every or state.unmeasured or state.interrupted or state.lacking:
            self._config.hook.pytest_unlearndiff_report(config=self._config, gates=state.gates, quality=state.quality)
            self._told = finish(session, state)
        if session.exitstatus == pytest.ExitCode.OK and (state.require_failure() or state.report_failed):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _cut_short(self, session: pytest.Session) -> None:
        """Note the gates that the session did not get to, or not to the end of, where something ended it before."""
        state = state_of(self._config)
        if not (why := state.interrupted or session.shouldstop or session.shouldfail):
            return
        measured = {gate.nodeid for gate in state.every}
        running, waiting = (
            [nodeid for nodeid in self._at(progress) if nodeid not in measured]
            for progress in (Progress.RUNNING, Progress.WAITING)
        )
        state.lacking += [UnmeasuredTest(nodeid, "interrupted", str(why)) for nodeid in running]
        state.lacking += [UnmeasuredTest(nodeid, "not reached", str(why)) for nodeid in waiting]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str]) -> None:
        """Say in pytest-html's summary what its rows, written as tests end, could not know yet."""
        if not self._reports():
            return
        for gate in state_of(self._config).gates:
            if gate.retention_gated is False:
                prefix.append(f"<p>{escape(sanitize(gate.nodeid))}: {UNGATED}</p>")

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One section, only where a gate ran or was required."""
        if not self._reports():
            return
        state = state_of(self._config)
        lines = self._lines()
        unmet = state.require_failure()
        if not (lines or unmet or state.interrupted or state.lacking or self._told or state.skipped):
            return
        terminalreporter.section("unlearndiff")
        for text, verdict in lines:
            terminalreporter.line(text, **({_COLOURS[verdict]: True} if verdict else {}))
        for text, colour in self._told:
            terminalreporter.line(text, **({colour: True} if colour else {}))
        if state.interrupted:
            terminalreporter.line(sanitize(state.interrupted, 2000), yellow=True)
        if unreached := [gate.nodeid for gate in state.lacking if gate.how == "not reached"]:
            terminalreporter.line(f"not reached: {join_node_ids(unreached)}", yellow=True)
        if state.skipped:
            terminalreporter.line(skipped_line(state), yellow=True)
        if unmet:
            terminalreporter.line(f"--unlearndiff-require: {unmet}", red=True)

    def _reports(self) -> bool:
        """Tell whether this process sums up the gates of the session."""
        lists = any(self._config.getoption(name, False) for name in ("collectonly", "setuponly"))
        return self._config.stash.get(RUNS_TESTS, False) and not lists and not self._worker

    def _lines(self) -> list[tuple[str, str]]:
        width = self._config.get_terminal_writer().fullwidth
        state, verbosity = state_of(self._config), self._config.get_verbosity()
        lines = summary_lines(state.gates, verbosity=verbosity, width=width)
        return lines + quality_lines(state.quality, verbosity=verbosity)


def unmeasured(report: pytest.TestReport) -> UnmeasuredTest:
    """Describe a test that failed or was skipped, as its report says it."""
    expected = hasattr(report, "wasxfail")
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    crash = getattr(report.longrepr, "reprcrash", None)
    text = getattr(crash, "message", "") or str(why)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    how: Literal["failed", "skipped"] = "failed" if report.failed or expected else "skipped"
    return UnmeasuredTest(report.nodeid, how, (lines or ["no reason given"])[0].removeprefix("Skipped: "))


def skipped_line(state: SessionState) -> str:
    """Say that gates were skipped, which a green session hides, and why the first one was."""
    first, count = state.skipped[0], len(state.skipped)
    why = next((test.why for test in state.unmeasured if test.nodeid == first), "")
    such = f"{'such as ' if count > 1 else ''}{sanitize(first)}: {sanitize(why, 500)}"
    return f"{pluralize(count, 'gate')} {'was' if count == 1 else 'were'} skipped, so nothing is known: {such}"


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
                part = f" ({state.selection})" if state.selection else ""
                lines.append((printable(f"{name} report: {path}{part}", 1_500), ""))
            else:
                lines += [(line, "") for line in render(name, report, options).split("\n") if line]
        except (UnlearnDiffError, OSError) as error:
            state.report_failed = True
            lines.append((printable(str(error), 1_500), "red"))
    return lines


def _gather(session: pytest.Session, state: SessionState) -> SessionReport:
    measured, failing = (
        {gate.nodeid for gate in state.every if not (only_failing and gate.passed)} for only_failing in (False, True)
    )
    lacking = [test for test in state.unmeasured if test.nodeid not in measured]
    lacking += [UnmeasuredTest(nodeid, "failed", note) for nodeid, note in state.unreached]
    lacking += [test for test in state.lacking if test.nodeid not in {other.nodeid for other in lacking}]
    # By test: one that fails in its call and in its teardown is one.
    failed = {test.nodeid: test for test in reversed(state.unmeasured) if test.how == "failed"}
    otherwise = [test for nodeid, test in failed.items() if nodeid in measured - failing]
    return SessionReport(
        gates=state.gates,
        quality=state.quality,
        unmeasured=lacking,
        failed_otherwise=otherwise,
        run=_facts(session, state),
    )


def _facts(session: pytest.Session, state: SessionState) -> dict[str, Any]:
    """Return when, where and with what the session ran."""
    facts: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "arguments": [without_secrets(str(argument)) for argument in session.config.invocation_params.args],
        "rootdir": str(session.config.rootpath),
        **author_info(session.config.rootpath),
        **environment_info("pytest", "pytest-unlearndiff"),
        **({"selection": selection} if (selection := state.selection) else {}),
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
