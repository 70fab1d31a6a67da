"""An attack's settings: what is refused, and what an outcome depends on."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from pytest_unlearndiff.core.attack_config import (
    ATTACKS,
    PLACEMENTS,
    SCHEDULES,
    AttackConfig,
    EmbeddingSchedule,
    RepeatedNoiseSchedule,
    SimplexSchedule,
    TargetImages,
)
from pytest_unlearndiff.core.drawing import GenerationRequest
from pytest_unlearndiff.core.errors import GateError
from pytest_unlearndiff.core.known_prompts import KnownPrompt, KnownPrompts
from pytest_unlearndiff.store.hashing import digest

CHANGES: dict[str, dict[str, Any]] = {
    "schedule": {"schedule": "paper"},
    "slots": {"slots": 5},
    "placement": {"placement": "suffix"},
    "loss": {"loss": "classifier"},
    "word": {"word": "church"},
    "known": {"known": KnownPrompts((KnownPrompt("ab", GenerationRequest("zq", 1, 7.5)),))},
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_known_combination_can_be_asked_for(name: str, schedule: str, placement: Any) -> None:
    if schedule == "paper+repeated-noise" and name not in ("unlearndiff", "transfer", "none"):
        with pytest.raises(GateError, match=r"goes with attack='unlearndiff'"):
            AttackConfig(name, schedule)
        return
    spec = AttackConfig(name, schedule, placement=placement)
    assert spec.title == (name if name in ("none", "transfer") else f"{name}/{schedule}")
    digest(spec.params())


@pytest.mark.parametrize(
    ("setting", "keyword", "value"),
    [
        ("attack", "name", "p5d"),
        ("schedule", "schedule", "slow"),
        ("placement", "placement", "everywhere"),
        ("loss", "loss", "hinge"),
    ],
)
def test_the_unknown_is_refused_with_what_is_known(setting: str, keyword: str, value: Any) -> None:
    with pytest.raises(GateError, match=f"{setting}='{value}' .*one of .*,"):
        AttackConfig(**{keyword: value})


@pytest.mark.parametrize("slots", [0, -1, 2.5, "3", True])
def test_slots_are_a_whole_number_of_at_least_one(slots: Any) -> None:
    with pytest.raises(GateError, match="slots"):
        AttackConfig(slots=slots)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("unlearndiff", {"schedule", "slots", "placement", "loss"}),
        ("p4d", {"schedule", "slots", "placement"}),
        ("ring-a-bell", {"schedule", "slots", "placement", "word"}),
        ("random", {"schedule", "slots", "placement"}),
        ("seed-search", {"schedule"}),
        ("transfer", {"known"}),
        ("none", set()),
    ],
)
def test_params_hold_what_the_attack_depends_on_and_no_more(name: str, counts: set[str]) -> None:
    spec = AttackConfig(name)
    changed = {
        setting
        for setting, change in CHANGES.items()
        if (setting != "loss" or name == "unlearndiff")
        and digest(replace(spec, **change).params()) != digest(spec.params())
    }
    assert changed == counts


def test_paper_is_the_published_schedule() -> None:
    paper = SCHEDULES["paper"]
    assert [round(1000 * share) for share in paper.timesteps] == list(range(10, 1000, 20))
    assert (paper.steps, paper.learning_rate, paper.decay, paper.typeable) == (40, 0.01, 0.1, False)


def test_a_quirk_of_upstreams_is_a_schedule_of_its_own() -> None:
    paper, quirk = (SCHEDULES[name] for name in ("paper", "paper+repeated-noise"))
    assert isinstance(quirk, RepeatedNoiseSchedule)
    assert asdict(quirk) == {**asdict(paper), "repeated_noise": True}
    assert AttackConfig(schedule="paper+repeated-noise").title == "unlearndiff/paper+repeated-noise"


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("schedule", ["paper", "fast"])
def test_target_images_are_upstreams_under_paper_alone_and_then_no_positive_control(name: str, schedule: str) -> None:
    spec = AttackConfig(name, schedule)
    targeted, upstreams = name in ("unlearndiff", "p4d"), TargetImages(steps=25, guidance=7.5)
    assert spec.targets == (upstreams if targeted and schedule == "paper" else None)
    assert spec.draws_targets is (targeted and schedule == "fast")


def test_how_target_images_are_drawn_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = AttackConfig(schedule="paper")
    found = [digest(spec.params())]
    assert isinstance(spec.settings, SimplexSchedule)
    for targets in (None, TargetImages(50, 7.5), TargetImages(25, 5.0)):
        monkeypatch.setitem(SCHEDULES, "paper", replace(spec.settings, targets=targets))  # type: ignore[misc]
        found.append(digest(AttackConfig(schedule="paper").params()))
    assert len(set(found)) == 4


@pytest.mark.parametrize("name", SCHEDULES)
def test_timesteps_are_shares_each_tried_once(name: str) -> None:
    timesteps = SCHEDULES[name].timesteps
    assert all(0 < share < 1 for share in timesteps)
    assert len(set(timesteps)) == len(timesteps)


@pytest.mark.parametrize("name", ATTACKS)
def test_controls_do_without_the_unerased_model(name: str) -> None:
    assert AttackConfig(name).needs_target is (name in ("unlearndiff", "p4d", "ring-a-bell"))


def test_keys_stay_what_they_were() -> None:
    """Else everything that stores hold would be attacked again."""
    assert digest(AttackConfig().params()) == "2e6590c10c149e5a"
    assert digest(AttackConfig(schedule="paper").params()) == "37a8873f0d0f53bd"


@pytest.mark.parametrize("wrong", [{"name": "random"}, {"name": "p4d"}, {"schedule": "paper"}])
def test_the_classifiers_loss_is_of_the_fast_search(wrong: dict[str, Any]) -> None:
    with pytest.raises(GateError, match="loss='classifier' goes with"):
        AttackConfig(**wrong, loss="classifier")
    assert AttackConfig(loss="classifier").title == "unlearndiff/fast/classifier"


@pytest.mark.parametrize("name", ["p4d", "ring-a-bell"])
def test_a_fast_baseline_does_no_more_work_than_the_fast_attack(name: str) -> None:
    ours, theirs = (AttackConfig(attack).settings.work(100) for attack in ("unlearndiff", name))
    assert theirs <= 1.01 * ours


def test_p4d_on_paper_is_upstreams() -> None:
    p4d = AttackConfig("p4d", "paper").settings
    paper = SCHEDULES["paper"]
    assert isinstance(paper, SimplexSchedule)
    assert p4d == EmbeddingSchedule(paper.timesteps, 40, 0.01, 0.1, typeable=False, targets=paper.targets)
    assert p4d.work(100) == 50 * (40 * 3 + 100)
