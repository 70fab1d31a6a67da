"""What happens once a session: reports are gathered, the summary is printed, required gates are counted."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from .session import CARRIED, GATE, STATE, state_of

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
        if not getattr(report, GATE, False):
            return
        state = state_of(self._config)
        state.records += getattr(report, CARRIED, [])
        if report.skipped and not hasattr(report, "wasxfail"):
            state.skipped.append(report.nodeid)

    @pytest.hookimpl
    def pytest_keyboard_interrupt(self) -> None:
        """Note what is kept of campaigns that ran in workers: they know more, but only this process prints."""
        if STATE in self._config.stash and self._config.pluginmanager.hasplugin("dsession"):
            from .interruption import workers_standing

            state_of(self._config).interrupted = workers_standing(state_of(self._config).store)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """With --unlearndiff-require, a gate that was skipped or did not run fails the session."""
        if not self._reports() or session.exitstatus != pytest.ExitCode.OK:
            return
        if state_of(self._config).unmet():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One section, only where a gate ran or was required."""
        if not self._reports():
            return
        state = state_of(self._config)
        lines = self._lines()
        unmet = state.unmet()
        if not lines and not unmet and not state.interrupted:
            return
        from ..reports.text import safe

        terminalreporter.section("unlearndiff")
        for text, verdict in lines:
            colour = {_COLOURS[verdict]: True} if verdict else {}
            terminalreporter.line(text, **colour)
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
        return summary_lines(records, verbosity=self._config.get_verbosity())
