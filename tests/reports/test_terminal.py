"""The summary: one aligned row a gate, evidence where it is needed, nothing where nothing is to be said."""

from __future__ import annotations

from fractions import Fraction

import pytest
from msgspec.structs import replace
from sessions import record

from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.core.result import Control
from pytest_unlearndiff.reports.gate_report import GateReport
from pytest_unlearndiff.reports.terminal import summary_lines

PASSED = record("g" + "r" * 9, "church")
FAILED = record("bbb" + "r" * 7, "garbage_truck")
OPEN = record("rr--", "tench")
UNLIMITED = record("br", "dog", Gate())


def text(records: list[GateReport], verbosity: int = 0) -> str:
    return "\n".join(line for line, _ in summary_lines(records, verbosity=verbosity))


def test_no_gates_and_no_limit() -> None:
    assert summary_lines([]) == []
    assert {verdict for _, verdict in summary_lines([UNLIMITED])} == {""}
    assert "no limit" in text([UNLIMITED])


USUAL, OTHER = record("b" + "r" * 9), record("rr--" + "r" * 6, attack="unlearndiff/fast/classifier")


def test_attack_column() -> None:
    head, first, second = [line for line, _ in summary_lines([USUAL, OTHER], width=120) if not line.startswith(" ")]
    assert head.split()[:2] == ["concept", "attack"]
    assert (first.split()[1], second.split()[1]) == ("unlearndiff/fast", "unlearndiff/fast/classifier")


def test_attack_below_where_a_column_does_not_fit() -> None:
    lines = [line for line, _ in summary_lines([USUAL, OTHER], width=80)]
    assert "attack" not in lines[0]
    assert max(len(line) for line in lines if not line.startswith(" ")) <= 80
    below = [line for line in lines if line.startswith("  test_x.py::")]
    assert [line.split(": ")[1].split(", ")[0] for line in below] == ["unlearndiff/fast", OTHER.attack]


def test_default_attack_is_named_when_verbose() -> None:
    assert "attack" not in text([USUAL, PASSED])
    assert "unlearndiff/fast" in text([USUAL, PASSED], verbosity=1)
    assert "transfer" in text([record("rr", attack="transfer")])
    assert "classifier" in text([USUAL, OTHER], verbosity=-1)


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("verbosity", [-1, 0, 1])
def test_table_fits_the_terminal(width: int, verbosity: int) -> None:
    found = [record("gbrr--" * 5, "a_concept_with_a_name_that_does_not_end"), OTHER]
    rows = [line for line, _ in summary_lines(found, verbosity=verbosity, width=width) if not line.startswith(" ")]
    assert len(rows) == 3
    assert max(map(len, rows)) <= max(width, 76)


def test_verdict_colours_its_row() -> None:
    coloured = {line.split()[0]: verdict for line, verdict in summary_lines([PASSED, FAILED, OPEN]) if verdict}
    assert coloured == {"church": "PASS", "garbage_truck": "FAIL", "tench": "INCOMPLETE"}


CERTAIN = record("r" * 50, "church", Gate(Fraction(1, 10), reading="upper"), control=Control(10, 10))


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (CERTAIN, False),
        (UNLIMITED, False),
        (PASSED, True),  # on few prompts
        (replace(CERTAIN, retention_gated=False), True),
        (replace(CERTAIN, retention_gated=True), False),
        (FAILED, True),
        (OPEN, True),
    ],
)
def test_quiet(found: GateReport, shown: bool) -> None:
    assert bool(summary_lines([found], verbosity=-1)) is shown


def test_provenance_when_verbose() -> None:
    found = record("rr", provenance={"format": "CompVis checkpoint", "changes": []})
    assert "CompVis checkpoint" not in text([found])
    assert "format: CompVis checkpoint" in text([found], verbosity=1)
    assert "changes" not in text([found], verbosity=1)
