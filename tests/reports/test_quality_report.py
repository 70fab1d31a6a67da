"""Reports on image quality: what crosses processes, and what people read."""

from __future__ import annotations

from sessions import quality

from pytest_unlearndiff.reports.quality_report import COLUMNS, quality_from_builtins
from pytest_unlearndiff.reports.terminal import quality_lines


def test_report_crosses_processes() -> None:
    gate = quality()
    assert quality_from_builtins([gate.to_builtins()]) == [gate]


def test_table_and_the_captions_that_lost_most() -> None:
    lines = [line for line, _ in quality_lines([quality()])]
    assert len(quality().cells) == len(COLUMNS)
    assert lines[1].split() == ["coco", "4", "+0.029", "-", "0.270", "(-0.030)", "FAIL"]
    assert "  KID 0.03, the base's 0.001: +0.029, +0.0094..+0.0486 at 95.0%" in lines
    assert "  caption 103 lost 0.060: a church, number 3" in lines
    assert quality_lines([quality(verdict="PASS")], verbosity=-1) == []
    assert not [line for line, _ in quality_lines([quality(verdict="PASS")]) if "lost" in line]
