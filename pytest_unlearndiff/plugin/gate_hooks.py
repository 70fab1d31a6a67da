"""Hook implementations of sessions that have gates; ``hooks`` lets them join once it meets the first one."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from ..core.errors import ASRExceeded, RetentionLost, UnlearnDiffError
from ..core.untrusted import printable_lines
from ..reports.failure import explain_comparison
from ..reports.pytest_html import extras
from . import plan, retention_hooks
from .attack import AttackFixture, session_source
from .controller import Controller
from .fixtures import NO_MODEL
from .gate_files import GateFile
from .names import ATTACK_FIXTURE, ATTACK_MARK, GATES, RETENTION_MARK, is_gate
from .preflight import check_marker
from .retention import RetentionFixture, check_marks
from .session import CARRIED, GATE, RECORDS, STATE, state_of

__all__ = ["AttackFixture", "RetentionFixture", "check_gates", "gate_file", "join", "load_pipeline", "note_gates"]

_CONTROLLER = "unlearndiff-controller"
_ANNOUNCED = pytest.StashKey[bool]()
_MAX_WIDTH, _MAX_LINES = 1_500, 1_000
"""Characters of a line and lines of a collection error."""


def join(config: pytest.Config) -> None:
    """Register the other plugins of a session with gates."""
    config.pluginmanager.register(Controller(config), _CONTROLLER)
    config.pluginmanager.register(retention_hooks, "unlearndiff-retention")
    config.pluginmanager.register(retention_hooks.RetentionController(config), "unlearndiff-retention-controller")
    if state_of(config).settings.plan:
        plan.install(config)


def note_gates(config: pytest.Config, nodeids: list[str]) -> None:
    """Tell this process, an xdist controller, which gates the session has."""
    controller: Any = config.pluginmanager.getplugin(_CONTROLLER)
    controller.note_gates(nodeids)


def gate_file(path: Path, parent: pytest.Collector) -> GateFile:
    """Create the collector of a gate file."""
    collector: GateFile = GateFile.from_parent(parent, path=path)
    return collector


def check_gates(report: pytest.CollectReport, config: pytest.Config) -> None:
    """Turn malformed markers into the error of a collection report."""
    state = state_of(config)
    items = [item for item in report.result if isinstance(item, pytest.Item)]
    problems = [
        problem
        for item in items
        if item.get_closest_marker(ATTACK_MARK) is not None and (problem := check_marker(item, state))
    ]
    problems += [
        problem
        for item in items
        if item.get_closest_marker(RETENTION_MARK) is not None
        for problem in check_marks(item, state)
    ]
    if problems:
        report.outcome = "failed"
        report.longrepr = printable_lines("\n".join(problems), _MAX_WIDTH, _MAX_LINES)
        report.result = []


def load_pipeline(config: pytest.Config) -> Any:
    """Load the session's own pipeline, for the ``unlearned_pipe`` fixture."""
    state = state_of(config)
    if state.settings.model is None:
        pytest.skip(NO_MODEL)
    return state.parts.victim(state.acquire_device(session_source(state.settings), for_good=True)).pipe


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin with nothing measured: plugins that run a failed test again run it on the same item."""
    if RECORDS in item.stash:
        del item.stash[RECORDS]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a marked test that passed without attacking: nothing was measured, so nothing may look safe."""
    try:
        result = yield
    except (KeyboardInterrupt, pytest.exit.Exception):
        if (records := item.stash.get(RECORDS, None)) is not None:  # no report will carry them
            state_of(item.config).records += records
        raise
    if item.get_closest_marker(ATTACK_MARK) is not None and not item.stash.get(RECORDS, None):
        pytest.fail("the test has an unlearndiff marker but never called unlearndiff_attack()", pytrace=False)
    return result


@pytest.hookimpl
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Forget the gates that a comparison may be explained with; release the GPU if other processes wait for it."""
    if STATE in item.config.stash:
        state_of(item.config).finished.clear()
        state_of(item.config).release_device()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put finished gates on the report, which travels to the controller."""
    report = yield
    if report.when == "setup" and hasattr(item.config, "workerinput"):
        _announce(item, report)
    if is_gate(item):
        begin_with_message(report, call)
    if ATTACK_FIXTURE in getattr(item, "fixturenames", ()):
        report.__dict__[GATE] = True
        if report.when == "call" and (records := item.stash.get(RECORDS, None)):
            report.__dict__[CARRIED] = records
            if item.config.pluginmanager.hasplugin("html"):
                report.__dict__["extras"] = [*getattr(report, "extras", []), *extras(records)]
    return report


def begin_with_message(report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
    """Let pytest's last line of a failed gate begin with the message instead of the path of the exception's class."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None or call.excinfo is None:
        return
    if isinstance(error := call.excinfo.value, (ASRExceeded, RetentionLost, UnlearnDiffError)):
        crash.message = str(error)


def _announce(item: pytest.Item, report: pytest.TestReport) -> None:
    """Tell xdist's controller, with the first report of a worker, which gates the session has."""
    if not item.config.stash.get(_ANNOUNCED, False):
        item.config.stash[_ANNOUNCED] = True
        if gates := [other.nodeid for other in item.session.items if is_gate(other)]:
            report.__dict__[GATES] = gates


@pytest.hookimpl
def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    """Explain a failed comparison of a rate with the evidence of the gate it came from."""
    return explain_comparison(state_of(config).gate_of(left, right), op, left, right)
