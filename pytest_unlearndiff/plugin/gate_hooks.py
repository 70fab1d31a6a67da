"""Hook implementations of sessions that have gates; ``hooks`` lets them join once it meets the first one."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from ..core.errors import LimitExceeded, UnlearnDiffError
from ..core.untrusted import printable_lines
from ..reports.failure_text import explain_comparison
from ..reports.gate_report import GateReport
from ..reports.junit import html_extras
from ..reports.quality_report import QualityReport
from ..reports.text import pluralize, sanitize
from . import model_under_test, plan
from .controller import Controller
from .gate_files import GateFile
from .gate_run import AttackFixture, RetentionFixture
from .markers import ATTACK, RETENTION
from .model_under_test import NO_MODEL, session_source
from .options import GATES, is_gate
from .quality_marker import QUALITY, name_of
from .quality_run import QualityFixture
from .requests import MARKERS, marker_keywords
from .session import CARRIED, CARRIED_QUALITY, GATE, QUALITY_RECORDS, RECORDS, STATE, UNREACHED, state_of

__all__ = [
    "AttackFixture", "QualityFixture", "RetentionFixture", "check_gates", "gate_file", "join", "load_pipeline",
    "note_gates",
]  # fmt: skip

_CONTROLLER = "unlearndiff-controller"
_ANNOUNCED = pytest.StashKey[bool]()
_UNREACHED = pytest.StashKey[list[str]]()
_MAX_WIDTH, _MAX_LINES = 1_500, 1_000
"""Characters of a line and lines of a collection error."""


def join(config: pytest.Config) -> None:
    """Register the other plugins of a session with gates."""
    config.pluginmanager.register(Controller(config), _CONTROLLER)
    if state_of(config).settings.plan:
        plan.install(config)


def note_gates(config: pytest.Config, gates: list[list[str]]) -> None:
    """Tell this process, an xdist controller, which gates the session has and leaves out."""
    controller: Any = config.pluginmanager.getplugin(_CONTROLLER)
    controller.note_gates(*gates)


def gate_file(path: Path, parent: pytest.Collector) -> GateFile:
    """Create the collector of a gate file."""
    collector: GateFile = GateFile.from_parent(parent, path=path)
    return collector


def check_gates(report: pytest.CollectReport, config: pytest.Config) -> None:
    """Turn malformed markers into the error of a collection report."""
    state = state_of(config)
    items = [item for item in report.result if isinstance(item, pytest.Item)]
    problems = [problem for item in items for problem in model_under_test.check_gates(item, state)]
    if problems:
        report.outcome = "failed"
        report.longrepr = printable_lines("\n".join(problems), _MAX_WIDTH, _MAX_LINES)
        report.result = []


def load_pipeline(config: pytest.Config) -> Any:
    """Load the session's own pipeline, for the ``unlearned_pipe`` fixture."""
    state = state_of(config)
    if not state.settings.model:
        pytest.skip(NO_MODEL)
    return state.models.victim(state.acquire_device(session_source(state.settings), for_good=True)).pipe


@pytest.hookimpl
def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> str | None:
    """Say where --unlearndiff-prompts does not apply, since gates name their own number."""
    prompts = state_of(config).settings.prompts
    own = [item for item in items if any(_names_prompts(mark) for mark in item.iter_markers())]
    if prompts is None or not own:
        return None
    count, whose = pluralize(len(own), "gate"), "its" if len(own) == 1 else "their"
    such = sanitize(own[0].nodeid)
    return (
        f"unlearndiff: --unlearndiff-prompts={prompts} changes nothing for {count} with a number of {whose} own: {such}"
    )


