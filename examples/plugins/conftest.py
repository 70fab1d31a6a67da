"""Registers the rows of this folder's modules, each of which holds one implementation."""

from __future__ import annotations

import pytest

from pytest_unlearndiff import AttackInfo, JudgeInfo


def pytest_unlearndiff_register(config: pytest.Config) -> list[AttackInfo | JudgeInfo]:
    """Register an attack, for gates that say ``attack="echo"``, and a judge, for ``judge: {kind: red}``."""
    return [
        AttackInfo("echo", "echo_attack:EchoAttack", version="1", uses_slots=False, uses_word=False),
        JudgeInfo("red", "red_judge:RedJudge", version="1", optional={"threshold": float}),
    ]
