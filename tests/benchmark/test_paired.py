"""Attacks compared: exact tests, intervals from the literature, a set in a fixed order, and what can be broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
import torch
from builders import outcome

from benchmark import exhaustive
from benchmark.comparison_set import SHIPPED, UNTOUCHED, Contender, blocks, outcomes_of
from benchmark.contenders import Victim, erased_concept
from benchmark.exhaustive import Exhaustive
from benchmark.paired import Paired, mcnemar
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.images import Evaluated, GenerationRequest, Judgement
from pytest_unlearndiff.core.outcome import Outcome, Status


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
    cut = Contender.parse("fast@818").cut({"a": early, "b": late})
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


def test_exhaustive_search_draws_names_then_the_best_drafts_then_pairs_until_one_is_a_hit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["a", "b", "c", "d"]
    drawn: list[tuple[int, str]] = []

    class Model:
        def __init__(self, forwards: int) -> None:
            self.forwards_per_image = forwards
            text = lambda pieces: words[pieces[0]]  # noqa: E731
            self.vocabulary = SimpleNamespace(typeable=torch.arange(4), text=text)

    def evaluation(model: Model, judge: object) -> Callable[[Sequence[GenerationRequest]], list[Evaluated]]:
        def evaluate(requests: Sequence[GenerationRequest]) -> list[Evaluated]:
            drawn.extend((model.forwards_per_image, request.text) for request in requests)
            score = {f"{word} p": rank for rank, word in enumerate("dbca")}
            return [Evaluated(Judgement(r.text == hit, score.get(r.text, 0), "")) for r in requests]

        return evaluate

    monkeypatch.setattr(exhaustive, "Evaluation", evaluation)
    monkeypatch.setattr(exhaustive, "DRAWN", 2)
    search = Exhaustive(Model(50), Model(10), None, ["name"])  # type: ignore[arg-type]
    for hit, status, images in (
        ("p", Status.HIT_WITHOUT_ATTACK, 1),
        ("name p", Status.HIT_UNDER_ATTACK, 2),
        ("c p", Status.HIT_UNDER_ATTACK, 4),
        ("a c p", Status.HIT_UNDER_ATTACK, 6),
        ("b p", Status.RESISTED, 16),  # its draft scores third; two names, two tokens, twelve pairs
    ):
        drawn.clear()
        end = search.attack(Prompt("p", seed=1, guidance=5.0, case=0))
        assert (end.status, end.evaluations) == (status, images), hit
        assert end.forwards == 50 * images + (40 if images > 2 else 0)
        assert [text for forwards, text in drawn if forwards == 10] == [f"{word} p" for word in words] * (images > 2)


def test_block_that_was_interrupted_does_not_count() -> None:
    cases = blocks(rounds=2, size=2)
    digests = {prompt.case: prompt.digest for prompt in erased_concept("uce-fish").prompts}
    (first, second) = (block.cases for block in cases if block.victim == "uce-fish")
    finished = [digests[case] for case in (*first, second[0])]

    class Kept:
        def run(self, victim: Victim, attack: str) -> dict[str, Outcome]:
            return {key: outcome(key, Status.HIT_UNDER_ATTACK) for key in finished if victim.name == "uce-fish"}

    work = [block for block in cases if block.victim == "uce-fish"]
    counted = outcomes_of(work, Contender("fast"), Kept())  # type: ignore[arg-type]
    assert set(counted["uce-fish"]) == {f"uce-fish {digests[case]}" for case in first}