def _names_prompts(mark: pytest.Mark) -> bool:
    return mark.name in MARKERS and isinstance(mark.kwargs.get("prompts"), int)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin with nothing measured: plugins that run a failed test again run it on the same item."""
    keys: tuple[pytest.StashKey[Any], ...] = (RECORDS, QUALITY_RECORDS, _UNREACHED)
    for key in keys:
        if key in item.stash:
            del item.stash[key]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a marked test that passed without running its gates: nothing was measured, so nothing may look safe.

    One that failed at another gate says which gates it did not reach.
    """
    try:
        result = yield
    except (KeyboardInterrupt, pytest.exit.Exception):
        gates: list[GateReport] = item.stash.get(RECORDS, [])
        quality: list[QualityReport] = item.stash.get(QUALITY_RECORDS, [])
        state_of(item.config).gates += gates  # no report will carry them
        state_of(item.config).quality += quality
        raise
    except (Exception, pytest.fail.Exception) as error:
        if item.stash.get(RECORDS, None) or item.stash.get(QUALITY_RECORDS, None):
            notes = [
                f"{marker}({concept!r}) was not reached: nothing is known of it" for marker, concept in _lacks(item)
            ]
            for note in notes:
                error.add_note(note)
            item.stash[_UNREACHED] = notes
        raise
    for marker, concept in _lacks(item):
        of_concept = f" for {concept}" if MARKERS[marker].several else ""
        pytest.fail(
            f"the test has an {marker} marker but never called {MARKERS[marker].fixture}(){of_concept}", pytrace=False
        )
    return result


def _lacks(item: pytest.Item) -> list[tuple[str, object]]:
    """Return marker and concept of the test's gates of which nothing is known.

    A test with the ``unlearndiff`` marker may gate other concepts; what must be kept is gated concept by concept.
    """
    gates = item.stash.get(RECORDS, [])
    kept = {gate.concept for gate in gates if gate.kept}
    lacks: list[tuple[str, object]] = []
    if (mark := item.get_closest_marker(ATTACK.name)) is not None and all(gate.kept for gate in gates):
        lacks.append((ATTACK.name, marker_keywords(mark).get("concept")))
    asked = {marker_keywords(mark).get("concept") for mark in item.iter_markers(RETENTION.name)}
    lacks += [(RETENTION.name, concept) for concept in sorted(asked - kept, key=str)]
    measured = {gate.captions for gate in item.stash.get(QUALITY_RECORDS, [])}
    names = [name_of(marker_keywords(mark)) for mark in item.iter_markers(QUALITY.name)]
    return lacks + [(QUALITY.name, name) for name in dict.fromkeys(names) if name not in measured]


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
        report.__dict__[GATE] = True
        gates, quality = item.stash.get(RECORDS, []), item.stash.get(QUALITY_RECORDS, [])
        if report.when == "call" and (gates or quality):
            report.__dict__[CARRIED] = [gate.to_builtins() for gate in gates]
            report.__dict__[CARRIED_QUALITY] = [gate.to_builtins() for gate in quality]
            if item.config.pluginmanager.hasplugin("html"):
                report.__dict__["extras"] = [*getattr(report, "extras", []), *html_extras(gates, quality)]
        if report.when == "call" and (notes := item.stash.get(_UNREACHED, None)):
            report.__dict__[UNREACHED] = notes
    return report


def begin_with_message(report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
    """Let pytest's last line of a failed gate begin with the message instead of the path of the exception's class."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None or call.excinfo is None:
        return
    if isinstance(error := call.excinfo.value, (LimitExceeded, UnlearnDiffError)):
        crash.message = str(error)


def _announce(item: pytest.Item, report: pytest.TestReport) -> None:
    """Tell xdist's controller, with the first report of a worker, which gates the session has."""
    if not item.config.stash.get(_ANNOUNCED, False):
        item.config.stash[_ANNOUNCED] = True
        if gates := [other.nodeid for other in item.session.items if is_gate(other)]:
            report.__dict__[GATES] = [gates, state_of(item.config).deselected]


@pytest.hookimpl
def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    """Explain a failed comparison of a rate with the evidence of the gate it came from."""
    return explain_comparison(state_of(config).gate_of(left, right), op, left, right)
