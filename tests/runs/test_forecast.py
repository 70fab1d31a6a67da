"""The time left is right within a factor of 1.5 from the second round on, for most mixtures of prompts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from builders import concept

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.outcome import Outcome, Status, count_forwards
from pytest_unlearndiff.runs.campaign import RUN_ALL, Campaign
from pytest_unlearndiff.runs.forecast import Odds, PromptWork, TimeForecast, passes_left
from pytest_unlearndiff.runs.model_spec import Fingerprint

WORK = PromptWork(image=50, target=50, search=54.0, rounds=12)
TOGETHER = 8


def campaign_rounds(lengths: list[int]) -> Iterator[tuple[int, float, float]]:
    """Attack prompts whose attacks end after these rounds; 0 is hit without attack, more than all resists.

    Yields:
        The round, passes until then, and the passes that are forecast to be left.
    """
    outcomes = [Outcome("x", Status.HIT_WITHOUT_ATTACK, evaluations=1) for length in lengths if not length]
    queue, running = [length for length in lengths if length], dict[int, tuple[int, int]]()
    passes, round_, started = 4.0 * -(-len(lengths) // 4) * WORK.image, 0, 0
    while queue or running:
        before = len(running)
        while queue and len(running) < TOGETHER:
            running[started] = queue.pop(0), 0
            started += 1
        passes += 4 * -(-(len(running) - before) // 4) * WORK.target
        passes += len(running) * WORK.search + 4 * -(-len(running) // 4) * WORK.image
        running = {key: (length, done + 1) for key, (length, done) in running.items()}
        for key, (length, done) in list(running.items()):
            if done in (length, WORK.rounds):
                status = Status.HIT_UNDER_ATTACK if done == length else Status.RESISTED
                outcomes.append(Outcome("x", status, evaluations=1 + done))
                del running[key]
        done_rounds, round_ = [float(done) for _, done in running.values()], round_ + 1
        odds = Odds.of(outcomes, done_rounds)
        left = passes_left(WORK, odds, untested=0, waiting=len(queue), running=done_rounds, room=TOGETHER)
        yield round_, passes, left


@pytest.mark.parametrize(
    ("plain", "resisting", "hit"), [(0.0, 0.5, 0.3), (0.0, 1.0, 0.0), (0.3, 0.6, 0.2), (0.0, 0.8, 0.15)]
)
def test_forecast_is_right_within_a_factor(plain: float, resisting: float, hit: float) -> None:
    generator, ratios = random.Random(0), []
    for total in [4, 8, 20, 50] * 5:
        lengths = []
        for _ in range(total):
            length = 0 if generator.random() < plain else 99 if generator.random() < resisting else 1
            while length and length < 99 and generator.random() > hit:
                length += 1
            lengths.append(length)
        rounds = list(campaign_rounds(lengths))
        whole = rounds[-1][1] if rounds else 0.0
        # Of the last moments nobody asks for the ratio.
        ratios += [left / (whole - p) for round_, p, left in rounds if round_ > 1 and whole - p > 0.02 * whole]
    assert sum(1 / 1.5 <= ratio <= 1.5 for ratio in ratios) / len(ratios) > 0.95


def test_forecast_ends_where_the_verdict_is_certain() -> None:
    everything = {"untested": 0, "waiting": 40, "running": [0.0] * TOGETHER, "room": TOGETHER}
    odds = Odds(plain=0.0, hit=0.5)
    whole = passes_left(WORK, odds, **everything)  # type: ignore[arg-type]
    early = passes_left(WORK, odds, **everything, is_decided=lambda hits, misses: hits > 3)  # type: ignore[arg-type]
    assert early < whole / 4


@pytest.mark.parametrize(("images", "batch", "samples"), [(1, 4, 12), (1, 8, 16), (4, 8, 40)])
def test_images_alone_fill_batches(images: int, batch: int, samples: int) -> None:
    odds = Odds(plain=0.5, hit=0.1)
    drawing = PromptWork(image=50, target=0, search=0.0, rounds=0, images=images)
    assert passes_left(drawing, odds, untested=9, waiting=0, running=[], room=8, batch=batch) == samples * 50


def test_time_from_the_store_until_something_is_computed() -> None:
    campaign = Campaign(concept(), AttackConfig(), Fingerprint("aaaa", "bbbb"), "cccc")
    forecast = TimeForecast(campaign, RUN_ALL, missing=3, batch_size=8, expected=7200.0)
    engine = SimpleNamespace(active=3, rounds=(2, 2, 2), worker_count=0)
    assert forecast.seconds_left(engine, {}) == 7200.0  # type: ignore[arg-type]
    count_forwards(100)
    left = forecast.seconds_left(engine, {})  # type: ignore[arg-type]
    assert left is not None
    assert left < 60, "at the pace of 100 passes in a moment"


@pytest.mark.parametrize(
    ("attack", "work"),
    [
        (AttackConfig(), PromptWork(100, 100, 54.0, 12)),
        (AttackConfig(schedule="paper"), PromptWork(100, 50, 80.0, 50)),
        (AttackConfig("none"), PromptWork(100, 0, 0.0, 0)),
        (AttackConfig("random"), PromptWork(100, 0, 0.0, 18)),
        (AttackConfig(images_per_prompt=4), PromptWork(100, 100, 54.0, 12, 4)),
        (AttackConfig("random", images_per_prompt=4), PromptWork(100, 0, 0.0, 13, 4)),
    ],
)
def test_work_of_attacks(attack: AttackConfig, work: PromptWork) -> None:
    campaign = Campaign(concept(), attack, Fingerprint("aaaa", "bbbb"), "cccc")
    assert PromptWork.of(campaign) == work


def test_rounds_of_workers_follow_from_their_work() -> None:
    """Eight prompts that resist, half done by two workers, of whose rounds nothing is told."""
    campaign = Campaign(concept(8), AttackConfig(), Fingerprint("aaaa", "bbbb"), "cccc")
    forecast = TimeForecast(campaign, RUN_ALL, missing=8, batch_size=4)
    engine = SimpleNamespace(active=8, rounds=(), worker_count=2)
    count_forwards(8 * 6 * (54 + 100))
    forecast._started -= 60
    left = forecast.seconds_left(engine, {})  # type: ignore[arg-type]
    assert left is not None
    assert 60 / 1.5 < left < 60 * 1.5
