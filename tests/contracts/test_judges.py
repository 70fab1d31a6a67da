"""The contract of judges, for every built-in one and the example of a plugin's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import EMOJI, tiny_pipeline
from tiny_judges import tiny_clip, tiny_vlm

from examples import WITH_EXAMPLES
from pytest_unlearndiff.core.concept import JudgeConfig
from pytest_unlearndiff.core.errors import JudgeError
from pytest_unlearndiff.core.images import Judgement
from pytest_unlearndiff.core.judge_options import key_options, problems, weights_of
from pytest_unlearndiff.core.registry import registry
from pytest_unlearndiff.judges.base import Judge, build_judge

CODE = "def is_red(images, least=200):\n    return [image.getpixel((0, 0))[0] >= least for image in images]\n"


@pytest.fixture(scope="module", autouse=True)
def _modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "contract_judge.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Options that each judge can be built with."""
    folder = tmp_path_factory.mktemp("judges")
    clip, vlm, base = (folder / name for name in ("clip", "vlm", "base"))
    tiny_clip(clip)
    tiny_vlm(vlm)
    tiny_pipeline(0).save_pretrained(base)
    np.savez(folder / "prompts.npz", prompts=np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32))
    function = {"kind": "function", "call": "contract_judge:is_red"}
    return {
        "image-classifier": {"model": str(EMOJI / "judge" / "object"), "label": "church"},
        "nudenet": {},
        "clip-zero-shot": {"model": str(clip), "concept": "a church", "neutral": ["a fish"]},
        "clip-score": {"model": str(clip), "threshold": 0.2},
        "image-quality": {"features": str(EMOJI / "judge" / "object"), "clip": str(clip)},
        "q16": {"model": str(clip), "prompts": str(folder / "prompts.npz")},
        "diffusion-classifier": {"model": str(base), "concept": "church", "alternatives": ["fish"]},
        "vlm": {"model": str(vlm), "question": "is there a church"},
        "any-of": {"judges": [function, {"kind": "red"}]},
        "all-of": {"judges": [function, {"kind": "any-of", "judges": [{"kind": "red"}]}]},
        "function": {"call": "contract_judge:is_red", "options": {"least": 100}},
        "red": {"threshold": 0.4},
    }


@pytest.fixture(params=list(WITH_EXAMPLES.judges))
def config(request: pytest.FixtureRequest, options: dict[str, dict[str, Any]]) -> JudgeConfig:
    return JudgeConfig(request.param, options[request.param])


@pytest.fixture
def images() -> list[Image.Image]:
    ramp = Image.radial_gradient("L").resize((32, 32)).convert("RGB")
    colours = [Image.new("RGB", (32, 32), colour) for colour in ("red", "white", "black")]
    return [ramp, *colours, ramp.rotate(90), Image.linear_gradient("L").resize((32, 32)).convert("RGB")]


def build(config: JudgeConfig) -> Judge:
    return build_judge(config, "cpu")


def test_one_judgement_per_image_in_order(config: JudgeConfig, images: list[Image.Image]) -> None:
    judge, stream = build(config), torch.get_rng_state()
    pixels = [image.tobytes() for image in images]
    texts = [f"a church, number {number}" for number in range(len(images))]
    together = judge(images, texts)
    assert all(isinstance(each, Judgement) and isinstance(each.hit, bool) for each in together)
    assert all(math.isfinite(each.score) and not each.blocked for each in together)
    for backward, forward in zip(judge(images[::-1], texts[::-1])[::-1], together, strict=True):
        assert (backward.hit, backward.score) == (forward.hit, pytest.approx(forward.score, abs=1e-5))
    for image, text, expected in zip(images, texts, together, strict=True):
        (alone,) = judge([image], [text])
        assert (alone.hit, alone.score) == (expected.hit, pytest.approx(expected.score, abs=1e-5))
    assert [image.tobytes() for image in images] == pixels
    assert torch.equal(stream, torch.get_rng_state()), "the global random stream is left alone"


def test_unknown_missing_and_wrong_options(config: JudgeConfig) -> None:
    info = registry().judges[config.kind]
    with pytest.raises(JudgeError, match=f"judge {config.kind} has no option 'nonsense'"):
        build(JudgeConfig(config.kind, {**config.options, "nonsense": 1}))
    for name in info.required:
        rest = {option: value for option, value in config.options.items() if option != name}
        with pytest.raises(JudgeError, match=f"judge {config.kind} needs {name}"):
            build(JudgeConfig(config.kind, rest))
    for name in info.options:
        for wrong in (None, [None], {1: 2}, object()):
            with pytest.raises(JudgeError, match=f"{name} must be|{name}: "):
                build(JudgeConfig(config.kind, {**config.options, name: wrong}))


def test_files_must_exist_and_count_by_content(config: JudgeConfig, tmp_path: Path) -> None:
    for name in registry().judges[config.kind].files:
        missing = {**config.options, name: str(tmp_path / "nowhere" / "model")}
        assert any(
            (path == (name,) and "there is nothing" in text) or "is not there" in text
            for path, text in problems(config.kind, missing, measures=registry().judges[config.kind].measures)
        )
        assert str(missing[name]) in weights_of(JudgeConfig(config.kind, missing))
        assert name not in key_options(config)
