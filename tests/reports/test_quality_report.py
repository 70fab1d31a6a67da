"""Reports on image quality: what crosses processes, and what people read."""

from __future__ import annotations

import math
from dataclasses import replace

from builders import result
from sessions import quality

from pytest_unlearndiff.core.quality import Figure, QualityFigures, QualityGate, QualityResult
from pytest_unlearndiff.reports.quality_report import COLUMNS, QualityReport, quality_from_builtins
from pytest_unlearndiff.reports.terminal import quality_lines


def test_report_crosses_processes() -> None:
    gate = quality()
    assert quality_from_builtins([gate.to_builtins()]) == [gate]


def test_what_is_no_number_is_no_figure() -> None:
    sides = [result("ggg", attack="none") for _ in range(2)]
    measured = replace(QualityResult.of(sides), figures=QualityFigures(kid=Figure(math.nan, 0, 1)))
    gate = QualityReport.of(measured, QualityGate(max_kid_increase=1), "test_x.py::test_it", captions="coco")
    assert (gate.kid, gate.verdict) == (None, "INCOMPLETE")


def test_table_and_the_captions_that_lost_most() -> None:
    lines = [line for line, _ in quality_lines([quality()])]
    assert len(quality().cells) == len(COLUMNS)
    assert lines[1].split() == ["coco", "4", "+0.029", "-", "0.270", "(-0.030)", "FAIL"]
    assert "  KID 0.03, the base's 0.001: +0.029, +0.0094..+0.0486 at 95.0%" in lines
    assert "  caption 103 lost 0.060: a church, number 3" in lines
    assert quality_lines([quality(verdict="PASS")], verbosity=-1) == []
    assert not [line for line, _ in quality_lines([quality(verdict="PASS")]) if "lost" in line]
