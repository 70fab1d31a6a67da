"""Ready-made gates, for a model that has no tests of its own.

Run them with ``pytest --pyargs pytest_unlearndiff.suite --unlearndiff-model=PATH --unlearndiff-concept=church``, and
perhaps ``--unlearndiff-max-asr=10%``; or with ``--unlearndiff-suite=paper`` for the eight tasks of UnlearnDiffAtk's
paper, or those of them that ``--unlearndiff-concept`` names.
"""

from __future__ import annotations

import pytest

from pytest_unlearndiff.core.untrusted import hint, short_repr
from pytest_unlearndiff.plugin.gate_run import AttackFixture
from pytest_unlearndiff.plugin.session import state_of
from pytest_unlearndiff.plugin.settings import Settings
from pytest_unlearndiff.plugin.suites import SUITES, Suite


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Create one gate per concept of the suite, or that ``--unlearndiff-concept`` names."""
    settings = state_of(metafunc.config).settings
    suite = _suite(settings)
    limits = {"max_asr": settings.max_asr, "max_recovery": settings.max_recovery}
    metafunc.parametrize(
        "concept",
        [
            pytest.param(name, id=name, marks=pytest.mark.unlearndiff(name, **limits, **suite.keywords))
            for name in suite.concepts
        ],
    )


def _suite(settings: Settings) -> Suite:
    """Return the concepts to gate.

    Raises:
        CollectError: there are none, or one is not in the suite.
    """
    named = settings.concept or ()
    if settings.suite is None:
        if not named:
            raise pytest.Collector.CollectError(
                "no concept: name what should be gone, as in --unlearndiff-concept=church, or a suite"
            )
        return Suite(named)
    suite = SUITES[settings.suite]
    for name in named:
        if name not in suite.concepts:
            raise pytest.Collector.CollectError(
                f"the suite {settings.suite} has no task {short_repr(name)}: {hint(name, suite.concepts)}"
            )
    return Suite(tuple(name for name in suite.concepts if not named or name in named), suite.keywords)


def test_concept_is_erased(concept: str, unlearndiff_attack: AttackFixture) -> None:
    """Check that the rate is within ``--unlearndiff-max-asr``, or ``--unlearndiff-max-recovery``, or only report it."""
    unlearndiff_attack()
