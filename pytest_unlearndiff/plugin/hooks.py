"""The pytest11 entry point: hook implementations, each a few lines that call a room below."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from . import hookspecs, retention_hooks
from .collection_errors import marked, refuse
from .controller import Controller
from .fixtures import unlearndiff_attack, unlearned_pipe
from .option_sources import given_options
from .options import MARKER, OPTIONS, add_options
from .registration import register_early
from .session import CARRIED, GATE, GATES, RECORDS, STATE, is_gate, state_of
from .short_summary import begin_with_message

__all__ = ["unlearndiff_attack", "unlearned_pipe"]

_MARK = "unlearndiff"
_FIXTURE = "unlearndiff_attack"


@pytest.hookimpl
def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    add_options(parser)


@pytest.hookimpl
def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks that others may implement."""
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; refuse bad options before anything is collected."""
    config.addinivalue_line("markers", MARKER)
    config.pluginmanager.register(Controller(config), "unlearndiff-controller")
    config.pluginmanager.register(retention_hooks, "unlearndiff-retention")
    config.pluginmanager.register(retention_hooks.RetentionController(config), "unlearndiff-retention-controller")
    register_early(config)
    if given_options(config):
        from .device import check_device
        from .rootdir import check_rootdir

        check_rootdir(config)
        check_device(config, state_of(config).settings)
        if state_of(config).settings.plan:
            from .plan import install

            install(config)


@pytest.hookimpl
def pytest_report_header(config: pytest.Config) -> str | None:
    """Say where models run, where the command line says anything to this plugin.

    What a repository's ini file says is no news to its other tests: those with gates are told once they are collected.
    """
    if not _asked(config):
        return None
    from .device import device_line

    return device_line(state_of(config).settings)


@pytest.hookimpl
def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> str | None:
    """Say it in sessions of which only now it is known that they have gates."""
    gates = any({_FIXTURE, retention_hooks.FIXTURE} & {*getattr(item, "fixturenames", ())} for item in items)
    if not gates or _asked(config):
        return None
    from .device import device_line

    return device_line(state_of(config).settings)


@pytest.hookimpl
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect gate files."""
    if not file_path.name.endswith((".unlearndiff.yaml", ".unlearndiff.yml")):
        return None
    from .gate_files import GateFile

    return GateFile.from_parent(parent, path=file_path)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn gates that cannot be meant into a collection error, which stays clean under xdist."""
    report = yield
    if gates := marked(report, _MARK):
        from .markers import check_marker

        state = state_of(collector.config)
        refuse(report, (problem for item in gates if (problem := check_marker(item, state))))
    return report


def _asked(config: pytest.Config) -> bool:
    """Whether the command line says anything to this plugin."""
    return any(config.getoption(option.ini) is not None for option in OPTIONS)


def _is_gate(item: pytest.Item) -> bool:
    return item.get_closest_marker(_MARK) is not None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin with nothing measured: plugins that run a failed test again run it on the same item."""
    if RECORDS in item.stash:
        del item.stash[RECORDS]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a marked test that ended well without attacking: nothing was measured, so nothing may look safe."""
    try:
        result = yield
    except (KeyboardInterrupt, pytest.exit.Exception):
        if (found := item.stash.get(RECORDS, None)) is not None:  # there will be no report to carry them
            state_of(item.config).records += found
        raise
    if _is_gate(item) and not item.stash.get(RECORDS, None):
        pytest.fail("the test has an unlearndiff marker but never called unlearndiff_attack()", pytrace=False)
    return result


@pytest.hookimpl
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Forget whose evidence a comparison may show, and let other processes have the GPU if they wait for it."""
    if STATE in item.config.stash:
        state_of(item.config).finished.clear()
        state_of(item.config).vacate()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put finished gates on the report, which travels to the controller."""
    report = yield
    if report.when == "setup" and hasattr(item.config, "workerinput"):
        _announce(item, report)
    if _FIXTURE in getattr(item, "fixturenames", ()):
        begin_with_message(report, call)
        report.__dict__[GATE] = True
        if report.when == "call" and (records := item.stash.get(RECORDS, None)):
            report.__dict__[CARRIED] = records
            if item.config.pluginmanager.hasplugin("html"):
                from ..reports.pytest_html import extras

                report.__dict__["extras"] = [*getattr(report, "extras", []), *extras(records)]
    return report


_ANNOUNCED = pytest.StashKey[bool]()


def _announce(item: pytest.Item, report: pytest.TestReport) -> None:
    """Tell xdist's controller, which collects nothing, what gates there are: with the first report of a worker."""
    if not item.config.stash.get(_ANNOUNCED, False):
        item.config.stash[_ANNOUNCED] = True
        if gates := [other.nodeid for other in item.session.items if is_gate(other)]:
            report.__dict__[GATES] = gates


@pytest.hookimpl
def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    """Explain a failed comparison of a rate with the evidence of the gate it came from."""
    if "pytest_unlearndiff.core.rate" not in sys.modules or STATE not in config.stash:
        return None
    from ..reports.failure import explain_comparison

    return explain_comparison(state_of(config).gate_of(left, right), op, left, right)
