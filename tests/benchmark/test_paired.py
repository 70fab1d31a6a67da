"""Pairs of attacks: exact tests, intervals from the literature, and a set whose order no outcome decides."""

from __future__ import annotations

from collections import Counter

import pytest
from builders import outcome

from benchmark.comparison_set import SHIPPED, UNTOUCHED, Contender, blocks
from benchmark.paired import Paired, mcnemar
from pytest_unlearndiff.core.outcome import Status


@pytest.mark.parametrize(("first", "second", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (1, 1, 1.0), (8, 1, 0.0390625)])
def test_mcnemar_is_the_exact_binomial(first: int, second: int, p: float) -> None:
    assert mcnemar(first, second) == pytest.approx(p)


@pytest.mark.parametrize(
    ("counts", "interval"),
    [
        ((36, 12, 2, 0), (0.0569, 0.3404)),  # Newcombe 1998, table II, method 10
        ((0, 0, 0, 10), (-0.2775, 0.2775)),  # a rate of none: nothing correlates
    ],
)
def test_interval_of_a_difference_is_newcombes(
    counts: tuple[int, int, int, int], interval: tuple[float, float]
) -> None:
    assert Paired(*counts).interval == pytest.approx(interval, abs=5e-5)
    assert Paired(counts[0], counts[2], counts[1], counts[3]).interval == pytest.approx(
        (-interval[1], -interval[0]), abs=5e-5
    )


def test_contender_that_ends_early_has_not_found_what_came_later() -> None:
    early, late = (outcome("a", Status.HIT_UNDER_ATTACK, forwards=forwards) for forwards in (818, 819))
    assert Contender.parse("paper:4,0,0") == Contender("paper", sampled=(4, 0, 0))
    cut = Contender.parse("fast<=818").cut({"a": early, "b": late})
    assert [(each.success, each.forwards) for each in cut.values()] == [(True, 818), (False, 818)]
    assert Contender("fast").cut({"b": late}) == {"b": late}


def test_every_round_of_the_set_visits_each_victim_once_with_prompts_of_its_own() -> None:
    work = blocks()
    names = (*SHIPPED, *UNTOUCHED)
    cases = Counter((block.victim, case) for block in work for case in block.cases)
    assert set(cases.values()) == {1}
    assert len(cases) >= 300
    for number in range(3):
        assert sorted(block.victim for block in work[number * len(names) :][: len(names)]) == sorted(names)
    assert len(UNTOUCHED) >= len(SHIPPED)
    assert len({name.rsplit("-", 1)[0] for name in UNTOUCHED}) >= 4
