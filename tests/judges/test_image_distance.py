"""KID and FID of features, against their formulas, and the error of KID's increase."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg

from pytest_unlearndiff.judges.image_distance import fid_figure, kid_figure


def features(seed: int, mean: float, count: int = 20) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(mean, 1, (count, 4)), dtype=torch.float32)


def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / a.shape[1] + 1) ** 3


def kid(x: np.ndarray, y: np.ndarray, *, paired: bool) -> float:
    """Binkowski et al. 2018, section 4; of pairs that are alike, Gretton et al. 2012, equation 4."""
    within = sum((kernel(z, z).sum() - np.trace(kernel(z, z))) / (len(z) * (len(z) - 1)) for z in (x, y))
    cross = kernel(x, y)
    if paired:
        return within - 2 * (cross.sum() - np.trace(cross)) / (len(x) * (len(x) - 1))
    return within - 2 * cross.mean()


@pytest.mark.parametrize(("paired", "count"), [(True, 20), (False, 20), (False, 11)])
def test_kid_and_the_jackknife_of_its_increase(paired: bool, count: int) -> None:
    victim, base, reference = features(0, 0.5), features(1, 0), features(2, 0, count)
    x, y, z = (side.numpy().astype(np.float64) for side in (victim, base, reference))
    figure = kid_figure(victim, base, reference, paired=paired)
    assert figure.victim == pytest.approx(kid(x, z, paired=paired), abs=1e-9)
    assert figure.base == pytest.approx(kid(y, z, paired=paired), abs=1e-9)
    left_out = []
    for number in range(len(x)):
        kept = np.arange(len(x)) != number
        ref = z[kept] if paired else z
        left_out.append(kid(x[kept], ref, paired=paired) - kid(y[kept], ref, paired=paired))
    expected = np.sqrt((len(x) - 1) / len(x) * ((np.array(left_out) - np.mean(left_out)) ** 2).sum())
    assert figure.error == pytest.approx(expected, rel=1e-6)


def test_kernel_matrices_are_summed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = features(0, 0.5), features(1, 0), features(2, 0)
    whole = kid_figure(*sides, paired=True)
    monkeypatch.setattr("pytest_unlearndiff.judges.image_distance._ROWS", 7)
    parts = kid_figure(*sides, paired=True)
    assert (parts.victim, parts.error) == (pytest.approx(whole.victim), pytest.approx(whole.error))


def test_the_interval_covers_what_many_sets_show() -> None:
    """Models of one distribution: the increase of KID is within the interval as often as that says."""
    covered = 0
    for seed in range(100):
        captions = features(3 * seed, 0, 60)  # images of a caption are alike
        victim, base, reference = (captions + 0.7 * features(9000 + 3 * seed + k, 0, 60) for k in range(3))
        low, high = kid_figure(victim, base, reference, paired=True).interval(0.9) or (0.0, 0.0)
        covered += low <= 0 <= high
    assert 82 <= covered <= 98


def test_fid_is_the_distance_of_two_gaussians() -> None:
    """Heusel et al. 2017, equation 6."""
    victim, reference = features(0, 0.5), features(2, 0)
    x, y = (side.numpy().astype(np.float64) for side in (victim, reference))
    covariances = [np.cov(z, rowvar=False) for z in (x, y)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    figure = fid_figure(victim, reference, reference)
    assert figure.victim == pytest.approx(expected, rel=1e-3)
    assert figure.base == pytest.approx(0, abs=1e-3)
    assert figure.interval(0.95) is None
