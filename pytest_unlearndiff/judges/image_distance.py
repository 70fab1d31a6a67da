"""Distances of two models' images to a reference: KID and FID, with torchmetrics, on features of any image model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_kernel

from ..core.quality import Figure


def kid_figure(victim: torch.Tensor, base: torch.Tensor, reference: torch.Tensor, *, paired: bool) -> Figure:
    """Compute KID of two models' images of the same captions, each to a reference, and the error of its increase.

    KID is the unbiased squared MMD of all features with the cubic kernel (Bińkowski et al. 2018, section 4). Images of
    one caption are alike, so that with a reference of the same captions no pair of one caption counts (Gretton et al.
    2012, equation 4); with others, every pair does (equation 3). The error is that of the jackknife: of the increases
    without one caption each (Efron and Stein 1981, equation 1.3).

    Args:
        victim: features (N, d) of one, N at least 3.
        base: features (N, d) of the other, in the same order.
        reference: features (M, d), M at least 2; of the same captions in the same order if ``paired``.
        paired: whether it is.
    """
    (own, increases), (other, others) = (
        _distances(side.double(), reference.double(), paired) for side in (victim, base)
    )
    increases, count = increases - others, len(increases)
    error = float(((count - 1) / count * ((increases - increases.mean()) ** 2).sum()).sqrt())
    within = _sums(reference.double(), reference.double()).mean_of_pairs
    return Figure(own + within, other + within, error)


def fid_figure(victim: torch.Tensor, base: torch.Tensor, reference: torch.Tensor) -> Figure:
    """Compute the Fréchet distance (Heusel et al. 2017) of each model's images to the reference.

    It grows as images get fewer, so that figures of different numbers of images cannot be compared.

    Args:
        victim: features (N, d), N more than d: otherwise no covariance has its full rank.
        base: features (N, d).
        reference: features (M, d), M more than d.
    """
    return Figure(*(_fid(side, reference) for side in (victim, base)))


def _fid(images: torch.Tensor, others: torch.Tensor) -> float:
    inception = torch.nn.Identity()  # the features are computed already
    inception.num_features = images.shape[1]  # type: ignore[assignment]  # which torchmetrics asks for
    fid = FrechetInceptionDistance(feature=inception)
    fid.update(others, real=True)
    fid.update(images, real=False)
    return float(fid.compute())


_ROWS = 1024
"""Rows of a kernel matrix that are in memory at once."""


@dataclass(frozen=True)
class _Sums:
    """Sums of a kernel matrix (N, M).

    Attributes:
        rows: of each row (N,).
        columns: of each column (M,).
        diagonal: the matrix's, of the shorter side's length.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    diagonal: torch.Tensor

    @property
    def mean_of_pairs(self) -> float:
        """Mean of a square matrix without its diagonal."""
        return float(self.rows.sum() - self.diagonal.sum()) / (len(self.rows) * (len(self.rows) - 1))

    @property
    def mean(self) -> float:
        """Mean of all."""
        return float(self.rows.sum()) / (len(self.rows) * len(self.columns))

    @property
    def pairs_without_one(self) -> torch.Tensor:
        """Means of a square matrix without its diagonal, without one row and its column each (N,)."""
        left = len(self.rows) - 1
        rest = self.rows.sum() - self.diagonal.sum() - self.rows - self.columns + 2 * self.diagonal
        return rest / (left * (left - 1))

    @property
    def without_one(self) -> torch.Tensor:
        """Means of all, without one row each (N,)."""
        return (self.rows.sum() - self.rows) / ((len(self.rows) - 1) * len(self.columns))


def _sums(features: torch.Tensor, others: torch.Tensor) -> _Sums:
    """Sum the kernel matrix of features (N, d) and (M, d), of which a part is in memory at once."""
    rows, columns = [], torch.zeros(len(others), dtype=features.dtype)
    for part in torch.split(features, _ROWS):
        kernel = poly_kernel(part, others)
        rows.append(kernel.sum(1))
        columns += kernel.sum(0)
    pairs = zip(torch.split(features, _ROWS), torch.split(others, _ROWS), strict=False)
    diagonal = torch.cat([poly_kernel(a[: len(b)], b[: len(a)]).diagonal() for a, b in pairs])
    return _Sums(torch.cat(rows), columns, diagonal)


def _distances(features: torch.Tensor, reference: torch.Tensor, paired: bool) -> tuple[float, torch.Tensor]:
    """Return KID to a reference less the reference's own part, of all and without one caption each (N,)."""
    own, cross = _sums(features, features), _sums(features, reference)
    if paired:
        return own.mean_of_pairs - 2 * cross.mean_of_pairs, own.pairs_without_one - 2 * cross.pairs_without_one
    return own.mean_of_pairs - 2 * cross.mean, own.pairs_without_one - 2 * cross.without_one
