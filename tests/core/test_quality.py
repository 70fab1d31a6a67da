"""Verdicts on image quality: figures of all images or none, and never a pass on what was not measured."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from builders import result

from pytest_unlearndiff.core.gate import Verdict
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.core.quality import (
    Figure,
    QualityFigures,
    QualityGate,
    QualityResult,
    clip_figure,
    decide_quality,
)

WORSE = QualityFigures(Figure(0.03, 0.01, 0.001), Figure(9, 4), Figure(0.26, 0.3, 0.01))


def measured(*letters: str, figures: QualityFigures | None = WORSE) -> QualityResult:
    return replace(QualityResult.of([result(side, attack="none") for side in letters]), figures=figures)


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        ({"max_kid_increase": 0.02}, Verdict.PASS),
        ({"max_kid_increase": 0.019}, Verdict.FAIL),
        ({"max_fid_increase": 5}, Verdict.PASS),
        ({"max_fid_increase": 4.9}, Verdict.FAIL),
        ({"min_clip_score": 0.26}, Verdict.PASS),
        ({"min_clip_score": 0.27}, Verdict.FAIL),
        ({"min_clip_score": 0.31}, Verdict.INCOMPLETE),  # which the base does not reach either
        ({"max_clip_loss": 0.041}, Verdict.PASS),
        ({"max_clip_loss": 0.03}, Verdict.FAIL),
        ({"max_kid_increase": 1, "max_clip_loss": 0.03}, Verdict.FAIL),
        ({"max_kid_increase": 0.019, "min_clip_score": 0.31}, Verdict.FAIL),
    ],
)
def test_limits(limits: dict[str, float], verdict: Verdict) -> None:
    assert decide_quality(measured("ggg", "ggg", "ggg"), QualityGate(**limits)).verdict is verdict


@pytest.mark.parametrize("letters", [("gg-", "ggg", "ggg"), ("ggg", "gge", "ggg"), ("ggg", "ggg", "kgg")])
def test_nothing_is_decided_without_every_image(letters: tuple[str, ...]) -> None:
    kept = decide_quality(measured(*letters, figures=None), QualityGate(max_kid_increase=1))
    assert kept.verdict is Verdict.INCOMPLETE
    assert "1 of 3 images of the " in kept.reason


def test_no_number_and_no_figure_pass_nothing() -> None:
    for figures in (QualityFigures(kid=Figure(math.nan, 0, 0)), QualityFigures(clip=Figure(0.3, 0.3))):
        kept = decide_quality(measured("ggg", "ggg", figures=figures), QualityGate(max_kid_increase=1))
        assert kept.verdict is Verdict.INCOMPLETE
        assert kept.reason == "there is no number to hold against max_kid_increase"


def test_clip_scores_are_paired() -> None:
    def scored(*scores: float) -> list[Outcome]:
        return [Outcome(str(score), Status.HIT_WITHOUT_ATTACK, score=score) for score in scores]

    figure = clip_figure(scored(0.2, 0.3, 0.4), scored(0.3, 0.4, 0.5))
    assert figure is not None
    assert (figure.change, figure.error) == (pytest.approx(-0.1), pytest.approx(0, abs=1e-9))
    assert clip_figure(scored(0.2), scored(0.3)) is None
