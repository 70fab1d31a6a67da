"""The positive control: target images are judged once, kept as the base's campaign, and read without drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
from builders import concept
from PIL import Image

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import JudgeConfig
from pytest_unlearndiff.core.images import Judgement
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.core.positive_control import MIN_HIT_RATE, Control
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.generated_images import GeneratedImage
from pytest_unlearndiff.models.target_images import Targets
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.model_cache import Fingerprint, ModelCache, ModelSpec
from pytest_unlearndiff.runs.positive_control import ControlRecorder, base_campaign, known_control
from pytest_unlearndiff.store.store import Mode, Store


class FakeJudge:
    """Sees the concept in every other image that it is shown."""

    def __init__(self) -> None:
        self.shown = 0

    def __call__(self, images: Sequence[Image.Image]) -> list[Judgement]:
        found = [Judgement((self.shown + i) % 2 == 0, 0.5, "seen") for i in range(len(images))]
        self.shown += len(images)
        return found


def images(count: int) -> list[GeneratedImage]:
    """Images no two of which are the same."""
    return [GeneratedImage(Image.radial_gradient("L").resize((8 + n, 8)).convert("RGB")) for n in range(count)]


def witness(store: Store, judge: FakeJudge, found: dict[str, Outcome] | None = None) -> ControlRecorder:
    campaign = base_campaign(concept(4), "base", "judge")
    return ControlRecorder(store, campaign, judge, 100, found if found is not None else {})


@pytest.mark.parametrize("mode", Mode)
def test_a_target_image_is_judged_once_and_kept_where_the_store_may(tmp_path: Path, mode: Mode) -> None:
    asked, judge, store = concept(4), FakeJudge(), Store(tmp_path / "store", mode)
    drawn = images(3)
    watched: dict[str, Outcome] = {}
    sees = witness(store, judge, watched)
    sees(asked.prompts[:2], drawn[:2])
    sees(asked.prompts[:3], drawn)
    assert judge.shown == 3
    assert known_control(store, asked, "base", "judge", watched) == Control(2, 3)
    kept = Control(2, 3) if mode.writes else Control()
    assert known_control(Store(tmp_path / "store"), asked, "base", "judge") == kept
    assert (tmp_path / "store").exists() == mode.writes


def test_what_the_base_drew_is_told_from_what_a_victim_drew(tmp_path: Path) -> None:
    store, drawn = Store(tmp_path), images(1)
    witness(store, FakeJudge())(concept(4).prompts[:1], drawn)
    (entry,) = store.campaigns()
    assert entry.metadata == {"victim": "the base itself, for the positive control"}
    entry.write_metadata({"victim": "the base model"})
    witness(store, FakeJudge())(concept(4).prompts[1:2], drawn)
    assert entry.metadata == {"victim": "the base model"}


def test_another_base_or_judge_has_a_control_of_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    witness(store, FakeJudge())(concept(4).prompts[:1], images(1))
    assert known_control(store, concept(4), "base", "judge") == Control(1, 1)
    assert known_control(store, concept(4), "another base", "judge") == Control()
    assert known_control(store, concept(4), "base", "another judge") == Control()
    assert base_campaign(concept(4), "base", "judge").fingerprint == Fingerprint("base", "base")


def test_half_of_the_images_are_needed() -> None:
    assert Fraction(1, 2) == MIN_HIT_RATE
    assert [Control(hits, 4).fails for hits in range(5)] == [True, True, False, False, False]
    assert Control(0, 1).fails
    assert not Control().fails


def test_targets_show_their_images_to_the_witness(victim: DiffusionModel) -> None:
    asked, shown = concept(3), []
    plain = Targets(victim).latents(asked.prompts, victim)
    watched = Targets(victim, [lambda prompts, images: shown.extend(zip(prompts, images, strict=True))])
    assert (watched.latents(asked.prompts, victim) == plain).all()
    assert [prompt for prompt, _ in shown] == list(asked.prompts)
    assert all(image.image.size == (32, 32) for _, image in shown)


def test_images_that_were_judged_before_are_not_judged_again(tmp_path: Path) -> None:
    judge, store = FakeJudge(), Store(tmp_path)
    found: dict[str, Outcome] = {}
    looks = witness(store, judge, found)
    prompts = concept(3).prompts
    for _ in range(2):
        looks(prompts, images(3))
    assert (len(found), judge.shown) == (3, 3)


def attacked(store: Store, attack: str, images: Mapping[str, str]) -> Campaign:
    """A campaign whose three prompts all resisted."""
    campaign = Campaign(
        replace(concept(3), images=images), AttackConfig(attack), Fingerprint("victim", "base"), "judge"
    )
    entry = store.campaign("church", campaign.key)
    store.create(entry, campaign.key)
    for prompt in campaign.concept.prompts:
        entry.append(Outcome(prompt.digest, Status.RESISTED))
    return campaign


def test_nothing_is_drawn_for_an_attack_whose_target_images_were_seen(tmp_path: Path) -> None:
    store = Store(tmp_path)
    campaign = attacked(store, "unlearndiff", {})
    witness(store, FakeJudge())(campaign.concept.prompts, images(3))

    def provide() -> ModelSpec:
        raise AssertionError("nothing is loaded")

    result = campaign.run(store, provide, ModelCache(), batch_size=1, control=lambda tally: True)
    assert (result.complete, result.control, result.obstacle) == (True, Control(2, 3, needed=3), "")


class Judges(ModelCache):
    """Loads the fake judge, and nothing else."""

    def judge(self, spec: JudgeConfig, source: ModelSpec) -> FakeJudge:
        return FakeJudge()


def test_a_concepts_own_images_are_looked_at_where_no_attack_asks_for_them(tmp_path: Path) -> None:
    paths = {prompt.digest: str(tmp_path / f"{prompt.case}.png") for prompt in concept(3).prompts}
    store = Store(tmp_path / "store")
    campaign = attacked(store, "none", paths)
    for path in [*paths.values()][:2]:
        images(1)[0].image.save(path)
    run = partial(campaign.run, store, ModelSpec, Judges(), batch_size=1, control=lambda tally: True)
    result = run()
    assert result.control.insufficient
    assert result.obstacle.endswith(f"target image {[*paths.values()][2]} cannot be read (FileNotFoundError)")
    images(1)[0].image.save([*paths.values()][2])
    for _ in range(2):
        assert run().control == Control(2, 3, image_source="the concept's target images", needed=3)
