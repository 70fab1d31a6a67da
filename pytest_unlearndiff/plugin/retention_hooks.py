"""Hook implementations of retention gates, beside those of attack gates."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from ..reports.retention import RetentionReport, retention_lines
from .names import RETENTION_FIXTURE as FIXTURE
from .names import RETENTION_MARK as MARK
from .session import GATE, RECORDS, RERUN, RETAINED, STATE, expected_failure, state_of

CARRIED = "unlearndiff_retained"
LEFT_OUT = "unlearndiff_unreached"
UNREACHED = pytest.StashKey[list[str]]()

_COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow", "INCOMPLETE": "yellow"}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin with nothing measured, as for attack gates."""
    if RETAINED in item.stash:
        del item.stash[RETAINED]
    if UNREACHED in item.stash:
        del item.stash[UNREACHED]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a marked test that ended well without looking: nothing was measured, so nothing may look safe.

    One that another gate of the same test failed says which gates it did not get to.
    """
    try:
        result = yield
    except (KeyboardInterrupt, pytest.exit.Exception):
        if (found := item.stash.get(RETAINED, None)) is not None:  # there will be no report to carry them
            state_of(item.config).retained += found
        raise
    except (Exception, pytest.fail.Exception) as error:
        for said in _unreached(item):
            error.add_note(said)
            item.stash.setdefault(UNREACHED, []).append(said)
        raise
    if lacking := _lacking(item):
        pytest.fail(f"the test has an {MARK} marker but never called {FIXTURE}() for {lacking[0]}", pytrace=False)
    return result


def _lacking(item: pytest.Item) -> list[str]:
    """Concepts of retention markers of which nothing is known."""
    held = {record["concept"] for record in item.stash.get(RETAINED, [])}
    wanted = {(mark.args or (mark.kwargs.get("concept"),))[0] for mark in item.iter_markers(MARK)}
    return sorted(map(str, wanted - held))


def _unreached(item: pytest.Item) -> list[str]:
    """What to say of gates that were not reached because of one before them."""
    said = "was not reached: nothing is known of it"
    attacked, retained = item.stash.get(RECORDS, None), item.stash.get(RETAINED, None)
    found = [f"{MARK}({concept!r}) {said}" for concept in _lacking(item)] if attacked else []
    mark = item.get_closest_marker("unlearndiff")
    if retained and not attacked and mark is not None:
        found.append(f"unlearndiff({(mark.args or (mark.kwargs.get('concept'),))[0]!r}) {said}")
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put finished gates on the report, which travels to the controller."""
    report = yield
    if FIXTURE in getattr(item, "fixturenames", ()):
        report.__dict__[GATE] = True
        if report.when == "call" and (records := item.stash.get(RETAINED, None)):
            report.__dict__[CARRIED] = records
        if report.when == "call" and (said := item.stash.get(UNREACHED, None)):
            report.__dict__[LEFT_OUT] = said
    return report


class RetentionController:
    """Gathers finished retention gates and sums them up at the end of the session.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a finished test's report carries."""
        if report.outcome == RERUN:
            return
        if records := getattr(report, CARRIED, None):
            for record in records:
                record["expected"] = expected_failure(report)
            state_of(self._config).retained += records
        if said := getattr(report, LEFT_OUT, None):
            state_of(self._config).unreached += [(report.nodeid, text) for text in said]

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One section, only where a retention gate ran."""
        if hasattr(self._config, "workerinput") or STATE not in self._config.stash:
            return
        if not (found := state_of(self._config).retained):
            return
        records = [RetentionReport.from_wire(data) for data in found]
        if lines := retention_lines(records, verbosity=self._config.get_verbosity()):
            terminalreporter.section("unlearndiff retention")
            for text, verdict in lines:
                terminalreporter.line(text, **({_COLOURS[verdict]: True} if verdict else {}))
