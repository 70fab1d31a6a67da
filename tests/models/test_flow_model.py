"""The flow-matching emoji pipeline that ships: it loads as Stable Diffusion 3 and draws what prompts say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pytest_unlearndiff.core.concept import JudgeConfig
from pytest_unlearndiff.judges.base import build_judge
from pytest_unlearndiff.models.pipeline_folders import load_pipeline

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
