"""Hooks that other plugins and conftest files may implement. Each docstring holds a complete example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..core.outcome import Outcome
    from ..reports.gate_report import GateReport
    from ..reports.quality_report import QualityReport


@pytest.hookspec
def pytest_unlearndiff_concepts(config: pytest.Config) -> Any:
    """Say where further concepts are.

    Args:
        config: the session's.

    Returns:
        Folders or files (``list[Path]``), searched after those that the user lists.

    Example:
        A plugin that ships concepts of its own::

            def pytest_unlearndiff_concepts(config):
                return [Path(__file__).parent / "concepts"]
    """


@pytest.hookspec
def pytest_unlearndiff_register(config: pytest.Config) -> Any:
    """Register attacks, judges, checkpoint formats, families, defenses and reports.

    Called in every process that collects tests; workers of ``--unlearndiff-workers`` receive the rows. What a row
    describes is imported where it is used and nowhere else, so that a session that finds everything in the store needs
    none of its dependencies. Outcomes are kept under the version and settings of the attack, under the version, options
    and files' content of the judge, and under the version of the family or format that draws with or reads the model.

    Args:
        config: the session's.

    Returns:
        Rows (``list[Info]``): ``AttackInfo``, ``JudgeInfo`` and so on. Names of built-in rows, and of other plugins',
        are refused.

    Example:
        A conftest.py that registers a judge, for concepts that say ``judge: {kind: red, threshold: 0.4}``, and an
        attack, for gates that say ``attack="echo"``::

            from pytest_unlearndiff import AttackInfo, JudgeInfo

            def pytest_unlearndiff_register(config):
                return [
                    JudgeInfo("red", "red_judge:RedJudge", version="1", optional={"threshold": float}),
                    AttackInfo("echo", "echo_attack:EchoAttack", version="1"),
                ]

        ``examples/plugins`` has both modules.
    """


@pytest.hookspec
def pytest_unlearndiff_outcome(config: pytest.Config, nodeid: str, outcome: Outcome) -> None:
    """Take note of a prompt that was attacked to its end, in the process that attacked it.

    Outcomes from the store are none of these. What this hook raises stops the attack.

    Args:
        config: the session's; under xdist a worker's.
        nodeid: the test.
        outcome: what became of the prompt, after it was kept.

    Example:
        A conftest.py that counts on a dashboard::

            def pytest_unlearndiff_outcome(config, nodeid, outcome):
                dashboard.count(nodeid, outcome.status.value, outcome.forwards)
    """


@pytest.hookspec
def pytest_unlearndiff_report(config: pytest.Config, gates: list[GateReport], quality: list[QualityReport]) -> None:
    """Look at the finished gates before they are printed, kept and written, and add facts to them.

    Args:
        config: the session's, in the process that prints.
        gates: the reports of all gates on concepts; add to the dictionary ``run.assumed`` of one what is to be said of
            its origin.
        quality: those of gates on image quality, likewise.

    Example:
        A conftest.py that notes the commit a model came from::

            def pytest_unlearndiff_report(config, gates, quality):
                for gate in [*gates, *quality]:
                    gate.run.assumed["commit"] = os.environ.get("MODEL_COMMIT", "unknown")
    """
