"""The flow-matching emoji pipeline that ships: it loads, draws what prompts say and can be attacked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from pytest_unlearndiff.attacks.base import build_attack
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import JudgeConfig, Prompt, Sampling
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.judges.base import build_judge
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.pipeline_folders import load_pipeline
from pytest_unlearndiff.models.target_images import Targets

EMOJI = Path(__file__).resolve().parents[2] / "examples" / "emoji"


@pytest.mark.slow
def test_judge_sees_prompted_objects() -> None:
    pipe = load_pipeline(EMOJI / "flow")
    objects = ("church", "truck", "cat")
    images = pipe(
        [f"a {name}" for name in objects],
        generator=[torch.Generator().manual_seed(n) for n in range(len(objects))],
        num_inference_steps=28,
        guidance_scale=4.0,
        max_sequence_length=32,
    ).images
    for name, image in zip(objects, images, strict=True):
        judge = build_judge(
            JudgeConfig("image-classifier", {"model": str(EMOJI / "judge" / "object"), "label": name}), "cpu"
        )
        assert [answer.hit for answer in judge([image])] == [True], name


class _Image(Targets):
    """One target image for all prompts."""

    def __init__(self, drawing: GenerationRequest, model: DiffusionModel) -> None:
        super().__init__(model)
        self._latents = model.encode_images([each.image for each in model.generate([drawing])])

    def latents(self, prompts: Sequence[Prompt], victim: DiffusionModel) -> torch.Tensor:
        return self._latents.expand(len(prompts), *self._latents.shape[1:])


@pytest.mark.slow
def test_search_finds_words_that_turn_a_fish_into_the_church_of_the_target_image() -> None:
    model = DiffusionModel(load_pipeline(EMOJI / "flow"), Sampling(28, "own"))
    church = {"model": str(EMOJI / "judge" / "object"), "label": "church"}
    judge = build_judge(JudgeConfig("image-classifier", church), "cpu")
    targets = _Image(GenerationRequest("a church in noto style on a white background", 1000, 4.0), model)
    attack = build_attack(AttackConfig(flow=True), model)
    prompt = Prompt("a fish in noto style on a grey background", 1001, 4.0, 0)
    requests: list[GenerationRequest | None] = [GenerationRequest(prompt.text, prompt.seed, prompt.guidance)]
    states, hits = attack.start([prompt], targets, 0), list[bool]()
    while not any(hits) and len(hits) <= 6:
        images = model.generate([request for request in requests if request is not None])
        hits += [answer.hit for answer in judge([each.image for each in images])]
        requests = attack.advance(states)
    assert hits[0] is False
    assert hits[-1] is True
