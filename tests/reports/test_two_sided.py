"""Unlearning beside retention, in UnlearnCanvas' words."""

from __future__ import annotations

from msgspec.structs import replace
from sessions import record, retained, session

from pytest_unlearndiff.reports.gate_report import GateReport
from pytest_unlearndiff.reports.two_sided import two_sided_lines


def judged(gate: GateReport, weights: str) -> GateReport:
    return replace(gate, fingerprint="ab", campaign={"judge": {"weights": weights}})


def test_both_sides_of_a_model_by_domain() -> None:
    gone = judged(record("gb" + "r" * 8, "church"), "objects")
    gates = [
        gone,
        judged(retained("g" * 9 + "r", "g" * 10, "dog"), "objects"),
        judged(retained("g" * 7 + "r-k", "g" * 10, "cat"), "objects"),
        judged(retained("g" * 4, "g" * 4, "style"), "styles"),
    ]
    (line,) = two_sided_lines(session(*gates))
    _, sides = line.split(": ", 1)
    assert sides.split("; ") == [
        "unlearning accuracy 9/10 = 90.0%, under unlearndiff/fast 8/10 = 80.0%",
        "in-domain retention 16..17/20 = 80.0%..85.0% (2 concepts)",
        "cross-domain retention 4/4 = 100.0% (1 concept)",
    ]


def test_nothing_without_both_sides() -> None:
    other = replace(judged(retained(), "objects"), fingerprint="cd")
    assert two_sided_lines(session(judged(record("rr"), "objects"), other)) == []
