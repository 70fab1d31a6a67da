"""The time left is right within a factor of 1.5 from the second round on, for most mixtures of prompts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from benchmark.forecast import Reading, Session, judged, run
from builders import concept

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.outcome import Outcome, Status, count_forwards
from pytest_unlearndiff.runs import forecast
from pytest_unlearndiff.runs.campaign import RUN_ALL, Campaign
from pytest_unlearndiff.runs.engine_state import EngineState
from pytest_unlearndiff.runs.forecast import Odds, PromptWork, Rehearsal, TimeForecast
from pytest_unlearndiff.runs.model_spec import Fingerprint

WORK = PromptWork(100, 100, 54.0, 12)
CAMPAIGN = Campaign(concept(8), AttackConfig(), Fingerprint("aaaa", "bbbb"), "cccc")


def share_within(factor: float, readings: list[Reading]) -> float:
    ratios = [reading.ratio or 0.0 for reading in readings]
    return sum(1 / factor <= ratio <= factor for ratio in ratios) / len(ratios)


def readings_of(workers: int, counts: tuple[int, ...] = (20, 50), **mix: Any) -> list[list[Reading]]:
    fast = {"image_pass": 0.004, "search_pass": 0.008, "workers": workers}
    return [run(Session.drawn(seed, count, **fast, **mix)) for seed in range(2) for count in counts]


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(
    ("mix", "share"),
    [
        ({"plain": 0.0, "resisting": 1.0, "hit": 0.0}, 1.0),
        ({"plain": 0.0, "resisting": 0.5, "hit": 0.3}, 0.9),
        ({"plain": 0.1, "resisting": 0.8, "hit": 0.15}, 0.9),
    ],
)
def test_time_left_is_right_within_a_factor(workers: int, mix: dict[str, float], share: float) -> None:
    sessions = readings_of(workers, **mix)
    assert share_within(1.5, [reading for readings in sessions for reading in judged(readings)]) >= share
    every = [reading for readings in sessions for reading in readings if reading.predicted is not None]
    assert min(reading.predicted or 0.0 for reading in every) >= 1, "no time left, and prompts are attacked"


def test_time_left_while_un_attacked_images_are_drawn() -> None:
    """Where the first of them show the concept, prompts that wait for their attack are no such hits."""
    sessions = readings_of(0, (50,), plain=0.1, resisting=0.8, hit=0.15)
    drawing = [r for readings in sessions for r in readings if not r.round and r.predicted is not None and r.at > 0]
    assert drawing
    assert share_within(2.5, drawing) == 1.0


def test_chance_falls_with_the_rounds_done() -> None:
    outcomes = [Outcome("x", Status.HIT_UNDER_ATTACK, evaluations=2)] * 5
    outcomes += [Outcome("x", Status.RESISTED, evaluations=13)] * 5
    odds = Odds.of(outcomes, EngineState(waiting=3, rounds=(1, 1)), WORK)
    assert odds.hit[0] > 0.3
    assert odds.hit[11] < 0.05
    assert sorted(odds.hit, reverse=True) == list(odds.hit)


def test_prompts_that_wait_were_not_hit_without_attack() -> None:
    hit = Outcome("x", Status.HIT_WITHOUT_ATTACK, evaluations=1)
    assert Odds.of([hit], EngineState(untested=40, waiting=7), WORK).plain == 1 / 8


def test_forecast_ends_where_the_verdict_is_certain() -> None:
    odds = Odds(0.0, (0.5,) * 12)
    state = EngineState(waiting=40, rounds=(1,) * 8, batch_size=8)
    whole = Rehearsal(WORK, odds, state).play().attacking
    early = Rehearsal(WORK, odds, state, is_decided=lambda hits, misses: hits > 3).play().attacking
    assert early < whole / 4


@pytest.mark.parametrize(("images", "batch", "samples"), [(1, 4, 12), (1, 8, 16), (4, 8, 40)])
def test_images_alone_fill_batches(images: int, batch: int, samples: int) -> None:
    state = EngineState(untested=9, batch_size=16)
    left = Rehearsal(PromptWork(50, 0, 0.0, 0, images), Odds(0.5, ()), state, batch=batch).play()
    assert (left.drawing, left.attacking) == (samples * 50, 0.0)


def test_process_that_has_most_to_do_ends_last() -> None:
    """Eight prompts that resist in the hands of one of two workers take as long as with that one alone."""
    ends = []
    for workers in (1, 2):
        holding = EngineState(rounds=(2,) * 8, batch_size=8, image_forwards=100)
        states = (holding, EngineState(batch_size=8, image_forwards=100))[:workers]
        engine = SimpleNamespace(state=EngineState(0, 0, holding.rounds, 8, 100, states), worker_count=workers)
        begun = TimeForecast(CAMPAIGN, RUN_ALL)
        begun._note(EngineState(), workers)
        begun._started -= 60
        begun._loaded = forecast._Moment(begun._loaded.at - 60, begun._loaded.computed)
        count_forwards(10000 * workers)
        ends.append(begun.seconds_left(engine, {}))  # type: ignore[arg-type]
    assert ends[1] == pytest.approx(ends[0], rel=0.05)


def test_time_from_the_store_until_something_is_computed() -> None:
    engine = SimpleNamespace(state=EngineState(), worker_count=0)
    begun = TimeForecast(CAMPAIGN, RUN_ALL, expected=7200.0)
    assert begun.seconds_left(engine, {}) == pytest.approx(7200.0, abs=1)  # type: ignore[arg-type]
    engine.worker_count = 2
    assert TimeForecast(CAMPAIGN, RUN_ALL, expected=7200.0).seconds_left(engine, {}) == pytest.approx(3600.0, abs=1)  # type: ignore[arg-type]
    engine.worker_count, engine.state = 0, EngineState(rounds=(2, 2, 2), batch_size=8)
    count_forwards(100)
    begun._again_at = 0.0
    left = begun.seconds_left(engine, {})  # type: ignore[arg-type]
    assert left is not None
    assert left < 60, "at the pace of 100 passes in a moment"


def test_rest_is_played_through_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    played = []
    monkeypatch.setattr(TimeForecast, "_ends_at", lambda *_: played.append(1))
    begun = TimeForecast(CAMPAIGN, RUN_ALL)
    for _ in range(100):
        begun.seconds_left(SimpleNamespace(state=EngineState(), worker_count=0), {})  # type: ignore[arg-type]
    assert len(played) == 1


@pytest.mark.parametrize(
    ("attack", "image", "work"),
    [
        (AttackConfig(), 0, PromptWork(100, 100, 54.0, 12)),
        (AttackConfig(schedule="paper"), 0, PromptWork(100, 50, 80.0, 50)),
        (AttackConfig("none"), 0, PromptWork(100, 0, 0.0, 0)),
        (AttackConfig("random"), 0, PromptWork(100, 0, 0.0, 18)),
        (AttackConfig(images_per_prompt=4), 0, PromptWork(100, 100, 54.0, 12, 4)),
        (AttackConfig("random", images_per_prompt=4), 0, PromptWork(100, 0, 0.0, 13, 4)),
        # A distilled model, and one with safe latent diffusion, whose base has none.
        (AttackConfig(), 50, PromptWork(50, 50, 54.0, 12)),
        (AttackConfig(), 150, PromptWork(150, 100, 54.0, 12)),
    ],
)
def test_work_of_attacks(attack: AttackConfig, image: int, work: PromptWork) -> None:
    campaign = Campaign(concept(), attack, Fingerprint("aaaa", "bbbb"), "cccc")
    assert PromptWork.of(campaign, image) == work
