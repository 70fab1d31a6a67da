"""--unlearndiff-plan: every gate, what the store knows of it and what is left, without loading a model."""

from __future__ import annotations

import pytest

from ..core.errors import UnlearnDiffError
from ..core.gate import Verdict
from ..reports.plan import Planned, plan_lines, planned
from ..runs.model_cache import ModelSpec
from ..runs.positive_control import control_campaign, control_of, control_required
from ..sources.import_string import is_import_string
from .attack import campaign_of, ending_of, gate_source
from .fixtures import overridden
from .markers import GateRequest, marker_keywords, read_request
from .names import RETENTION_FIXTURE as FIXTURE
from .names import RETENTION_MARK as MARK
from .retention import mark_keywords, read_retention, sides_of
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


class _NotForeseen(Exception):
    """What a gate would do is not known before it runs."""


def plan(session: pytest.Session, state: SessionState) -> list[str]:
    """Lines that say what this session would attack and draw."""
    gates: list[Planned] = []
    unknown: list[tuple[str, str]] = []
    for item in session.items:
        for fixture, mark, look in _KINDS:
            if fixture not in getattr(item, "fixturenames", ()):
                continue
            marks: list[pytest.Mark | None] = [*item.iter_markers(mark)]
            for found in marks[::-1] or [None]:
                try:
                    gates += look(session, item, found, state)
                except (_NotForeseen, UnlearnDiffError) as reason:
                    unknown.append((item.nodeid, str(reason)))
    return plan_lines(gates, unknown)


def _attack(session: pytest.Session, item: pytest.Item, mark: pytest.Mark | None, state: SessionState) -> list[Planned]:
    """What an attack gate would do; only the closest of its markers counts.

    Raises:
        _NotForeseen: that is not known.
    """
    if mark is None:
        raise _NotForeseen("says what it attacks only when it runs")
    if mark is not item.get_closest_marker("unlearndiff"):
        return []
    folder = item.path.parent
    request = read_request(marker_keywords(mark), state.settings, state.library(folder), folder)
    source = _source(session, item, request, state)
    campaign = campaign_of(request, source, state)
    prospect = campaign.prospect(state.store, ending_of(request, state))
    gates = [planned(item.nodeid, campaign, prospect)]
    if (undrawn := campaign.undrawn(state.store, ending_of(request, state))) is not None:
        gates.append(planned(item.nodeid, undrawn, undrawn.prospect(state.store), "un-attacked"))
    asked = control_required(prospect.tally, may_pass=request.gate.verdict(prospect.tally) is not Verdict.FAIL)
    drawn_anyway = campaign.concept.images or (campaign.attack.draws_targets and prospect.left)
    if source.base is not None and asked and not drawn_anyway:
        control = control_campaign(campaign)
        if control_of(campaign, state.store, {}, asked=True).insufficient:
            gates.append(planned(item.nodeid, control, control.prospect(state.store), "base"))
    return gates


def _retention(
    session: pytest.Session, item: pytest.Item, mark: pytest.Mark | None, state: SessionState
) -> list[Planned]:
    """What a retention gate would draw, of the victim and of its base.

    Raises:
        _NotForeseen: that is not known.
    """
    if mark is None:
        raise _NotForeseen("says what it draws only when it runs")
    folder = item.path.parent
    request = read_retention(mark_keywords(mark), state.settings, state.library(folder), folder).shared
    sides = sides_of(request, _source(session, item, request, state), state)
    return [
        planned(item.nodeid, side, side.prospect(state.store), whose)
        for whose, side in zip(("victim", "base"), sides, strict=True)
        if side is not None
    ]


_UNSURE = (
    "; where hooks or other code act on it as it draws, its outcomes are kept only with --unlearndiff-model-version or "
    "a VersionedPipeline"
)

_KINDS = (("unlearndiff_attack", "unlearndiff", _attack), (FIXTURE, MARK, _retention))


def _source(session: pytest.Session, item: pytest.Item, request: GateRequest, state: SessionState) -> ModelSpec:
    """The victim of a gate, where it is known before it is loaded.

    Raises:
        _NotForeseen: it is not, or there is none.
    """
    source = gate_source(request, state.settings)
    unsure = "" if source.version else _UNSURE
    if request.model is None and overridden(session, item):
        raise _NotForeseen(f"its model is made by an unlearned_pipe fixture{unsure}")
    if is_import_string(source.model):
        raise _NotForeseen(f"its model is made by {source.model}{unsure}")
    if source.model is None:
        raise _NotForeseen("would be skipped: no model under test")
    return source
