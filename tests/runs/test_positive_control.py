"""The positive control: target images are judged once, kept as the base's campaign, and read without drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import torch
from builders import concept
from PIL import Image

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import JudgeConfig, Prompt
from pytest_unlearndiff.core.images import Judgement
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.core.result import MIN_HIT_RATE, Control
from pytest_unlearndiff.models import device
from pytest_unlearndiff.models.device import BATCH
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.generated_images import GeneratedImage
from pytest_unlearndiff.models.target_images import Targets
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.local_backend import LocalBackend
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.runs.positive_control import ControlRecorder, base_campaign, known_control
from pytest_unlearndiff.runs.runner import Runner
from pytest_unlearndiff.store.store import Mode, Store


class FakeJudge:
    """Sees the concept in every other image that it is shown."""

    def __init__(self) -> None:
        self.shown = 0

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] = ()) -> list[Judgement]:
        found = [Judgement((self.shown + i) % 2 == 0, 0.5, "seen") for i in range(len(images))]
        self.shown += len(images)
        return found


def images(count: int) -> list[GeneratedImage]:
    """Images no two of which are the same."""
    return [GeneratedImage(Image.radial_gradient("L").resize((8 + n, 8)).convert("RGB")) for n in range(count)]


def control(base: str = "base", judge: str = "judge") -> Campaign:
    return base_campaign(concept(4), base, judge)


def record(store: Store, prompts: Sequence[Prompt], count: int) -> ControlRecorder:
    """Record what the judge sees in images of these prompts."""
    recorder = ControlRecorder(control(), store)
    recorder.judge(prompts, images(count), FakeJudge(), 100)
    return recorder


@pytest.mark.parametrize("mode", Mode)
def test_target_image_is_judged_once(tmp_path: Path, mode: Mode) -> None:
    asked, judge, store = concept(4), FakeJudge(), Store(tmp_path / "store", mode)
    recorder = ControlRecorder(control(), store)
    recorder.judge(asked.prompts[:2], images(3)[:2], judge, 100)
    recorder.judge(asked.prompts[:3], images(3), judge, 100)
    assert judge.shown == 3
    assert known_control(control(), store, recorder.outcomes) == Control(2, 3)
    assert known_control(control(), Store(tmp_path / "store")) == (Control(2, 3) if mode.writes else Control())
    assert (tmp_path / "store").exists() == mode.writes


def test_key_of_the_base_differs_from_a_victims(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record(store, concept(4).prompts[:1], 1)
    (entry,) = store.campaigns()
    assert entry.metadata == {"victim": "the base itself, for the positive control"}
    entry.write_metadata({"victim": "the base model"})
    record(store, concept(4).prompts[1:2], 1)
    assert entry.metadata == {"victim": "the base model"}


def test_control_of_another_base_or_judge(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record(store, concept(4).prompts[:1], 1)
    assert known_control(control(), store) == Control(1, 1)
    assert known_control(control("another base"), store) == Control()
    assert known_control(control(judge="another judge"), store) == Control()
    assert base_campaign(concept(4), "base", "judge").fingerprint == Fingerprint("base", "base")


def test_hit_rate_of_one_half() -> None:
    assert Fraction(1, 2) == MIN_HIT_RATE
    assert [Control(hits, 4).fails for hits in range(5)] == [True, True, False, False, False]
    assert Control(0, 1).fails
    assert not Control().fails


def test_targets_show_images_to_observers(victim: DiffusionModel) -> None:
    asked, shown = concept(3), []
    plain = Targets(victim).latents(asked.prompts, victim)
    watched = Targets(victim, [lambda prompts, images: shown.extend(zip(prompts, images, strict=True))])
    assert (watched.latents(asked.prompts, victim) == plain).all()
    assert [prompt for prompt, _ in shown] == list(asked.prompts)
    assert all(image.image.size == (32, 32) for _, image in shown)


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


def test_control_from_target_images_draws_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    campaign = attacked(store, "unlearndiff", {})
    record(store, campaign.concept.prompts, 3)

    def provide() -> ModelSpec:
        raise AssertionError("nothing is loaded")

    result = Runner(store, ModelCache(), LocalBackend(), batch_size=1).run(campaign, provide, may_pass=bool)
    assert (result.complete, result.control, result.obstacle) == (True, Control(2, 3, needed=3), "")


class Judges(ModelCache):
    """Loads the fake judge, and nothing else."""

    def judge(self, spec: JudgeConfig, source: ModelSpec) -> FakeJudge:
        return FakeJudge()


def test_control_from_supplied_images(tmp_path: Path) -> None:
    paths = {prompt.digest: str(tmp_path / f"{prompt.case}.png") for prompt in concept(3).prompts}
    store = Store(tmp_path / "store")
    campaign = attacked(store, "none", paths)
    for path in [*paths.values()][:2]:
        images(1)[0].image.save(path)
    runner = Runner(store, Judges(), LocalBackend(), batch_size=1)
    run = partial(runner.run, campaign, ModelSpec, may_pass=bool)
    result = run()
    assert result.control.insufficient
    assert result.obstacle.endswith(f"target image {[*paths.values()][2]} cannot be read (FileNotFoundError)")
    images(1)[0].image.save([*paths.values()][2])
    for _ in range(2):
        assert run().control == Control(2, 3, image_source="the concept's target images", needed=3)


def test_supplied_images_are_judged_as_an_engine_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In full batches and the victim's precision, whatever was attacked before; and nothing of it is left behind."""
    monkeypatch.setattr(device, "_size", BATCH)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert device.halve_batches()
    images(1)[0].image.save(tmp_path / "church.png")
    asked = concept(1)
    asked = replace(asked, images={asked.prompts[0].digest: str(tmp_path / "church.png")})
    seen, before = list[object](), torch.get_float32_matmul_precision()

    def judge(shown: Sequence[Image.Image], prompts: Sequence[str] = ()) -> list[Judgement]:
        seen.append((device.batch_now(), torch.backends.cudnn.allow_tf32))
        return [Judgement(True, 0.5, "seen")] * len(shown)

    base = base_campaign(asked, "base", "judge")
    base = replace(base, concept=replace(base.concept, images=asked.images))
    recorder = ControlRecorder(base, Store(tmp_path, Mode.OFF))
    recorder.judge_supplied_images(base, judge, ModelSpec(dtype="float32"))  # type: ignore[arg-type]
    assert seen == [(BATCH, False)]
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == (before, True)
