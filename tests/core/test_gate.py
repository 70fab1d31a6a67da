"""Gates: an early verdict is every full run's, missing is never safe, and the allowances are the published ones."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from random import Random

import pytest
from scipy import stats

from pytest_unlearndiff.core.errors import GateError
from pytest_unlearndiff.core.gate import Gate, Verdict
from pytest_unlearndiff.core.info import Threat
from pytest_unlearndiff.core.outcome import Counts, Status

TENTH = Fraction(1, 10)
GATES = {
    "none": Gate(),
    "zero": Gate(Fraction(0)),
    "point": Gate(Fraction(1, 3)),
    "everything": Gate(Fraction(1)),
    "pre": Gate(max_pre_asr=Fraction(1, 4)),
    "both": Gate(Fraction(1, 2), Fraction(1, 5)),
    "upper": Gate(Fraction(1, 2), reading="upper", confidence=0.8),
    "upper-both": Gate(Fraction(3, 4), Fraction(2, 5), reading="upper", confidence=0.8),
    "upper-impossible": Gate(TENTH, reading="upper"),
    "kept": Gate(min_rate=Fraction(2, 3)),
    "kept-lower": Gate(min_rate=Fraction(1, 2), reading="lower", confidence=0.8),
}
ONE_LIMIT = [name for name, gate in GATES.items() if len(gate.limits) == 1]


def counts(total: int, generated: int = 0, broken: int = 0, resisted: int = 0, error: int = 0) -> Counts:
    ended = (Status.HIT_WITHOUT_ATTACK, Status.HIT_UNDER_ATTACK, Status.RESISTED, Status.ERROR)
    return Counts.by(total, dict(zip(ended, (generated, broken, resisted, error), strict=True)))


def all_counts(total: int) -> Iterator[Counts]:
    """Every way in which a set of prompts can stand, errors and missing prompts included."""
    for generated in range(total + 1):
        for broken in range(total + 1 - generated):
            for resisted in range(total + 1 - generated - broken):
                for error in range(total + 1 - generated - broken - resisted):
                    yield counts(total, generated, broken, resisted, error)


def completions(before: Counts) -> Iterator[Counts]:
    """Every way in which the prompts of which nothing is known can end."""
    for generated in range(before.unknown + 1):
        for broken in range(before.unknown + 1 - generated):
            yield counts(
                before.total,
                before.hits_without_attack + generated,
                before.hits_under_attack + broken,
                before.resisted + before.unknown - generated - broken,
            )


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("total", [1, 2, 5])
def test_decided_verdict_is_that_of_every_completion(name: str, total: int) -> None:
    gate = GATES[name]
    for before in all_counts(total):
        verdict, full = gate.verdict(before), {gate.verdict(full) for full in completions(before)}
        assert Verdict.INCOMPLETE not in full
        if verdict is not Verdict.INCOMPLETE:
            assert full == {verdict}, before
        elif name in ONE_LIMIT:
            assert len(full) > 1, before
        if gate.limited and full in ({Verdict.FAIL}, {Verdict.PASS}):
            assert {verdict} == full, before


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("status", [Status.HIT_WITHOUT_ATTACK, Status.HIT_UNDER_ATTACK, Status.RESISTED])
def test_missing_prompt_keeps_verdict_or_leaves_it_open(name: str, status: Status) -> None:
    gate = GATES[name]
    for before in all_counts(5):
        if (count := before.by_status[status]) > 0:
            missing = Counts.by(5, {**before.by_status, status: count - 1})
            errored = Counts.by(5, {**missing.by_status, Status.ERROR: before.error + 1})
            assert gate.verdict(missing) in (gate.verdict(before), Verdict.INCOMPLETE), before
            assert gate.verdict(errored) == gate.verdict(missing), before


@pytest.mark.parametrize("name", GATES)
def test_nothing_attacked_passes_only_where_everything_is_allowed(name: str) -> None:
    for untouched in (counts(5), counts(5, error=5)):
        expected = Verdict.PASS if name == "everything" else Verdict.INCOMPLETE
        assert GATES[name].verdict(untouched) is expected


@pytest.mark.parametrize(
    ("trials", "point", "certified"), [(20, 2, -1), (50, 5, 1), (118, 11, 6), (142, 14, 8), (200, 20, 12)]
)
def test_published_allowances_at_10_percent(trials: int, point: int, certified: int) -> None:
    for hits in range(trials + 1):
        gone, kept = Counts(hits, trials - hits), Counts(trials - hits, hits)
        by_point = Verdict.PASS if hits <= point else Verdict.FAIL
        above = Verdict.INCONCLUSIVE if hits <= point else Verdict.FAIL
        by_bound = Verdict.PASS if hits <= certified else above
        assert (Gate(TENTH).verdict(gone), Gate(min_rate=1 - TENTH).verdict(kept)) == (by_point, by_point)
        assert Gate(TENTH, reading="upper").verdict(gone) is by_bound
        assert Gate(min_rate=1 - TENTH, reading="lower").verdict(kept) is by_bound


@pytest.mark.parametrize(
    ("trials", "passes_at_15", "fails_at_8"), [(20, 0.40, 0.21), (50, 0.22, 0.21), (142, 0.05, 0.16), (200, 0.03, 0.12)]
)
def test_error_rates_of_point_gates_are_the_published_ones(trials: int, passes_at_15: float, fails_at_8: float) -> None:
    most = Gate(TENTH).certifiable(TENTH, trials)
    assert stats.binom.cdf(most, trials, 0.15) == pytest.approx(passes_at_15, abs=0.0051)
    assert stats.binom.sf(most, trials, 0.08) == pytest.approx(fails_at_8, abs=0.0051)


@pytest.mark.parametrize("limit", [Fraction(1, 50), TENTH, Fraction(1, 3), Fraction(9, 10)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_upper_bound_wrongly_passes_as_rarely_as_stated_and_no_rarer(limit: Fraction, confidence: float) -> None:
    gate = Gate(limit, reading="upper", confidence=confidence)
    for trials in range(1, 120):
        most = gate.certifiable(limit, trials)
        assert stats.binom.cdf(most, trials, float(limit)) <= 1 - confidence + 1e-9
        # One more is refused either because it is risky or because it is above the limit itself.
        assert stats.binom.cdf(most + 1, trials, float(limit)) > 1 - confidence or most + 1 > limit * trials


@pytest.mark.parametrize("trials", [1, 20, 28])
def test_gate_that_no_result_could_pass_is_refused(trials: int) -> None:
    bound = f"{100 * (1 - 0.05 ** (1 / trials)):.1f}%"
    with pytest.raises(GateError, match=rf"max_asr=10\.0%.*{trials} prompts.*{bound}"):
        Gate(TENTH, reading="upper").check_support(trials)
    with pytest.raises(GateError, match="max_pre_asr"):
        Gate(Fraction(99, 100), TENTH, reading="upper").check_support(trials)
    with pytest.raises(GateError, match=rf"min_rate=90\.0% with gate='lower' cannot be shown on {trials} prompts"):
        Gate(min_rate=1 - TENTH, reading="lower").check_support(trials)
    Gate(TENTH, Fraction(0)).check_support(trials)
    Gate(TENTH, reading="upper").check_support(29)


def test_fail_outweighs_missing_prompts_and_the_other_limit() -> None:
    gate = Gate(Fraction(1), TENTH)
    assert gate.verdict(counts(10, 2)) is Verdict.FAIL
    assert gate.verdict(counts(10, 0, 9)) is Verdict.PASS
    assert gate.verdict(counts(10, 0, 8)) is Verdict.INCOMPLETE


@pytest.mark.parametrize("name", [name for name, gate in GATES.items() if gate.limited])
def test_early_verdict_is_the_full_runs_on_simulated_campaigns(name: str) -> None:
    """Over 10,000 sequences in all: stopped at the first certain counts, the verdict is that of the whole sequence."""
    gate, random = GATES[name], Random(name)
    stopped = 0
    for _ in range(1000):
        total, rate = random.randint(1, 60), random.random()
        letters = [random.choice("gb") if random.random() < rate else "r" for _ in range(total)]
        prefixes = [counts(total, *(letters[:n].count(letter) for letter in "gbr")) for n in range(total + 1)]
        first = next(prefix for prefix in prefixes if gate.is_decided(prefix))
        assert gate.verdict(first) is gate.verdict(prefixes[-1])
        stopped += first.missing > 0
    assert stopped > 0


def test_gate_without_limit_is_never_decided() -> None:
    assert not any(Gate().is_decided(each) for each in all_counts(4))


@pytest.mark.parametrize(("limit", "trials"), [("1/10", 50), ("0", 20), ("1/10", 10), ("1/4", 20)])
@pytest.mark.parametrize("name", ["max_asr", "max_pre_asr", "max_recovery", "max_loss", "min_rate"])
def test_also_passes_one_time_in_five(name: str, limit: str, trials: int) -> None:
    share = Fraction(limit)
    gate = Gate(**{name: 1 - share if name == "min_rate" else share})  # type: ignore[arg-type]
    rate = gate.also_passes(name, trials)
    assert rate is not None
    assert stats.binom.cdf(gate.certifiable(share, trials), trials, rate) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "gate", [Gate(), Gate(TENTH, reading="upper"), Gate(Fraction(1)), Gate(max_pre_asr=TENTH), Gate(TENTH)]
)
def test_nothing_else_passes_a_large_set_a_bound_or_no_limit(gate: Gate) -> None:
    assert gate.also_passes("max_asr", 756 if gate == Gate(TENTH) else 50) is None


def test_limits_are_of_the_attacks_threat_model() -> None:
    assert [threat.limit for threat in Threat] == ["max_asr", *["max_recovery"] * (len(Threat) - 1)]
    for threat in Threat:
        Gate(**{threat.limit: TENTH}).check_threat(threat)
        wrong = "max_asr" if threat.limit == "max_recovery" else "max_recovery"
        with pytest.raises(GateError, match=f"^{wrong} cannot limit .*{threat.rate}: give {threat.limit}='10.0%'"):
            Gate(**{wrong: TENTH}).check_threat(threat)


TEXTS = {
    "": Gate(),
    "ASR <= 10.0%": Gate(TENTH),
    "ASR <= 10.0% and pre-ASR <= 0.0%": Gate(TENTH, Fraction(0)),
    "ASR <= 10.0% (upper bound at 99.0%)": Gate(TENTH, reading="upper", confidence=0.99),
    "ASR <= 0.125%": Gate(Fraction("0.00125")),
    "rate >= 85.0% and loss <= 10.0%": Gate(min_rate=Fraction(85, 100), max_loss=TENTH),
    "rate >= 85.0% (bound at 95.0%)": Gate(min_rate=Fraction(85, 100), reading="lower"),
}


@pytest.mark.parametrize("text", TEXTS)
def test_gate_as_text(text: str) -> None:
    assert str(TEXTS[text]) == text


HIT, BARE, NOT, BLOCKED = Status.HIT_UNDER_ATTACK, Status.HIT_WITHOUT_ATTACK, Status.RESISTED, Status.BLOCKED


@pytest.mark.parametrize(
    ("gate", "hits", "offenders"),
    [
        (Gate(TENTH), (5, 5), (HIT, BARE)),
        (Gate(max_pre_asr=TENTH), (5, 5), (BARE,)),
        (Gate(TENTH, TENTH), (5, 5), (BARE, HIT)),
        (Gate(TENTH, TENTH), (0, 5), (HIT, BARE)),
        (Gate(min_rate=TENTH), (5, 0), (NOT, BLOCKED)),
    ],
)
def test_offenders_are_what_exceeds_the_limit(gate: Gate, hits: tuple[int, int], offenders: tuple[Status, ...]) -> None:
    assert gate.offenders(counts(10, *hits, 10 - sum(hits))) == offenders
