"""Registers the rows of this folder's modules, each of which holds one implementation."""

from __future__ import annotations

import pytest

from pytest_unlearndiff import AttackInfo, JudgeInfo, ReportInfo


def pytest_unlearndiff_register(config: pytest.Config) -> list[AttackInfo | JudgeInfo | ReportInfo]:
    """Register an attack (``attack="echo"``), a judge (``judge: {kind: red}``) and a report (``csv:gates.csv``)."""
    return [
        AttackInfo("echo", "echo_attack:EchoAttack", version="1", uses_slots=False, uses_word=False),
        JudgeInfo("red", "red_judge:RedJudge", version="1", optional={"threshold": float}),
        ReportInfo("csv", "csv_report:csv_report", version="1"),
    ]
