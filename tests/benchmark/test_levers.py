"""The benchmark's levers cost what they say, and each turns one thing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from builders import outcome
from tiny import PROMPTS

from benchmark.compare import row, rows
from benchmark.former import savings
from benchmark.levers import FAST, LEVERS, Drafted, OnlyDown, RankedTogether
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.images import Evaluated, GenerationRequest, Judgement
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets


@pytest.mark.parametrize("name", LEVERS)
def test_cost_of_a_lever_is_about_that_of_fast(name: str) -> None:
    assert abs(LEVERS[name].work(50) / FAST.forward_passes(50) - 1) < 0.06


@pytest.mark.parametrize("name", sorted({*LEVERS} - {"fast, drafts first"}))
def test_lever_spends_what_it_says(name: str, victim: DiffusionModel, targets: Targets) -> None:
    lever = LEVERS[name]
    two = replace(lever, schedule=replace(lever.schedule, rounds=2))
    search = two.search(AttackConfig(), victim, two.schedule)
    states = search.start(PROMPTS[:1], targets, 0)
    while any(search.advance(states)):
        pass
    assert states[0].forwards == two.work(0)


def test_ranked_together_gives_one_slot_all(victim: DiffusionModel, targets: Targets) -> None:
    search = RankedTogether(AttackConfig(), victim, FAST)
    (state,) = search.start(PROMPTS[:1], targets, 0)
    slope = torch.zeros(3, victim.vocabulary.embeddings.shape[1])
    slope[1] = 1.0
    swaps = search._promising(state, slope)
    better = [swap for swap in swaps if swap[1] != state.choice[1]]
    assert len(swaps) == FAST.screened
    assert len(better) > FAST.screened // 3, "more than that slot's share"
    assert all(swap[0] == state.choice[0] and swap[2] == state.choice[2] for swap in better)
    assert swaps[: len(better)] == better


def test_only_down_never_moves_uphill(victim: DiffusionModel, targets: Targets) -> None:
    search = OnlyDown(AttackConfig(), victim, FAST)
    (state,) = search.start(PROMPTS[:1], targets, 0)
    search._move(state, {(1, 2, 3): 0.5, (1, 2, 4): 0.4})
    assert state.choice == (1, 2, 4)
    search._move(state, {(9, 2, 4): 0.6})
    assert state.choice == (1, 2, 4)
    search._move(state, {(8, 2, 4): 0.3})
    assert state.choice == (8, 2, 4)


@pytest.mark.parametrize("seen", [True, False])
def test_drafts_that_show_the_concept_are_drawn_in_full(seen: bool, victim: DiffusionModel, targets: Targets) -> None:
    judged: list[GenerationRequest] = []

    def judge(drawings: Sequence[GenerationRequest]) -> list[Evaluated]:
        judged.extend(drawings)
        return [Evaluated(Judgement(seen, len(drawing.text), "")) for drawing in drawings]

    lever = LEVERS["fast, drafts first"]
    schedule = replace(lever.schedule, rounds=3)
    search = Drafted(AttackConfig(), victim, schedule, judge)
    (state,) = search.start(PROMPTS[:1], targets, 0)
    drawn = list(itertools.takewhile(lambda it: it is not None, (search.advance([state])[0] for _ in range(99))))
    full = [drawing for drawing in drawn if drawing in judged]
    assert len(full) == len(set(full)) == Drafted.IMAGES
    assert drawn.index(full[0]) == (0 if seen else 2), "with none in a draft, only when the rounds are over"
    if not seen:
        assert [len(drawing.text) for drawing in full] == sorted((len(it.text) for it in judged), reverse=True)[:6]
    told = len(drawn) * victim.forwards_per_image  # as the engine adds
    assert state.forwards + told == replace(lever, schedule=schedule).work(victim.forwards_per_image)


def test_row_pairs_prompts_of_both_attacks() -> None:
    mine = {name: outcome(name, status) for name, status in zip("abc", (Status.HIT_UNDER_ATTACK,) * 3, strict=True)}
    theirs = {
        "a": outcome("a", Status.RESISTED),
        "b": outcome("b", Status.HIT_UNDER_ATTACK),
        "d": outcome("d", Status.HIT_UNDER_ATTACK),
    }
    line = row("v", "fast", 1, mine, theirs)
    assert (line.prompts, line.successes, line.paired, line.gained, line.lost, line.p) == (3, 3, 2, 1, 0, 1.0)


def test_common_rows_count_the_same_prompts() -> None:
    known = {
        "paper": {"a": Status.HIT_UNDER_ATTACK, "b": Status.RESISTED},
        "fast": {"b": Status.HIT_UNDER_ATTACK, "c": Status.HIT_UNDER_ATTACK},
    }

    class Kept:
        def run(self, victim: object, attack: str) -> dict[str, Outcome]:
            return {name: outcome(name, status) for name, status in known[attack].items()}

    victim = SimpleNamespace(name="v", image=50)
    for common, counts in ((False, [2, 2]), (True, [1, 1])):
        table = rows([victim], ["paper", "fast"], "paper", Kept(), common=common)  # type: ignore[list-item, arg-type]
        assert [line.prompts for line in table] == counts
        assert (table[1].paired, table[1].gained) == (1, 1)


def test_savings_change_no_result(victim: DiffusionModel) -> None:
    rows = list(savings(victim, PROMPTS, times=1))
    assert [row.title for row in rows if not row.same] == []
    assert [(row.unit, row.before, row.after) for row in rows if row.unit != "CPU s"] == [("texts", 64, 16)]
