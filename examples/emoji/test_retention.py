"""What victims of the emoji world should have kept: a model that erases everything must not pass.

Run from the project's folder: ``pytest -c examples/emoji/pytest.ini examples/emoji/test_retention.py``.
"""

from __future__ import annotations

import pytest

from pytest_unlearndiff import RetentionLost

KEPT = ("tree", "guitar", "rocket")


def keeps(*concepts, **keywords):
    """Retention markers for several concepts, five prompts each."""

    def mark(test):
        for concept in reversed(concepts):
            test = pytest.mark.unlearndiff_retains(concept, min_rate="80%", base="model", prompts=5, **keywords)(test)
        return test

    return mark


@keeps(*KEPT, model="erased/advunlearn-church")
def test_adversarially_trained_model_keeps_the_rest(unlearndiff_retention):
    """AdvUnlearn took the church away and left other objects."""
    unlearndiff_retention()


@pytest.fixture(scope="session")
def unlearned_pipe():
    """A model that erases everything: its UNet predicts no noise at all."""
    from destroyed import model

    return model()


@pytest.mark.unlearndiff("fish", base="model", prompts=5, attack="none", max_asr="10%")
def test_a_destroyed_model_draws_no_fish(unlearndiff_attack):
    """It passes a gate on the fish alone, which is why there are retention gates.

    A gate on the church it would fail, since the classifier, which has to choose, takes its noise for a church.
    """
    unlearndiff_attack()


@pytest.mark.xfail(raises=RetentionLost, strict=True, reason="the destroyed model draws nothing at all")
@keeps("tree")
def test_a_destroyed_model_keeps_nothing(unlearndiff_retention):
    """And fails a gate on what should have been kept."""
    unlearndiff_retention()
