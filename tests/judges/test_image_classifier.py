"""The classifier judge, on the emoji world's own judge and an image made here."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from tiny import EMOJI
from transformers import AutoModelForImageClassification

from pytest_unlearndiff.core.concept import JudgeConfig
from pytest_unlearndiff.core.errors import JudgeError
from pytest_unlearndiff.judges.base import build_judge
from pytest_unlearndiff.judges.image_classifier import ImageClassifier

MODEL = str(EMOJI / "judge" / "object")


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return Image.radial_gradient("L").resize((64, 64)).convert("RGB")


@pytest.fixture(scope="module")
def ranking(image: Image.Image) -> list[str]:
    """The judge's labels for the image, most likely first, by the model itself."""
    model = AutoModelForImageClassification.from_pretrained(MODEL, dtype=torch.float32).eval()
    pixels = torch.tensor(list(image.tobytes())).view(64, 64, 3).permute(2, 0, 1) / 127.5 - 1
    order = model(pixels[None]).logits[0].argsort(descending=True).tolist()
    return [model.config.id2label[i] for i in order]


@pytest.mark.parametrize("top", [1, 3])
def test_top(image: Image.Image, ranking: list[str], top: int) -> None:
    hits = [ImageClassifier(MODEL, label, top=top)([image])[0].hit for label in ranking]
    assert hits == [rank < top for rank in range(len(ranking))]


def test_several_labels(image: Image.Image, ranking: list[str]) -> None:
    """A hit is any of them among the highest; the score is their probability together."""
    judges = [ImageClassifier(MODEL, label) for label in (ranking[1:3], ranking[1], ranking[2], ranking[:3:2])]
    both, second, third, first = (judge([image])[0] for judge in judges)
    assert (both.hit, first.hit) == (False, True)
    assert both.score == pytest.approx(second.score + third.score)
    assert ImageClassifier(MODEL, ranking[1:3], top=2)([image])[0].hit


def test_threshold_and_detail(image: Image.Image, ranking: list[str]) -> None:
    (judgement,) = ImageClassifier(MODEL, ranking[0])([image])
    assert judgement.detail.startswith(ranking[0])
    (stricter,) = ImageClassifier(MODEL, ranking[0], threshold=judgement.score + 1e-6)([image])
    assert judgement.hit
    assert not stricter.hit


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("image-classifier", {"model": MODEL, "label": "cathedral"}, "has no label 'cathedral': known: cat, church"),
        ("image-classifier", {"model": MODEL}, "needs label; it takes model, label"),
        ("image-classifier", {"model": MODEL, "label": "church", "topk": 3}, "no option 'topk': did you mean 'top'"),
        ("image-classifier", {"model": "/nowhere", "label": "church"}, "nothing at /nowhere"),
        ("crystal-ball", {}, "no judge 'crystal-ball': known: "),
    ],
)
def test_wrong_options(kind: str, options: dict[str, object], reason: str) -> None:
    with pytest.raises(JudgeError, match=reason):
        build_judge(JudgeConfig(kind, options), "cpu")
