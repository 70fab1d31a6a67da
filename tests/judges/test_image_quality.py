"""KID and FID of features, against their formulas, and the features of image models."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy import linalg
from tiny import EMOJI
from tiny_judges import tiny_clip

from pytest_unlearndiff.core.errors import JudgeError
from pytest_unlearndiff.judges.image_classifier import ImageClassifier
from pytest_unlearndiff.judges.image_quality import ImageFeatures, image_distance


@pytest.fixture
def sets() -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(0)
    return tuple(torch.tensor(random.normal(mean, 1, (20, 4)), dtype=torch.float32) for mean in (0.5, 0))  # type: ignore[return-value]


@pytest.mark.parametrize("size", [20, 13])
def test_kid_is_the_unbiased_mmd_of_a_cubic_kernel(sets: tuple[torch.Tensor, torch.Tensor], size: int) -> None:
    """Binkowski et al. 2018, section 4, of all features, also where the sets differ in size."""
    sets = sets[0][:size], sets[1]
    x, y = (features.numpy().astype(np.float64) for features in sets)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    within = sum((kernel(z, z).sum() - np.trace(kernel(z, z))) / (len(z) * (len(z) - 1)) for z in (x, y))
    before = torch.get_rng_state()
    found = image_distance(*sets)
    assert found.kid == pytest.approx(within - 2 * kernel(x, y).mean(), rel=1e-9)
    assert torch.equal(before, torch.get_rng_state()), "the global random stream is left alone"


def test_fid_is_the_distance_of_two_gaussians(sets: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Heusel et al. 2017, equation 6."""
    x, y = (features.numpy().astype(np.float64) for features in sets)
    covariances = [np.cov(z, rowvar=False) for z in (x, y)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert image_distance(*sets).fid == pytest.approx(expected, rel=1e-3)
    assert image_distance(sets[0], sets[0]).fid == pytest.approx(0, abs=1e-3)


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
