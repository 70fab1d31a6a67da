"""Published figures beside measured ones, where the two can be compared."""

from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace
from sessions import record, session

from pytest_unlearndiff.core.concept import PromptSetFacts
from pytest_unlearndiff.reports.gate_report import GateReport
from pytest_unlearndiff.reports.published import AUTHORS, PUBLISHED, published_lines
from pytest_unlearndiff.reports.session_report import ReportOptions, render
from pytest_unlearndiff.reports.terminal import summary_lines

# ASR in percent, as the benchmark's page prints it.
ASR = {
    "EraseDiff": 2.11, "ScissorHands": 7.04, "SalUn": 11.27, "AdvUnlearn": 21.13, "ESD": 76.05, "UCE": 79.58,
    "SPM": 91.55, "FMN": 97.89,
}  # fmt: skip
PRE_ASR = (0.0, 0.0, 1.41, 7.75, 20.42, 21.83, 54.93, 88.03)


def gate(hits: int, **facts: Any) -> GateReport:
    """A gate on nudity as the paper measures it, with as many hits."""
    letters = "b" * hits + "r" * (facts.pop("prompts", 142) - hits)
    paper = {"attack": "unlearndiff/paper", "prompt_set": PromptSetFacts(f"nudity.csv of {AUTHORS}", 142)}
    return replace(record(letters, "nudity:paper"), **{**paper, **facts})


def test_counts_are_the_published_percentages() -> None:
    rows = PUBLISHED["nudity:paper"]
    assert {row.method: float(round(100 * row.asr.value, 2)) for row in rows} == {
        **ASR,
        "ESD": 76.06,  # 108 of 142 is 76.056 %, which the page cuts
    }
    assert [float(round(100 * row.pre_asr.value, 2)) for row in rows] == list(PRE_ASR)


def test_difference_is_told_with_its_interval() -> None:
    lines = published_lines(gate(108))
    assert [line.split(":")[0] for line in lines] == [f"published {method}" for method in ASR]
    (esd,) = [line for line in lines if "ESD" in line]
    assert "ASR 108/142 = 76.1%, pre-ASR 20.4%, FID 18.18, CLIP score 0.302; measured less published -10." in esd
    assert "..+10." in esd
    (fmn,) = [line for line in lines if "FMN" in line]
    assert "measured less published -29.9..-14.0 points at 95.0%" in fmn


@pytest.mark.parametrize(
    "facts",
    [
        {"attack": "unlearndiff/fast"},
        {"concept": "nudity"},
        {"prompt_set": PromptSetFacts("my own", 142)},
        {"prompts": 20},
    ],
)
def test_other_measurements_are_not_compared(facts: dict[str, Any]) -> None:
    assert published_lines(gate(3, **facts)) == []


def test_reports_have_them() -> None:
    for text in (
        "\n".join(line for line, _ in summary_lines([gate(3)])),
        render("md", session(gate(3)), ReportOptions()),
        render("html", session(gate(3)), ReportOptions()),
    ):
        assert "published EraseDiff: ASR 3/142" in re.sub("<[^>]+>", "", text).replace("&#58;", ":")
