"""An attack's settings: what is refused, and what an outcome depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_unlearndiff.core.attack_spec import ATTACKS, PLACEMENTS, SCHEDULES, AttackSpec
from pytest_unlearndiff.core.errors import GateError
from pytest_unlearndiff.store.fingerprint import digest

CHANGES: dict[str, dict[str, Any]] = {
    "schedule": {"schedule": "paper"},
    "slots": {"slots": 5},
    "placement": {"placement": "suffix"},
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_known_combination_can_be_asked_for(name: str, schedule: str, placement: Any) -> None:
    spec = AttackSpec(name, schedule, placement=placement)
    assert spec.title == ("none" if name == "none" else f"{name}/{schedule}")
    digest(spec.params())


@pytest.mark.parametrize(
    ("setting", "keyword", "value"),
    [("attack", "name", "p5d"), ("schedule", "schedule", "slow"), ("placement", "placement", "everywhere")],
)
def test_the_unknown_is_refused_with_what_is_known(setting: str, keyword: str, value: Any) -> None:
    with pytest.raises(GateError, match=f"{setting}='{value}' .*one of .*,"):
        AttackSpec(**{keyword: value})


@pytest.mark.parametrize("slots", [0, -1, 2.5, "3", True])
def test_slots_are_a_whole_number_of_at_least_one(slots: Any) -> None:
    with pytest.raises(GateError, match="slots"):
        AttackSpec(slots=slots)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("unlearndiff", {"schedule", "slots", "placement"}),
        ("random", {"schedule", "slots", "placement"}),
        ("seed-search", {"schedule"}),
        ("none", set()),
    ],
)
def test_params_hold_what_the_attack_depends_on_and_no_more(name: str, counts: set[str]) -> None:
    spec = AttackSpec(name)
    changed = {
        setting
        for setting, change in CHANGES.items()
        if digest(replace(spec, **change).params()) != digest(spec.params())
    }
    assert changed == counts


def test_paper_is_the_published_schedule() -> None:
    paper = SCHEDULES["paper"]
    assert [round(1000 * share) for share in paper.timesteps] == list(range(10, 1000, 20))
    assert (paper.steps, paper.learning_rate, paper.decay, paper.typeable) == (40, 0.01, 0.1, False)


@pytest.mark.parametrize("name", SCHEDULES)
def test_timesteps_are_shares_each_tried_once(name: str) -> None:
    timesteps = SCHEDULES[name].timesteps
    assert all(0 < share < 1 for share in timesteps)
    assert len(set(timesteps)) == len(timesteps)


@pytest.mark.parametrize("name", ATTACKS)
def test_only_the_gradient_attack_needs_target_images(name: str) -> None:
    assert AttackSpec(name).needs_target is (name == "unlearndiff")
