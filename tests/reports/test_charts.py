"""Charts show what was measured: exact ends, one scale, and a band for what is undecided."""

from __future__ import annotations

from fractions import Fraction

import pytest
from msgspec.structs import replace
from sessions import record, retained

from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.core.rate import Rate
from pytest_unlearndiff.reports.charts import HEIGHT, WIDTH, Axis, efforts, pairs, scale, tick
from pytest_unlearndiff.reports.gate_report import GateReport


def costing(letters: str, *forwards: int) -> GateReport:
    plain = record(letters)
    return replace(plain, prompts=[replace(p, forwards=f) for p, f in zip(plain.prompts, forwards, strict=True)])


def test_scale() -> None:
    assert scale([]) == 0.1
    assert scale([record("r" * 100)]) == 0.1
    assert scale([record("r" * 100, gate=Gate(Fraction(3, 10)))]) == 0.5
    assert scale([record("r" * 100), record("b" * 4)]) == 1.0
    assert (tick(0.05), tick(0.5), tick(1.0)) == ("5%", "50%", "100%")


def test_axis() -> None:
    axis = Axis.of(record("gbre-", gate=Gate(Fraction(1, 10), Fraction(1, 50), reading="upper")), 0.5)
    assert (axis.least, axis.most, axis.reference, axis.limit, axis.pre_limit) == (80, 160, 40, 20, 4)
    assert axis.bound == 100  # beyond the axis: at its end
    found = Axis.of(record("b" + "r" * 99, gate=Gate(Fraction(1, 10), reading="upper")), 0.1)
    assert found.bound == pytest.approx(1000 * Rate(1, 100).upper_bound(0.95), abs=1e-3)
    assert Axis.of(record("rr", gate=Gate()), 1.0).limit is None
    kept = Axis.of(retained("ggrr", "gggr"), 1.0)
    assert (kept.least, kept.reference, kept.limit) == (50, 75, 90)
    assert Axis.of(retained("gr", None), 1.0).reference is None


def test_pairs() -> None:
    shown = [(part.name, part.count, part.start, part.width) for part in pairs(retained("gggrr", "ggrgr"))]
    assert shown == [("both", 2, 0, 40), ("lost", 1, 40, 20), ("gained", 1, 60, 20), ("neither", 1, 80, 20)]
    assert [pairs(gate) for gate in (retained("gr-", "ggg"), retained("gr", None), retained("gr", "g-"))] == [
        [],
        [],
        [],
    ]


def test_curve() -> None:
    [effort] = efforts(costing("gbr", 50, 100, 200))
    assert (effort.unit, effort.most, effort.end, effort.band) == ("network forwards", 200, 1.0, "")
    points = [tuple(map(float, point.split(","))) for point in effort.path[1:].split(" L")]
    assert points[0] == (0, HEIGHT)
    assert points[-1] == (WIDTH, pytest.approx(HEIGHT / 3, abs=0.01))
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
    assert (WIDTH / 4, pytest.approx(HEIGHT * 2 / 3, abs=0.01)) in points
    low, high = Rate(2, 3).interval(0.95)
    for bound in (low, high):
        assert f" L{WIDTH},{HEIGHT * (1 - bound):.2f}".rstrip("0") in effort.interval


def test_band_of_unknown_prompts_and_no_curve_of_equal_costs() -> None:
    [effort] = efforts(costing("gb-", 50, 100, 0))
    assert effort.band.endswith("Z")
    for gate in (costing("ggg", 50, 50, 50), record("---"), costing("gb-", 50, 50, 0)):
        assert efforts(gate) == []


def test_curve_over_steps() -> None:
    spent = costing("gbrr", 50, 100, 200, 200)
    steps = [replace(prompt, steps=n) for prompt, n in zip(spent.prompts, (0, 4, 10, 10), strict=True)]
    forwards, effort = efforts(replace(spent, prompts=steps))
    assert (forwards.unit, effort.unit, effort.most) == ("network forwards", "steps of the search", 10)
    x, y, half = f"{WIDTH * 4 / 10:g}", f"{HEIGHT * 3 / 4:g}", f"{HEIGHT / 2:g}"
    assert effort.path.endswith(f" L0,{y} L{x},{y} L{x},{half} L{WIDTH},{half}")
