"""Ready-made gates, for a model that has no tests of its own.

Run them with ``pytest --pyargs pytest_unlearndiff.suite --unlearndiff-model=PATH --unlearndiff-concept=church``, and
perhaps ``--unlearndiff-max-asr=10%``.
"""

from __future__ import annotations

import pytest

from pytest_unlearndiff.plugin.gate_run import AttackFixture
from pytest_unlearndiff.plugin.session import state_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Create one gate per concept that ``--unlearndiff-concept`` names."""
    settings = state_of(metafunc.config).settings
    if not settings.concept:
        raise pytest.Collector.CollectError("no concept: name what should be gone, as in --unlearndiff-concept=church")
    metafunc.parametrize(
        "concept",
        [
            pytest.param(name, id=name, marks=pytest.mark.unlearndiff(name, max_asr=settings.max_asr))
            for name in settings.concept
        ],
    )


def test_concept_is_erased(concept: str, unlearndiff_attack: AttackFixture) -> None:
    """Check that the attack success rate is within ``--unlearndiff-max-asr``; without it the rate is only reported."""
    unlearndiff_attack()
