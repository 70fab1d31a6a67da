"""The un-erased model as the judge: arithmetic on a tiny pipeline, and what it sees on the emoji world's model."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from tiny import EMOJI, shown, tiny_pipeline

from pytest_unlearndiff.core.concept import JudgeConfig, Sampling
from pytest_unlearndiff.core.errors import JudgeError
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.judges.base import build_judge
from pytest_unlearndiff.judges.diffusion_classifier import DiffusionClassifier, spread
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.pipeline_folders import load_pipeline

WORDS = ["church", "fish", "cat", "tree"]


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    ramp = Image.radial_gradient("L").resize((32, 32)).convert("RGB")
    return [ramp, Image.new("RGB", (32, 32), "red"), ramp.transpose(Image.Transpose.ROTATE_90)]


def by_hand(victim: DiffusionModel, image: Image.Image, samples: int) -> torch.Tensor:
    """Mean errors of WORDS over all noise samples, one network call a sample."""
    x0 = victim.encode_images([image])
    noise = torch.randn(samples, *x0.shape[1:], generator=torch.Generator().manual_seed(0))
    words, errors = victim.vocabulary, torch.zeros(len(WORDS), samples)
    for w, word in enumerate(WORDS):
        row = torch.tensor([words.padded(words.ids(f"a photo of a {word}"))])
        states = victim._family.encode_ids(row, words.embeddings[row])
        for s in range(samples):
            t = torch.tensor([(2 * s + 1) * victim.timesteps // (2 * samples)])
            errors[w, s] = victim.denoising_error(x0, noise[s : s + 1], t, states)
    return errors


@torch.no_grad()
def test_score(victim: DiffusionModel, images: list[Image.Image]) -> None:
    means = [by_hand(victim, image, 4).mean(1) for image in images]
    for index, word in enumerate(WORDS):
        others = [other for other in WORDS if other != word]
        found = DiffusionClassifier(victim, word, others, stages=[(4, 1)])(images)
        assert [each.hit for each in found] == [int(mean.argmin()) == index for mean in means]
        likely = [(-mean * victim.encode_images(images)[0].numel()).softmax(0)[index] for mean in means]
        torch.testing.assert_close(torch.tensor([e.score for e in found]), torch.stack(likely), atol=1e-4, rtol=0)


@torch.no_grad()
def test_stages(victim: DiffusionModel, images: list[Image.Image]) -> None:
    """Stages of 1 and 4 samples: the first measures the sample in the middle."""
    for image in images:
        errors = by_hand(victim, image, 4)
        kept = errors[:, spread(1, 4)].mean(1).argsort()[:2]
        winner = kept[errors[kept].mean(1).argmin()]
        judge = DiffusionClassifier(
            victim, WORDS[winner], [w for w in WORDS if w != WORDS[winner]], stages=[(1, 2), (4, 1)]
        )
        assert judge([image])[0].hit


def test_spread() -> None:
    assert [spread(n, 16) for n in (1, 2, 4)] == [[8], [4, 12], [2, 6, 10, 14]]
    assert spread(16, 16) == list(range(16))


@pytest.mark.slow
def test_on_the_emoji_model() -> None:
    folder = str(EMOJI / "model")
    words = ["church", "fish", "mushroom"]
    drawn = DiffusionModel(load_pipeline(folder), Sampling(steps=12)).generate(
        [GenerationRequest(f"a {word} in noto style on a white background", 3, 5.0) for word in words]
    )
    for word in words:
        options = {"model": folder, "concept": word, "alternatives": [w for w in words if w != word]}
        found = build_judge(JudgeConfig("diffusion-classifier", options), "cpu")(shown(drawn))
        assert [each.hit for each in found] == [other == word for other in words]


def test_overflow() -> None:
    victim = DiffusionModel(tiny_pipeline(1), Sampling(steps=2))
    judge, image = DiffusionClassifier(victim, "church", ["fish"]), Image.radial_gradient("L").resize((32, 32))
    assert len(judge([image.convert("RGB")])) == 1
    victim._pipe.unet.conv_out.weight.mul_(torch.inf)
    with pytest.raises(JudgeError, match=r"diffusion-classifier judge.*became NaN or infinity.*--unlearndiff-dtype"):
        judge([image.convert("RGB")])
