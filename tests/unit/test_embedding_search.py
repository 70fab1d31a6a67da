"""P4D: every step is upstream's mathematics, towards the un-erased model's own prediction."""

from __future__ import annotations

import torch
from tiny import PROMPTS, tiny_pipeline

from pytest_unlearndiff.attacks.base import build_attack
from pytest_unlearndiff.attacks.p4d import EmbeddingLane, EmbeddingSearch
from pytest_unlearndiff.attacks.schedules import EmbeddingSchedule
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets

SPEC = AttackConfig("p4d")
SHORT = EmbeddingSchedule((0.25, 0.75), steps=3)


def nearest(free: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """By the definition of an angle, one pair at a time."""
    cosines = [[float(a @ b / (a.norm() * b.norm())) for b in table] for a in free]
    return torch.tensor(cosines).argmax(1)


def test_a_step_is_adam_at_the_nearest_tokens_towards_the_base_models_prediction(
    victim: DiffusionModel, targets: Targets
) -> None:
    search = EmbeddingSearch(SPEC, victim, SHORT)
    (lane,) = search.start(PROMPTS[:1], victim, targets, 0)
    before, state, vocabulary = lane.free.clone(), lane.generator.get_state(), victim.vocabulary
    search._step([lane], victim)

    noise = torch.randn(lane.x0.shape, generator=torch.Generator().set_state(state))[None]
    base, erased = tiny_pipeline(0), tiny_pipeline(1)
    plain = base.tokenizer(PROMPTS[0].text, padding="max_length", return_tensors="pt").input_ids
    t = torch.tensor([250])
    x_t, _ = victim.add_noise(lane.x0[None], noise, t)
    wanted = base.unet(x_t, t, encoder_hidden_states=base.text_encoder(plain)[0]).sample
    tokens = vocabulary.typeable[nearest(before, vocabulary.embeddings[vocabulary.typeable])]
    ids = lane.slots.padded(tokens.tolist(), vocabulary)[None]
    slots = vocabulary.embeddings[tokens].clone().requires_grad_(True)
    whole = torch.cat([vocabulary.embeddings[ids[:, :1]], slots[None], vocabulary.embeddings[ids[:, 4:]]], 1)
    predicted = erased.unet(x_t, t, **victim.encode(ids, whole).tensors).sample
    torch.nn.functional.mse_loss(predicted, wanted).backward()
    before.grad = slots.grad
    torch.optim.Adam([before], lr=0.01, weight_decay=0.1).step()
    torch.testing.assert_close(lane.free, before, atol=1e-5, rtol=0)
    assert (lane.steps, lane.forwards) == (1, 3)


def run(count: int, victim: DiffusionModel, targets: Targets) -> list[EmbeddingLane]:
    search, found = EmbeddingSearch(SPEC, victim, SHORT), []
    for first in range(0, 3, count):
        lanes = search.start(PROMPTS[first : first + count], victim, targets, 0)
        while any(search.advance(lanes, victim)):
            pass
        found += lanes
    return found


def test_lanes_together_do_what_each_does_alone(victim: DiffusionModel, targets: Targets) -> None:
    for together, alone in zip(run(3, victim, targets), run(1, victim, targets), strict=True):
        assert torch.equal(together.free, alone.free)
        assert together.inserted == alone.inserted


def test_it_ends_having_spent_what_the_schedule_says_and_leaves_the_global_stream_alone(
    victim: DiffusionModel, targets: Targets
) -> None:
    state = torch.get_rng_state()
    lane = run(1, victim, targets)[0]
    assert (lane.block, lane.steps, lane.forwards) == (2, 6, SHORT.work(0))
    assert lane.timestep == round(SHORT.timesteps[-1] * victim.timesteps)
    assert torch.equal(state, torch.get_rng_state())


def test_proposals_are_tokens_before_the_prompt(victim: DiffusionModel, targets: Targets) -> None:
    search = build_attack(SPEC, victim)
    assert isinstance(search, EmbeddingSearch)
    short = EmbeddingSearch(SPEC, victim, EmbeddingSchedule((0.5,), 1))
    lanes = short.start(PROMPTS[:2], victim, targets, 0)
    for drawing, lane in zip(short.advance(lanes, victim), lanes, strict=True):
        assert drawing is not None
        assert drawing.text == f"{lane.inserted} {lane.prompt.text}"


def test_an_error_that_is_no_number_ends_its_own_lane_only(victim: DiffusionModel, targets: Targets) -> None:
    search = EmbeddingSearch(SPEC, victim, SHORT)
    lanes = search.start(PROMPTS[:2], victim, targets, 0)
    lanes[0].x0 = torch.full_like(lanes[0].x0, torch.nan)
    drawings = search.advance(lanes, victim)
    assert drawings[0] is None
    assert "nan" in str(lanes[0].error)
    assert drawings[1] is not None
