"""What happens once a session: reports are gathered, the summary is printed, required gates are counted."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from .given import given_options
from .session import CARRIED, DOOR, GATE, RERUN, STATE, expected_failure, state_of

if TYPE_CHECKING:
    from .junit_file import JUnitFile

_COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow", "INCOMPLETE": "yellow"}


class Controller:
    """Gathers what test reports carry, in the same way with and without xdist.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._worker = hasattr(config, "workerinput")
        self._runs = False
        self._told: list[tuple[str, str]] = []
        self._junit: JUnitFile | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Note that tests run: a session that only lists things has no gates to require or to sum up."""
        self._runs = not any(self._config.getoption(name, False) for name in ("collectonly", "setuponly"))
        if STATE not in self._config.stash:
            return (yield)
        from .interruption import sigterm_as_ctrl_c

        with sigterm_as_ctrl_c():
            return (yield)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a finished test's report carries."""
        if not getattr(report, GATE, False) or report.outcome == RERUN:
            return
        state = state_of(self._config)
        records = getattr(report, CARRIED, [])
        for record in records:
            record["expected"] = expected_failure(report)
        state.records += records
        if records and not self._worker:
            self._in_junit(report)
        if report.failed or not (records or report.passed):
            from .reporting import unmeasured

            state.unmeasured.append(unmeasured(report))
        if report.skipped and not hasattr(report, "wasxfail"):
            state.skipped.append(report.nodeid)

    def _in_junit(self, report: pytest.TestReport) -> None:
        from .junit_file import JUnitFile

        self._junit = self._junit or JUnitFile(self._config)
        self._junit.add(report)

    @pytest.hookimpl
    def pytest_keyboard_interrupt(self) -> None:
        """Note what is kept of campaigns that ran in workers: they know more, but only this process prints."""
        if STATE in self._config.stash and self._config.pluginmanager.hasplugin("dsession"):
            from .interruption import workers_standing

            state_of(self._config).interrupted = workers_standing(state_of(self._config).store)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of xdist where it finds the processes that attack, if others than itself shall."""
        if given_options(self._config) and (roster := state_of(self._config).roster) is not None:
            node.workerinput[DOOR] = roster.door

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Write reports; with --unlearndiff-require, a gate that was skipped or did not run fails the session.

        What the whole session tells of a gate is noted before others write files of their own.
        """
        if not self._reports():
            return (yield)
        state = state_of(self._config)
        if state.records:
            from .reporting import note_retention

            note_retention(state)
            if self._junit is not None:
                self._junit.complete(state.records)
        yield
        if state.records or state.retained or state.unmeasured or state.interrupted:
            from .reporting import finish

            self._config.hook.pytest_unlearndiff_report(config=self._config, gates=state.records)

            self._told = finish(session, state)
        if session.exitstatus == pytest.ExitCode.OK and (state.unmet() or state.report_failed):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str]) -> None:
        """Say in pytest-html's summary what its rows, written as tests end, could not know yet."""
        if not self._reports():
            return
        from html import escape

        from ..reports.failure import UNGATED
        from ..reports.text import safe

        for record in state_of(self._config).records:
            if not record["retention_gated"]:
                prefix.append(f"<p>{escape(safe(record['nodeid']))}: {UNGATED}</p>")

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One section, only where a gate ran or was required."""
        if not self._reports():
            return
        state = state_of(self._config)
        lines = self._lines()
        unmet = state.unmet()
        if not lines and not unmet and not state.interrupted and not self._told:
            return
        from ..reports.text import safe

        terminalreporter.section("unlearndiff")
        for text, verdict in lines:
            terminalreporter.line(text, **({_COLOURS[verdict]: True} if verdict else {}))
        for text, colour in self._told:
            terminalreporter.line(text, **({colour: True} if colour else {}))
        if state.interrupted:
            terminalreporter.line(safe(state.interrupted), yellow=True)
        if unmet:
            terminalreporter.line(f"--unlearndiff-require: {unmet}", red=True)

    def _reports(self) -> bool:
        """Whether gates of this session are summed up, and here."""
        return self._runs and not self._worker and STATE in self._config.stash

    def _lines(self) -> list[tuple[str, str]]:
        state = state_of(self._config)
        if not state.records:
            return []
        from ..reports.record import Record
        from ..reports.terminal import summary_lines

        records = [Record.from_wire(data) for data in state.records]
        width = self._config.get_terminal_writer().fullwidth
        return summary_lines(records, verbosity=self._config.get_verbosity(), width=width)
