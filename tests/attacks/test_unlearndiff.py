"""UnlearnDiffAtk's own search: projection, straight-through gradient, and a step written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import PROMPTS

from pytest_unlearndiff.attacks.schedules import RepeatedNoiseSchedule, SimplexSchedule
from pytest_unlearndiff.attacks.unlearndiff import SimplexAttack, project, sample, straight_through
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets

SHORT = SimplexSchedule((0.49, 0.25), steps=5)
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


def test_step(victim: DiffusionModel, targets: Targets) -> None:
    attack = SimplexAttack(AttackConfig(), victim, SHORT)
    (state,) = attack.start(PROMPTS[:1], targets, 0)
    stream = state.generator.get_state()
    attack._step([state])

    generator = torch.Generator().set_state(stream)
    vocabulary, size = victim.vocabulary, state.variable.shape[1]
    u = torch.full((3, size), 1 / size)
    choices = torch.multinomial(u, 1, generator=generator)
    one_hot = torch.zeros(3, size).scatter_(1, choices, 1.0).requires_grad_(True)
    ids = torch.tensor([vocabulary.padded(state.slots.filled(vocabulary.typeable[choices[:, 0]].tolist()))])
    slots = one_hot @ vocabulary.embeddings[vocabulary.typeable]
    whole = torch.cat([vocabulary.embeddings[ids[:, :1]], slots[None], vocabulary.embeddings[ids[:, 4:]]], 1)
    noise = torch.randn(state.x0.shape, generator=generator)
    conditioning = victim._family.encode_ids(ids, whole)
    error = victim.denoising_error(state.x0[None], noise[None], torch.tensor([490]), conditioning)
    error.sum().backward()
    assert one_hot.grad is not None
    u.grad = torch.nn.functional.hardtanh(one_hot.grad)
    torch.optim.Adam([u], lr=0.01, weight_decay=0.1).step()
    torch.testing.assert_close(state.variable, project(u), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [SimplexSchedule, RepeatedNoiseSchedule])
def test_repeated_noise(
    kind: type[SimplexSchedule], victim: DiffusionModel, targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[torch.Tensor] = []
    meant = victim.denoising_error

    def noted(x0: torch.Tensor, noise: torch.Tensor, *rest: Any) -> torch.Tensor:
        met.append(noise)
        return meant(x0, noise, *rest)

    monkeypatch.setattr(victim, "denoising_error", noted)
    search = SimplexAttack(AttackConfig(), victim, kind((0.49, 0.25), steps=3))
    states = search.start(PROMPTS[:1], targets, 0)
    assert [search.advance(states)[0] is None for _ in range(3)] == [False, False, True]
    first, second = met[:3], met[3:]
    assert not torch.equal(first[0], first[1])
    assert [torch.equal(*pair) for pair in zip(first, second, strict=True)] == [kind is RepeatedNoiseSchedule] * 3


def test_distributions_stay_distributions(victim: DiffusionModel, targets: Targets) -> None:
    attack = SimplexAttack(AttackConfig(), victim, SHORT)
    states = attack.start(PROMPTS, targets, 0)
    attack.advance(states)
    for state in states:
        assert (state.variable >= 0).all()
        torch.testing.assert_close(state.variable.sum(-1), torch.ones(3))
