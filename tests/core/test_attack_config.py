"""An attack's settings: refused where they do not fit, and in the key where an outcome depends on them."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from pytest_unlearndiff.attacks import schedules
from pytest_unlearndiff.attacks.schedules import P4D, UNLEARNDIFF
from pytest_unlearndiff.core.attack_config import PLACEMENTS, AttackConfig, attack_names, is_unattacked, schedule_names
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.errors import GateError
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.core.info import TargetSampling
from pytest_unlearndiff.core.known_prompts import KnownPrompt, KnownPrompts
from pytest_unlearndiff.core.registry import registry
from pytest_unlearndiff.store.key import digest

CHANGES: dict[str, dict[str, Any]] = {
    "schedule": {"schedule": "paper"},
    "slots": {"slots": 5},
    "placement": {"placement": "suffix"},
    "loss": {"loss": "classifier"},
    "word": {"word": "church"},
    "known": {"known": KnownPrompts((KnownPrompt(Prompt("ab", 1, 7.5, 0), GenerationRequest("zq", 1, 7.5)),))},
}


@pytest.mark.parametrize("name", attack_names())
@pytest.mark.parametrize("schedule", schedule_names())
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_combinations(name: str, schedule: str, placement: Any) -> None:
    own = registry().attacks[name].schedules
    if own and schedule not in own:
        with pytest.raises(GateError, match=f"goes with attack='unlearndiff'.*, not {name}: give 'paper' or 'fast'"):
            AttackConfig(name, schedule)
        return
    config = AttackConfig(name, schedule, placement=placement)
    assert config.title == (name if name in ("none", "transfer") else f"{name}/{schedule}")
    digest(config.params())


@pytest.mark.parametrize(
    ("setting", "keyword", "value"),
    [("attack", "name", "p5d"), *[(x, x, "other") for x in ("schedule", "placement", "loss")]],
)
def test_unknown_setting(setting: str, keyword: str, value: Any) -> None:
    with pytest.raises(GateError, match=f"{setting}='{value}' .*one of .*,"):
        AttackConfig(**{keyword: value})


@pytest.mark.parametrize("setting", ["slots", "images_per_prompt"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "3", True])
def test_wrong_counts(setting: str, value: Any) -> None:
    with pytest.raises(GateError, match=f"{setting}=.* must be a whole number of at least 1 and at most"):
        AttackConfig(**{setting: value})


@pytest.mark.parametrize("wrong", [{"name": "random"}, {"name": "p4d"}, {"schedule": "paper"}])
def test_loss_that_does_not_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(GateError, match="loss='classifier' goes with attack='unlearndiff' and schedule='fast' or "):
        AttackConfig(**wrong, loss="classifier")
    assert AttackConfig(loss="classifier").title == "unlearndiff/fast/classifier"


@pytest.mark.parametrize(
    ("name", "settings"),
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
def test_params_hold_what_outcomes_depend_on(name: str, settings: set[str]) -> None:
    config = AttackConfig(name)
    changed = {
        setting
        for setting, change in CHANGES.items()
        if (setting != "loss" or name == "unlearndiff")
        and digest(replace(config, **change).params()) != digest(config.params())
    }
    assert changed == settings


def test_params_stay() -> None:
    """A change makes all stored outcomes useless, so it must be meant."""
    assert digest(AttackConfig().params()) == "4029ad4c6b158a48"
    assert digest(AttackConfig(schedule="paper").params()) == "8bf5352e2ea8f0ac"


@pytest.mark.parametrize("name", attack_names())
def test_several_images_per_prompt(name: str) -> None:
    """They are in key and title, and controls do no more work than what they are compared with."""
    one, four = (AttackConfig(name, images_per_prompt=images) for images in (1, 4))
    assert four.params() == {**one.params(), "images_per_prompt": 4}
    assert four.title == f"{one.title}, any of 4 images per prompt"
    assert is_unattacked(four.title) is is_unattacked(one.title) is (name == "none")
    if name in ("random", "seed-search"):
        budget = AttackConfig(images_per_prompt=4).forward_passes(100)
        assert 0 <= budget - four.matched_rounds(100) * 400 < 400


def test_paper_schedules_are_upstreams() -> None:
    paper, quirk = UNLEARNDIFF["paper"], UNLEARNDIFF["paper+repeated-noise"]
    assert [round(1000 * t) for t in paper.timesteps] == list(range(10, 1000, 20))
    assert isinstance(paper, schedules.SimplexSchedule)
    assert (paper.steps, paper.learning_rate, paper.decay, paper.typeable) == (40, 0.01, 0.1, False)
    assert isinstance(quirk, schedules.RepeatedNoiseSchedule)
    assert asdict(quirk) == {**asdict(paper), "repeated_noise": True}
    p4d = schedules.EmbeddingSchedule(paper.timesteps, 40, 0.01, 0.1, typeable=False, targets=paper.targets)
    assert P4D["paper"] == p4d
    assert p4d.forward_passes(100) == 50 * (40 * 3 + 100)


@pytest.mark.parametrize("schedule", [*UNLEARNDIFF.values(), *P4D.values()])
def test_timesteps_are_distinct_fractions(schedule: Any) -> None:
    assert all(0 < t < 1 for t in schedule.timesteps)
    assert len(set(schedule.timesteps)) == len(schedule.timesteps)


@pytest.mark.parametrize("name", attack_names())
@pytest.mark.parametrize("schedule", ["paper", "fast"])
def test_target_images(name: str, schedule: str) -> None:
    """Upstream's under paper alone, and then none that a positive control could see."""
    config = AttackConfig(name, schedule)
    upstream = name in ("unlearndiff", "p4d") and schedule == "paper"
    assert config.targets == (TargetSampling(steps=25, guidance=7.5) if upstream else None)
    assert config.draws_targets is (config.info.needs_targets and not upstream)
    needing = ("unlearndiff", "p4d", "ring-a-bell", "mma-diffusion", "concept-inversion", "completion-probe")
    assert config.needs_target is (name in needing)


def test_target_sampling_enters_params(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = UNLEARNDIFF["paper"]
    digests = [digest(AttackConfig(schedule="paper").params())]
    for targets in (None, TargetSampling(50, 7.5), TargetSampling(25, 5.0)):
        changed = replace(paper, targets=targets)  # type: ignore[call-arg]
        monkeypatch.setitem(UNLEARNDIFF, "paper", changed)  # type: ignore[arg-type]
        digests.append(digest(AttackConfig(schedule="paper").params()))
    assert len(set(digests)) == 4


@pytest.mark.parametrize("name", ["p4d", "ring-a-bell", "concept-inversion"])
def test_fast_baselines_do_no_more_work_than_the_fast_attack(name: str) -> None:
    assert AttackConfig(name).forward_passes(100) <= 1.01 * AttackConfig().forward_passes(100)
