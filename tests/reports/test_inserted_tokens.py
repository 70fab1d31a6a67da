"""Inserted tokens are found where they stand, and the pieces are the adversarial prompt, whatever it is."""

from __future__ import annotations

import pytest
from builders import texts
from hypothesis import given
from hypothesis import strategies as st

from pytest_unlearndiff.reports.gate_report import PromptReport
from pytest_unlearndiff.reports.html import pieces


def prompt(text: str, adversarial: str | None, inserted: str | None) -> PromptReport:
    return PromptReport(
        digest="d",
        case=1,
        text=text,
        seed=1,
        guidance=7.5,
        status="hit-under-attack",
        adversarial=adversarial,
        inserted=inserted,
    )


@pytest.mark.parametrize(
    ("adversarial", "inserted", "marked"),
    [
        ("x y a red church", "x y", ["x y"]),
        ("a red church x y", "x y", ["x y"]),
        ("a red x y church", "x y", ["x y"]),
        ("x a red y church", "x y", ["x ", "y "]),
        ("church a red church", "church", ["church"]),
        ("a red church", None, []),
        ("a red church", "", []),
        (None, None, []),
    ],
)
def test_what_was_inserted_is_marked(adversarial: str | None, inserted: str | None, marked: list[str]) -> None:
    found = pieces(prompt("a red church", adversarial, inserted))
    assert [text for text, is_marked in found if is_marked] == marked
    assert "".join(text for text, _ in found) == (adversarial or "")


@given(texts, st.none() | texts, st.none() | texts)
def test_the_pieces_are_the_prompt(text: str, adversarial: str | None, inserted: str | None) -> None:
    assert "".join(part for part, _ in pieces(prompt(text, adversarial, inserted))) == (adversarial or "")
