"""Texts of errors: one bounded line."""

from __future__ import annotations

from pytest_unlearndiff.core.errors import one_line


def test_text_of_an_exception_is_one_line_of_300_characters() -> None:
    assert one_line(ValueError("first\n  second\x1b[31m")) == r"first second\x1b[31m"
    assert one_line(ValueError("x" * 300)) == "x" * 300
    assert len(one_line(ValueError("x" * 301))) == 300
