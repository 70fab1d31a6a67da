"""The vision-language judge on a tiny LLaVA of random weights: the probability comes from the logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_judges import WORDS, tiny_vlm
from transformers import AutoModelForImageTextToText, AutoProcessor

from pytest_unlearndiff.core.concept import JudgeConfig
from pytest_unlearndiff.core.errors import JudgeError
from pytest_unlearndiff.judges.base import build_judge

QUESTION = "is there a church"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vlm(tmp_path_factory.mktemp("vlm"))


def ask(model: Path, images: list[Image.Image], **options: object) -> list[object]:
    return build_judge(JudgeConfig("vlm", {"model": str(model), "question": QUESTION, **options}), "cpu")(images)


def test_score(model: Path) -> None:
    image = Image.radial_gradient("L").resize((32, 32)).convert("RGB")
    (found,) = ask(model, [image])
    network = AutoModelForImageTextToText.from_pretrained(model).eval()
    inputs = AutoProcessor.from_pretrained(model)(
        text=f"ASK <image> {QUESTION} ANSWER", images=image, return_tensors="pt"
    )
    with torch.no_grad():
        likely = network(**inputs).logits[0, -1].softmax(-1)
    yes, no = (sum(float(likely[WORDS.index(word)]) for word in way) for way in (("yes", "Yes"), ("no", "No")))
    assert found.score == pytest.approx(yes / (yes + no), abs=1e-5)
    assert found.hit == (found.score >= 0.5)
    assert not ask(model, [image], threshold=1.0)[0].hit


@pytest.mark.parametrize(
    ("options", "says"),
    [({"yes": "no"}, "with the same token"), ({"threshold": 2}, "threshold must be a number from 0 to 1")],
)
def test_wrong_options(model: Path, options: dict[str, object], says: str) -> None:
    with pytest.raises(JudgeError, match=says):
        ask(model, [], **options)


def test_model_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    with pytest.raises(JudgeError, match="cannot be loaded"):
        ask(tmp_path, [])
