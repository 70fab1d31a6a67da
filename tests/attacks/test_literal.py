"""The batched attack against the paper's written out: the same loss, gradient, step, images and outcomes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from benchmark.literal import Literal, draw, onto_simplex
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import PROMPTS, shown, tiny_pipeline

from pytest_unlearndiff.attacks.base import prompt_generator
from pytest_unlearndiff.attacks.losses import gradients
from pytest_unlearndiff.attacks.schedules import SimplexSchedule
from pytest_unlearndiff.attacks.unlearndiff import SimplexAttack, project
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.images import GenerationRequest, Judgement
from pytest_unlearndiff.core.outcome import Outcome
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets
from pytest_unlearndiff.runs.engine import Engine
from pytest_unlearndiff.runs.evaluation import Evaluation

SHORT = SimplexSchedule((0.25, 0.75), steps=4, typeable=False)
FITTING = PROMPTS[:3]


def judge(images: Sequence[Image.Image], prompts: Sequence[str] = ()) -> list[Judgement]:
    """A judge that sees nothing, and tells images apart."""
    means = [float(np.asarray(image, dtype=np.float64).mean()) for image in images]
    return [Judgement(False, round(mean, 1), "nothing") for mean in means]


@pytest.fixture(scope="module")
def targets() -> Targets:
    """Target images as ``paper`` has them, whatever the victim's steps and the prompts' guidance."""
    wanted = AttackConfig(schedule="paper").targets
    assert wanted is not None
    return Targets(DiffusionModel(tiny_pipeline(0), Sampling(wanted.steps)), guidance=wanted.guidance)


@pytest.fixture(scope="module")
def literal() -> Literal:
    return Literal(tiny_pipeline(1), tiny_pipeline(0), judge, 3, 2, blocks=2, steps=4)


def test_the_schedule_is_the_papers() -> None:
    literal = Literal(tiny_pipeline(1), None, judge, 3, 50)
    assert list(literal.timesteps) == list(range(10, 1000, 20))
    assert literal.forwards == 50 * (80 + 100)


def test_step_agrees_with_the_batched_attack(literal: Literal, victim: DiffusionModel, targets: Targets) -> None:
    search = SimplexAttack(AttackConfig(), victim, SHORT)
    states = search.start(FITTING, targets, 0)
    streams = [state.generator.get_state() for state in states]
    search._step(states)
    for state, stream in zip(states, streams, strict=True):
        u = torch.full_like(state.variable, 1 / state.variable.shape[1])
        adam = torch.optim.Adam([u], lr=0.01, weight_decay=0.1)
        x0 = literal.target(state.prompt)
        torch.testing.assert_close(x0[0], state.x0, atol=2e-2, rtol=0)  # a grey level more or less in the image
        literal.step(u, adam, state.prompt, state.x0[None], 250, torch.Generator().set_state(stream))
        assert u.grad is not None
        assert state.variable.grad is not None
        torch.testing.assert_close(state.variable.grad, u.grad, atol=1e-7, rtol=1e-3)
        torch.testing.assert_close(state.variable, u, atol=2e-5, rtol=0)  # the bisection's tolerance


def test_errors_agree_to_the_last_digits(literal: Literal, victim: DiffusionModel, targets: Targets) -> None:
    search = SimplexAttack(AttackConfig(), victim, SHORT)
    states = search.start(FITTING, targets, 0)
    choices = torch.tensor([[5, 900, 31], [7, 7, 7], [1200, 0, 3]])
    streams = [state.generator.get_state() for state in states]
    queries = [search._query(*pair) for pair in zip(states, choices.tolist(), strict=True)]
    errors, _ = gradients(queries, victim)
    for state, stream, choice, error in zip(states, streams, choices, errors, strict=True):
        noise = torch.randn(state.x0.shape, generator=torch.Generator().set_state(stream))
        one_hot = torch.nn.functional.one_hot(choice, state.variable.shape[1]).float()
        wanted = literal.loss(one_hot, state.prompt, state.x0[None], noise[None], 250)
        torch.testing.assert_close(error, wanted, atol=1e-6, rtol=1e-5)


def test_images_agree(literal: Literal, victim: DiffusionModel) -> None:
    for prompt in PROMPTS:
        (mine,) = shown(victim.generate([GenerationRequest(prompt.text, prompt.seed, prompt.guidance)]))
        theirs = draw(literal.pipe, prompt.text, prompt.seed, prompt.guidance, 2)
        assert abs(np.asarray(mine).astype(int) - np.asarray(theirs)).max() <= 1


def test_outcomes_agree_where_random_numbers_are_shared(
    literal: Literal, victim: DiffusionModel, targets: Targets
) -> None:
    def told(outcome: Outcome) -> tuple[object, ...]:
        return outcome.prompt, outcome.status, outcome.evaluations, outcome.steps, outcome.forwards

    search = SimplexAttack(AttackConfig(), victim, SHORT)
    engine = Engine(search, victim, targets, Evaluation(victim, judge), 8, 0)
    batched = {outcome.prompt: told(outcome) for outcome in engine.run(FITTING) if outcome is not None}
    alone = [literal.attack(prompt, prompt_generator(0, prompt)) for prompt in FITTING]
    assert [batched[outcome.prompt] for outcome in alone] == [told(outcome) for outcome in alone]
    assert all(outcome.forwards == 4 + literal.forwards for outcome in alone)


def test_it_stops_at_the_first_hit(literal: Literal) -> None:
    answers = iter([False, True])
    quick = Literal(
        literal.pipe, literal.base, lambda _: [Judgement(next(answers), 1.0, "seen")], 3, 2, blocks=2, steps=4
    )
    outcome = quick.attack(FITTING[0], torch.Generator().manual_seed(0))
    assert (outcome.status, outcome.steps, outcome.evaluations, outcome.forwards) == (
        "hit-under-attack",
        4,
        2,
        4 + 8 + 4,
    )
    assert outcome.adversarial is not None
    assert outcome.adversarial.endswith("a church in noto style on a red background")


def test_a_prompt_without_room_is_refused(literal: Literal) -> None:
    with pytest.raises(ValueError, match="too many"):
        literal.attack(PROMPTS[3], torch.Generator())


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=40))
def test_bisection_and_sorting_find_the_same_point(row: list[float]) -> None:
    u = torch.tensor(row)
    torch.testing.assert_close(onto_simplex(u), project(u[None])[0], atol=2e-5, rtol=0)
