"""P4D: every step is upstream's mathematics, towards the un-erased model's own prediction."""

from __future__ import annotations

import torch
from tiny import PROMPTS, tiny_pipeline

from pytest_unlearndiff.attacks.p4d import EmbeddingAttack
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


def test_step(victim: DiffusionModel, targets: Targets) -> None:
    search = EmbeddingAttack(SPEC, victim, SHORT)
    (state,) = search.start(PROMPTS[:1], targets, 0)
    before, stream, vocabulary = state.variable.clone(), state.generator.get_state(), victim.vocabulary
    search._step([state])

    noise = torch.randn(state.x0.shape, generator=torch.Generator().set_state(stream))[None]
    base, erased = tiny_pipeline(0), tiny_pipeline(1)
    plain = base.tokenizer(PROMPTS[0].text, padding="max_length", return_tensors="pt").input_ids
    t = torch.tensor([250])
    x_t, _ = victim.add_noise(state.x0[None], noise, t)
    wanted = base.unet(x_t, t, encoder_hidden_states=base.text_encoder(plain)[0]).sample
    tokens = vocabulary.typeable[nearest(before, vocabulary.embeddings[vocabulary.typeable])]
    ids = torch.tensor([vocabulary.padded(state.slots.filled(tokens.tolist()))])
    slots = vocabulary.embeddings[tokens].clone().requires_grad_(True)
    whole = torch.cat([vocabulary.embeddings[ids[:, :1]], slots[None], vocabulary.embeddings[ids[:, 4:]]], 1)
    predicted = erased.unet(x_t, t, **victim._family.encode_ids(ids, whole).tensors).sample
    torch.nn.functional.mse_loss(predicted, wanted).backward()
    before.grad = slots.grad
    torch.optim.Adam([before], lr=0.01, weight_decay=0.1).step()
    torch.testing.assert_close(state.variable, before, atol=1e-5, rtol=0)
    assert (state.steps, state.forwards) == (1, 3)
