"""The relaxation: projection onto the simplex, and the straight-through gradient."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_unlearndiff.attacks.simplex import project, sample, straight_through

ROWS = st.lists(st.lists(st.floats(-3, 3, width=32), min_size=7, max_size=7), min_size=1, max_size=4)


def bisected(row: torch.Tensor) -> torch.Tensor:
    """The projection found by bisection on its threshold, in double precision."""
    low, high = float(row.min()) - 1, float(row.max())
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if float((row - middle).clamp(0, 1).sum()) > 1 else (low, middle)
    return (row - high).clamp(0, 1)


@given(ROWS)
def test_projection_is_the_nearest_distribution(rows: list[list[float]]) -> None:
    u = torch.tensor(rows, dtype=torch.float64)
    projected = project(u)
    assert (projected >= 0).all()
    torch.testing.assert_close(projected.sum(-1), torch.ones(len(rows), dtype=torch.float64))
    torch.testing.assert_close(projected, torch.stack([bisected(row) for row in u]), atol=1e-9, rtol=0)


@given(ROWS)
def test_projection_leaves_distributions_alone(rows: list[list[float]]) -> None:
    once = project(torch.tensor(rows, dtype=torch.float64))
    torch.testing.assert_close(project(once), once)


def test_straight_through_is_the_clipped_gradient_of_the_one_hot() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(11, 5, generator=generator)
    one_hot = torch.nn.functional.one_hot(torch.tensor([3, 8]), 11).float().requires_grad_(True)
    weights = 4 * torch.randn(2, 5, generator=generator)
    (one_hot @ embeddings).mul(weights).sum().backward()
    assert one_hot.grad is not None
    expected = torch.nn.functional.hardtanh(one_hot.grad)
    assert (expected.abs() == 1).any()
    torch.testing.assert_close(straight_through(weights, embeddings), expected)


def test_sampling_follows_the_distribution_and_the_generator() -> None:
    certain = torch.eye(9)[[2, 5]]
    assert sample(certain, torch.Generator().manual_seed(0)).tolist() == [2, 5]
    even = torch.full((3, 1000), 1 / 1000)
    draws = [sample(even, torch.Generator().manual_seed(seed)).tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
