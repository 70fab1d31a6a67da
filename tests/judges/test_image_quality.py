"""Features of image models and CLIP scores, as gates on image quality keep them."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import EMOJI
from tiny_judges import tiny_clip

from pytest_unlearndiff.core.errors import JudgeError
from pytest_unlearndiff.judges.clip import ClipScore
from pytest_unlearndiff.judges.image_classifier import ImageClassifier
from pytest_unlearndiff.judges.image_quality import ImageFeatures, ImageQuality
from pytest_unlearndiff.models.tensor_text import unpack


def test_features_of_classifiers_and_of_clip(tmp_path: Path) -> None:
    images = [Image.new("RGB", (40, 40), colour) for colour in ("red", "white", "black")]
    for model in (str(EMOJI / "judge" / "object"), str(tiny_clip(tmp_path))):
        features = ImageFeatures(model)
        together = features(images)
        assert together.ndim == 2
        assert len(together) == 3
        torch.testing.assert_close(features(images[1:2])[0], together[1], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(together[0], together[1])
    with pytest.raises(JudgeError, match="image model /nowhere cannot be loaded"):
        ImageFeatures("/nowhere")


def test_missing_weights(tmp_path: Path) -> None:
    """Made up by transformers, they would be other ones in every process."""
    folder = shutil.copytree(EMOJI / "judge" / "object", tmp_path / "judge")
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.endswith("convolution.weight")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    for load in (ImageFeatures, partial(ImageClassifier, label="church")):
        with pytest.raises(JudgeError, match=r"model .* tensors are not in its files, such as"):
            load(str(folder))


def test_an_image_has_its_features_and_its_cosine(tmp_path: Path) -> None:
    images = [Image.new("RGB", (40, 40), colour) for colour in ("red", "white")]
    clip, texts = str(tiny_clip(tmp_path)), ["a church", "a fish"]
    network = str(EMOJI / "judge" / "object")
    both = ImageQuality(network, clip)(images, texts)
    assert [answer.score for answer in both] == [answer.score for answer in ClipScore(clip, 0.2)(images, texts)]
    assert torch.equal(unpack([str(answer.features) for answer in both]), ImageFeatures(network)(images))
    assert [answer.features for answer in ImageQuality(clip=clip)(images, texts)] == [None, None]
    assert all(answer.hit for answer in both)
