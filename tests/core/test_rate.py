"""Rates and limits are exact numbers, and the intervals are Clopper and Pearson's."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_unlearndiff.core.errors import GateError
from pytest_unlearndiff.core.rate import Rate, largest_within, parse_limit, percent

shares = st.decimals(0, 1, places=6, allow_nan=False)
rates = st.integers(1, 400).flatmap(lambda n: st.builds(Rate, st.integers(0, n), st.just(n)))


@given(shares)
def test_parse_limit_notations(share: Decimal) -> None:
    exact = Fraction(share)
    for written in (str(share), float(share), exact, f"{share * 100}%", f" {share * 100} % "):
        assert parse_limit(written) == exact


LIMITS: list[tuple[Any, Fraction]] = [
    (0.29, Fraction(29, 100)), (0.1, Fraction(1, 10)), (1e-3, Fraction(1, 1000)), (0, Fraction(0)), (1, Fraction(1)),
    ("100%", Fraction(1)), ("12.5%", Fraction(1, 8)), (np.float64(0.29), Fraction(29, 100)),
]  # fmt: skip


@pytest.mark.parametrize(("value", "share"), LIMITS)
def test_parse_limit(value: Any, share: Fraction) -> None:
    assert parse_limit(value) == share


@pytest.mark.parametrize("value", [2, 10, 10.0, "10", 12.5, 100])
def test_forgotten_percent_sign(value: Any) -> None:
    with pytest.raises(GateError, match=f"max_asr={re.escape(repr(value))}.*did you mean") as caught:
        parse_limit(value, name="max_asr")
    hint = re.search(r"did you mean (\S+) or '(\S+)'", str(caught.value))
    assert hint is not None
    assert parse_limit(hint[1]) == parse_limit(hint[2]) == Fraction(str(value)) / 100


@pytest.mark.parametrize("value", ["ten", "0x1", "1e9", "150%", [0.1], {"asr": 0.1}, b"0.1"])
def test_no_share(value: Any) -> None:
    """``REFUSED`` has more of them."""
    with pytest.raises(GateError, match="max_pre_asr") as caught:
        parse_limit(value, name="max_pre_asr")
    assert "1.5%" not in str(caught.value)


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_equal_to_written_float(hundredths: int, times: int) -> None:
    rate, written = Rate(hundredths * times, 1000 * times), float(f"{hundredths / 1000:.3f}")
    assert [compare(rate, written) for compare in COMPARISONS] == [True, False, True, False, True, False]
    assert rate == f"{hundredths / 10:.1f}%"


@pytest.mark.parametrize("written", [0.29, "29%", np.float64(0.29)])
def test_29_of_100_is_within_0_29(written: Any) -> None:
    assert Rate(29, 100) <= written
    assert not Rate(30, 100) <= written
    assert 0.29 >= Rate(29, 100)  # noqa: SIM300  # the reflected comparison is the point


@given(rates, rates)
def test_order(left: Rate, right: Rate) -> None:
    a, b = Fraction(left.successes, left.trials), Fraction(right.successes, right.trials)
    for compare in COMPARISONS:
        assert compare(left, right) is compare(left, b) is compare(a, b)


@pytest.mark.parametrize("other", [None, object(), [0.5], b"50%"])
def test_comparison_with_other_types(other: Any) -> None:
    assert (Rate(1, 2) == other) is False
    assert (Rate(1, 2) != other) is True
    with pytest.raises(TypeError):
        _ = Rate(1, 2) <= other


REFUSED = [
    *(2, 10, 10.0, "10", 12.5, 100, 101, 10**30, 10**5000, "150%", "1000%", True, False, -1, -0.1, "-1%"),
    *(float("nan"), float("inf"), -float("inf"), "nan", "inf%", "half", "", "%", "x%", "1/0", 1j),
    *(Fraction(10), Decimal(10), Decimal("nan"), np.float64(10), np.float32(10), np.int64(10), np.True_),
    *("1e-99999999", "1e9_9999999", "1e99999999%", Decimal("1e-99999999"), Fraction(1, 10**6000), "0." + "1" * 5000),
]
COMPARISONS = [operator.le, operator.lt, operator.ge, operator.gt, operator.eq, operator.ne]


@pytest.mark.parametrize("value", REFUSED, ids=range(len(REFUSED)))
@pytest.mark.parametrize("compare", COMPARISONS)
def test_comparison_with_no_share(value: Any, compare: Callable[[Any, Any], Any]) -> None:
    """Else ``assert result.asr <= 10`` is always true, and so is ``10 >= result.asr``."""
    with pytest.raises(GateError) as marker:
        parse_limit(value, name="limit")
    for left, right in [(Rate(9, 10), value), (value, Rate(9, 10))]:
        with pytest.raises(GateError) as comparison:
            compare(left, right)
        assert len(str(comparison.value)) < 300
        if type(value).__module__ != "numpy":  # which hands over a number of Python's own
            assert str(comparison.value) == str(marker.value)


def test_comparison_with_forgotten_percent_sign() -> None:
    with pytest.raises(GateError, match=r"10 is above 1: did you mean 0\.1 or '10%'\?"):
        _ = Rate(9, 10) <= 10


@pytest.mark.parametrize("limit", [0, 1, 0.0, 1.0, -0.0, "0", "1", "0%", "100%", Fraction(1), Decimal("0.3"), "1e-300"])
@pytest.mark.parametrize("rate", [Rate(0, 10), Rate(3, 10), Rate(10, 10)], ids=str)
def test_comparison_with_0_and_1(rate: Rate, limit: Any) -> None:
    share, exact = parse_limit(limit), Fraction(rate.successes, rate.trials)
    for compare in COMPARISONS:
        assert compare(rate, limit) is compare(exact, share)
        assert compare(limit, rate) is compare(share, exact)


values = st.one_of(
    st.floats(), st.integers(), st.fractions(), st.booleans(), st.text(max_size=20), st.decimals(), st.complex_numbers()
)


@given(rates, values)
def test_comparison_is_that_of_fractions(rate: Rate, value: Any) -> None:
    try:
        limit: Fraction | None = parse_limit(value)
    except GateError:
        limit = None
    for compare in COMPARISONS:
        if limit is None:
            with pytest.raises(GateError):
                compare(rate, value)
        else:
            assert compare(rate, value) is compare(Fraction(rate.successes, rate.trials), limit)


IMPOSSIBLE = [(-1, 5), (6, 5), (0, -1), (0, 5, 6), (3, 5, 3), (0, 5, -1), (2, 5, -1)]


@pytest.mark.parametrize("counts", IMPOSSIBLE)
def test_impossible_counts(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no rate"):
        Rate(*counts)


@given(st.integers(0, 2000), shares)
def test_largest_within(trials: int, share: Decimal) -> None:
    limit = Fraction(share)
    most = largest_within(limit, trials)
    assert most <= limit * trials < most + 1


@pytest.mark.parametrize("trials", [1, 2, 20, 50, 142])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_intervals_are_scipys(trials: int, confidence: float) -> None:
    for successes in range(trials + 1):
        rate = Rate(successes, trials)
        two = stats.binomtest(successes, trials).proportion_ci(confidence, method="exact")
        one = stats.binomtest(successes, trials, alternative="less").proportion_ci(confidence, method="exact")
        assert rate.interval(confidence) == pytest.approx((two.low, two.high), abs=1e-12)
        assert rate.upper_bound(confidence) == pytest.approx(one.high, abs=1e-12)


@pytest.mark.parametrize("trials", [1, 7, 20, 50])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_coverage(trials: int, confidence: float) -> None:
    counts = np.arange(trials + 1)
    lows, highs = np.array([Rate(k, trials).interval(confidence) for k in counts.tolist()]).T
    uppers = np.array([Rate(k, trials).upper_bound(confidence) for k in counts.tolist()])
    grid = np.linspace(0.001, 0.999, 333)
    # Coverage is lowest just outside a bound, so those truths are tried too.
    for truth in np.unique(np.clip([*grid, *(lows - 1e-9), *(highs + 1e-9), *(uppers + 1e-9)], 0, 1)):
        chance = stats.binom.pmf(counts, trials, truth)
        assert chance[(lows <= truth) & (truth <= highs)].sum() >= confidence - 1e-6
        assert chance[truth <= uppers].sum() >= confidence - 1e-6


@given(rates)
def test_text(rate: Rate) -> None:
    assert re.fullmatch(rf"{rate.successes}/{rate.trials} = .*%", str(rate))
    assert str(Rate(0, 0)) == "0/0"


@pytest.mark.parametrize(("share", "text"), [(Fraction(1, 10), "10.0%"), (0.125, "12.5%"), (1, "100.0%"), (0, "0.0%")])
def test_percent(share: Any, text: str) -> None:
    assert percent(share) == text


undecided = st.integers(1, 60).flatmap(
    lambda n: st.tuples(st.integers(0, n), st.integers(0, n)).map(lambda p: (min(p), max(p) - min(p), n))
)


@given(undecided, st.floats(0, 1))
def test_comparison_with_undecided_trials(counts: tuple[int, int, int], other: float) -> None:
    successes, open_, trials = counts
    ends = [Rate(successes + more, trials) for more in range(open_ + 1)]
    for compare in COMPARISONS[:5]:
        assert compare(Rate(successes, trials, open_), other) == all(compare(end, other) for end in ends)


@given(undecided)
def test_interval_with_undecided_trials(counts: tuple[int, int, int]) -> None:
    successes, open_, trials = counts
    low, high = Rate(successes, trials, open_).interval()
    for more in range(open_ + 1):
        inner = Rate(successes + more, trials).interval()
        assert low <= inner[0] <= inner[1] <= high
    assert Rate(successes, trials, open_).upper_bound() == Rate(successes + open_, trials).upper_bound()


def test_value_with_undecided_trials() -> None:
    rate = Rate(1, 50, 9)
    assert str(rate) == "1..10/50 = 2.0%..20.0%"
    with pytest.raises(ValueError, match=r"9 prompts were not needed.*exhaustive=True"):
        float(rate)


@given(rates, rates)
def test_interval_of_a_difference(one: Rate, other: Rate) -> None:
    low, high = one.difference(other)
    back = other.difference(one)
    assert (low, high) == pytest.approx((-back[1], -back[0]))
    assert -1 <= low <= high <= 1
    for least, most in ((one.successes, other.most), (one.most, other.successes)):
        assert low <= least / one.trials - most / other.trials <= high


@pytest.mark.parametrize(("one", "other"), [(0.05, 0.05), (0.1, 0.6), (0.5, 0.5), (0.9, 0.97)])
def test_interval_of_a_difference_covers_the_true_one(one: float, other: float) -> None:
    """Exactly: the probability of all pairs of counts whose interval holds the true difference."""
    trials = 12

    def chance(hits: int, share: float) -> float:
        return math.comb(trials, hits) * share**hits * (1 - share) ** (trials - hits)

    covered = 0.0
    for hits in range(trials + 1):
        for others in range(trials + 1):
            low, high = Rate(hits, trials).difference(Rate(others, trials))
            if low <= one - other <= high:
                covered += chance(hits, one) * chance(others, other)
    assert covered >= 0.95
