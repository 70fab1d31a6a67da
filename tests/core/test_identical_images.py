"""The same image for different prompts and seeds: found exactly, never passed, and early as in the full run."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.gate import Gate, Verdict, decide
from pytest_unlearndiff.core.images import may_repeat, repeated_cases, same_image
from pytest_unlearndiff.core.outcome import Counts, Outcome, Status
from pytest_unlearndiff.core.result import AttackResult, Control, Retention
from pytest_unlearndiff.reports.gate_report import GateReport

GATES = [
    Gate(),
    Gate(Fraction(0)),
    Gate(Fraction(1, 3)),
    Gate(Fraction(1)),
    Gate(Fraction(1, 2), Fraction(1, 5)),
    Gate(Fraction(1, 2), reading="upper", confidence=0.8),
]
prompts = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=7, unique=True).map(
    lambda rows: tuple(Prompt(text, seed, 7.5, case) for case, (text, seed) in enumerate(rows))
)
images = st.lists(st.none() | st.sampled_from("xyzw"), min_size=7, max_size=7)
statuses = st.lists(
    st.sampled_from([Status.HIT_WITHOUT_ATTACK, Status.HIT_UNDER_ATTACK, Status.RESISTED, Status.BLOCKED]),
    min_size=7,
    max_size=7,
)


def differ(one: Prompt, other: Prompt) -> bool:
    return one.text != other.text and one.seed != other.seed


@given(prompts, images, st.lists(st.booleans(), min_size=7, max_size=7))
def test_repeated_cases_and_may_repeat(rows: tuple[Prompt, ...], drawn: list[str | None], gone: list[bool]) -> None:
    pairs = list(combinations(zip(rows, drawn, gone, strict=False), 2))
    same = [(p, q) for (p, x, _), (q, y, _) in pairs if x == y is not None and differ(p, q)]
    assert repeated_cases(zip(rows, drawn, strict=False)) == tuple(sorted({p.case for pair in same for p in pair}))
    assert may_repeat(rows, gone[: len(rows)]) is any((a or b) and differ(p, q) for (p, _, a), (q, _, b) in pairs)


@pytest.mark.parametrize("gate", GATES, ids=str)
@given(prompts, images, statuses)
def test_early_verdict_is_the_full_runs(
    gate: Gate, rows: tuple[Prompt, ...], drawn: list[str | None], ends: list[Status]
) -> None:
    """Attacked one after the other until it is settled by counts; then the un-attacked images of the rest are known."""
    every = [Outcome(str(p.case), s, image=i) for p, i, s in zip(rows, drawn, ends, strict=False)]
    rest = {p.digest: Outcome(p.digest, Status.RESISTED, image=i) for p, i in zip(rows, drawn, strict=False)}
    full = gate.verdict(Counts.of(every, rows))
    for done in range(len(rows) + 1):
        outcomes = [*every[:done], *[None] * (len(rows) - done)]
        verdict = gate.verdict(Counts.of(outcomes, rows, rest))
        assert verdict in (full, Verdict.INCOMPLETE), done
        # Nothing is known of the rest's images: only what fails is certain, or what cannot be found to repeat.
        assert gate.verdict(Counts.of(outcomes, rows)) in (full, Verdict.INCOMPLETE), done
    if Counts.of(every, rows).repeated:
        assert full in (Verdict.FAIL, Verdict.INCOMPLETE)
        assert not GateReport.of(AttackResult("c", "a", "v", rows, tuple(every)), gate, "n").passed


@given(prompts, images, statuses, st.fractions(0, 1), st.booleans())
def test_repeating_model_keeps_nothing(
    rows: tuple[Prompt, ...], drawn: list[str | None], ends: list[Status], limit: Fraction, based: bool
) -> None:
    found = [Outcome(str(p.case), s, image=i) for p, i, s in zip(rows, drawn, ends, strict=False)]
    repeating = AttackResult("c", "none", "", rows, tuple(found))
    sound = AttackResult("c", "none", "", rows, tuple(Outcome(str(p.case), Status.HIT_WITHOUT_ATTACK) for p in rows))
    sides = Retention(sound, repeating) if based else Retention(repeating, sound)
    for gate in (Gate(min_rate=limit), Gate(max_loss=limit), Gate()):
        if repeating.counts.repeated:
            assert decide(sides, gate).verdict in (Verdict.FAIL, Verdict.INCOMPLETE)


def test_same_image_text() -> None:
    assert same_image((3, 7)) == "draws the same image for different prompts and seeds (cases 3, 7)"
    assert same_image(range(1000)).endswith("(cases 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 990 more)")
    assert Control(9, 10, repeated=(3, 7)).fails
    assert "cases 3, 7" in Control(9, 10, repeated=(3, 7)).failure
    assert Control(9, 10).failure == ""
