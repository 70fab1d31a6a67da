"""The pytest11 entry point, and all of the plugin that a session without gates ever imports.

It declares options, markers, fixtures and hooks. The first gate that is collected, or an option that needs it,
activates the package behind it: ``gate_hooks`` is imported, and its hook implementations join the session.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from . import hookspecs
from .options import GATES, MARKERS, OPTIONS, RUN, RUNS_TESTS, add_options, is_gate, is_marked

if TYPE_CHECKING:
    from types import ModuleType

    from .gate_run import AttackFixture, RetentionFixture
    from .quality_run import QualityFixture

_ACTIVE = "unlearndiff-gates"
_SUITE = Path(__file__).resolve().parent.parent / "suite.py"
_FLAGS = frozenset(option.flag for option in OPTIONS)


def activate(config: pytest.Config) -> ModuleType:
    """Import the package behind this module and let its hooks join the session, once.

    Returns:
        The module ``gate_hooks``.
    """
    from . import gate_hooks

    if not config.pluginmanager.hasplugin(_ACTIVE):
        config.pluginmanager.register(gate_hooks, _ACTIVE)
        gate_hooks.join(config)
    return gate_hooks


@pytest.hookimpl
def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    add_options(parser)


@pytest.hookimpl
def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks that others may implement."""
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl
def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> None:
    """Refuse mistyped options here: pytest, which comes next, would suggest none."""
    if any(argument.startswith("--unlearndiff") and argument.partition("=")[0] not in _FLAGS for argument in args):
        _settings().check_flags(parser, args)


def ini_names(config: pytest.Config) -> list[str]:
    """List the options that the session's ini file holds, which newer pytests have no public way to."""
    return list(config._inicfg if hasattr(config, "_inicfg") else config.inicfg)


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers; refuse bad options before anything is collected."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    names = [name for name in ini_names(config) if name.startswith("unlearndiff")]
    asked = names or _asked(config) or any(config.getini(option.ini) not in (None, "") for option in OPTIONS)
    if (asked or config.hook.pytest_unlearndiff_register.get_hookimpls()) and _settings().check_session(config, names):
        activate(config)


def _settings() -> ModuleType:
    """Import the module that reads options."""
    from . import settings

    return settings


def _asked(config: pytest.Config) -> bool:
    """Tell whether the command line has an option of this plugin."""
    return any(config.getoption(option.ini) is not None for option in OPTIONS)


@pytest.hookimpl
def pytest_report_header(config: pytest.Config) -> str | None:
    """Say where models run, where the command line says anything to this plugin.

    An ini file's options are no news to the repository's other tests: sessions with gates are told after collection.
    """
    return _device_line(config) if _asked(config) else None


@pytest.hookimpl
def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> str | None:
    """Say where models run in sessions that are only now known to have gates."""
    return None if _asked(config) or not any(map(is_gate, items)) else _device_line(config)


def _device_line(config: pytest.Config) -> str:
    return str(_settings().device_line(config))


@pytest.hookimpl
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Give the ready-made gates node ids that begin with their module's name, wherever that is installed."""
    if module_path.name != _SUITE.name or module_path != _SUITE:
        return None
    module: pytest.Module = pytest.Module.from_parent(parent, path=module_path, nodeid="pytest_unlearndiff/suite.py")
    return module


@pytest.hookimpl
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect gate files."""
    if not file_path.name.endswith((".unlearndiff.yaml", ".unlearndiff.yml")):
        return None
    collector: pytest.Collector = activate(parent.config).gate_file(file_path, parent)
    return collector


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn malformed gates into a collection error, which stays clean under xdist."""
    report = yield
    if report.passed and any(is_gate(node) or is_marked(node) for node in report.result):
        activate(collector.config).check_gates(report, collector.config)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Note that this session runs tests."""
    session.config.stash[RUNS_TESTS] = True


@pytest.hookimpl(tryfirst=True)
def pytest_report_from_serializable(config: pytest.Config, data: dict[str, Any]) -> None:
    """Note the gates that a worker of xdist announces: the controller collects nothing itself."""
    if gates := data.get(GATES):
        activate(config).note_gates(config, gates)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Remember the name that xdist gives to the session."""
    node.config.stash[RUN] = node.workerinput["testrunuid"]


@pytest.fixture(scope="session")
def unlearned_pipe(pytestconfig: pytest.Config) -> Any:
    """The pipeline under test, loaded from --unlearndiff-model.

    Override it in a conftest to test any ``StableDiffusionPipeline`` or ``StableDiffusionXLPipeline`` of your own; its
    weights are then fingerprinted from memory. Where hooks or other code of yours act as it draws, return it as
    ``pytest_unlearndiff.VersionedPipeline(pipe, version)``, so that outcomes may be kept.
    """
    return activate(pytestconfig).load_pipeline(pytestconfig)


@pytest.fixture
def unlearndiff_attack(request: pytest.FixtureRequest) -> AttackFixture:
    """Attack the model under test: ``unlearndiff_attack("church", max_asr="10%")``.

    Called without arguments it runs the test's ``unlearndiff`` marker. Returns an ``AttackResult``; raises
    ``ASRExceeded`` where a limit is exceeded, ``RecoveryExceeded`` where that is of an attack that leaves text, and
    ``AttackIncomplete`` where prompts are missing and the verdict is not decided without them.
    """
    fixture: AttackFixture = activate(request.config).AttackFixture(request)
    return fixture


@pytest.fixture
def unlearndiff_retention(request: pytest.FixtureRequest) -> RetentionFixture:
    """Check that the model still draws what it should: ``unlearndiff_retention("dog", min_rate="85%")``.

    Called without arguments it runs every ``unlearndiff_retains`` marker of the test. Un-attacked prompts of the
    concept are drawn by the model under test and by its base with the same seeds, and judged by the concept's own
    judge. Returns a ``Retention``, or a list of them without arguments; raises ``RetentionLost`` where a limit is not
    kept.
    """
    fixture: RetentionFixture = activate(request.config).RetentionFixture(request)
    return fixture


@pytest.fixture
def unlearndiff_quality(request: pytest.FixtureRequest) -> QualityFixture:
    """Check the quality of images: ``unlearndiff_quality("captions.csv", features=MODEL, max_kid_increase=0.01)``.

    Called without arguments it runs every ``unlearndiff_quality`` marker of the test. Captions are drawn by the model
    under test and by its base with the same seeds, measured, and compared. Returns a ``QualityResult``, or a list of
    them without arguments; raises ``QualityLost`` where a limit is not kept.
    """
    fixture: QualityFixture = activate(request.config).QualityFixture(request)
    return fixture
