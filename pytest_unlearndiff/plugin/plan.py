"""--unlearndiff-plan: every gate, what the store knows of it and what is left, without loading a model."""

from __future__ import annotations

import pytest

from ..campaign.campaign import Prospect
from ..core.errors import UnlearnDiffError
from ..core.maker import is_maker
from ..reports.plan import plan_lines
from .attack import campaign_of, ending_of, gate_source, overridden
from .markers import marker_keywords, read_request
from .session import SessionState, state_of


class Planner:
    """Takes the place of the loop that runs tests."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Look into the store instead of running tests; errors of collection stay pytest's own affair."""
        if session.testsfailed:
            return None
        self._lines = plan(session, state_of(session.config))
        return True

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the plan."""
        if self._lines:
            terminalreporter.section("unlearndiff plan")
            for line in self._lines:
                terminalreporter.line(line)


def install(config: pytest.Config) -> None:
    """Plan in this process, and start no workers for it."""
    if hasattr(config.option, "dist"):
        config.option.dist, config.option.tx = "no", []
    config.pluginmanager.register(Planner(), "unlearndiff-planner")


def plan(session: pytest.Session, state: SessionState) -> list[str]:
    """Lines that say what this session would attack."""
    gates: list[tuple[str, str, Prospect]] = []
    unknown: list[tuple[str, str]] = []
    for item in session.items:
        if "unlearndiff_retention" in getattr(item, "fixturenames", ()):
            unknown.append((item.nodeid, "what it draws for retention is not foreseen"))
        if "unlearndiff_attack" not in getattr(item, "fixturenames", ()):
            continue
        mark = item.get_closest_marker("unlearndiff")
        if mark is None:
            unknown.append((item.nodeid, "says what it attacks only when it runs"))
            continue
        request = read_request(marker_keywords(mark), state.settings, state.library(item.path.parent), item.path.parent)
        source = gate_source(request, state.settings)
        if request.model is None and overridden(session, item):
            unknown.append((item.nodeid, "its model is made by an unlearned_pipe fixture"))
        elif is_maker(source.model):
            unknown.append((item.nodeid, f"its model is made by {source.model}"))
        elif source.model is not None and state.hooks_load:
            unknown.append((item.nodeid, "its model is loaded by a pytest_unlearndiff_load_pipeline hook"))
        elif source.model is None:
            unknown.append((item.nodeid, "would be skipped: no model under test"))
        else:
            try:
                found = campaign_of(request, source, state).prospect(state.store, ending_of(request, state))
            except UnlearnDiffError as error:
                unknown.append((item.nodeid, str(error)))
            else:
                gates.append((item.nodeid, request.concept.name, found))
    return plan_lines(gates, unknown)
