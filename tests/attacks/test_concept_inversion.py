"""Concept inversion: every step is textual inversion's, on the victim, of an embedding before the prompt."""

from __future__ import annotations

import torch
from tiny import PROMPTS, tiny_pipeline

from pytest_unlearndiff.attacks.concept_inversion import InversionAttack
from pytest_unlearndiff.attacks.schedules import InversionSchedule
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.families.vocabulary import placeholder
from pytest_unlearndiff.models.target_images import Targets
from pytest_unlearndiff.models.tensor_text import unpack
from pytest_unlearndiff.reports.gate_report_parts import PromptReport

SHORT = InversionSchedule(2, 3, learning_rate=0.1, timesteps=(0.3, 0.9))


def test_step(victim: DiffusionModel, targets: Targets) -> None:
    search = InversionAttack(AttackConfig("concept-inversion"), victim, SHORT)
    (state,) = search.start(PROMPTS[:1], targets, 0)
    table, stream = victim.vocabulary.embeddings, torch.Generator().set_state(state.generator.get_state())
    scale = table[victim.vocabulary.typeable].square().mean(0).sqrt()
    before = state.variable.clone()
    assert (before * scale - table).abs().sum(1).min() < 1e-5, "it begins at a token"
    search._step([state])

    t = torch.randint(300, 900, (), generator=stream)[None]
    noise = torch.randn(state.x0.shape, generator=stream)[None]
    x_t, _ = victim.add_noise(state.x0[None], noise, t)
    pipe, free = tiny_pipeline(1), before.clone().requires_grad_(True)
    ids = pipe.tokenizer(f"? {PROMPTS[0].text}", padding="max_length", return_tensors="pt").input_ids
    whole = torch.cat([table[ids[:, :1]], (free * scale)[None], table[ids[:, 2:]]], 1)
    predicted = pipe.unet(x_t, t, **victim._family.encode_ids(ids, whole).tensors).sample
    torch.nn.functional.mse_loss(predicted, noise).backward()
    torch.optim.Adam([free], lr=0.1).step()
    torch.testing.assert_close(state.variable, free.detach(), atol=1e-5, rtol=0)
    assert (state.steps, state.forwards) == (1, 2)


def test_request_keeps_the_prompt_and_its_seed(victim: DiffusionModel, targets: Targets) -> None:
    search = InversionAttack(AttackConfig("concept-inversion", slots=5), victim, SHORT)
    (state,) = search.start(PROMPTS[:1], targets, 0)
    [request] = search.advance([state])
    assert request is not None
    assert (request.text, request.seed, request.guidance) == (PROMPTS[0].text, PROMPTS[0].seed, PROMPTS[0].guidance)
    assert unpack([str(request.embedding)])[0].tolist() == (state.variable[0] * search._scale).tolist()
    assert state.inserted is None

    outcome = Outcome(PROMPTS[0].digest, Status.HIT_UNDER_ATTACK, embedding=request.embedding)
    assert Outcome.from_dict(outcome.to_dict()) == outcome
    report = PromptReport.of(PROMPTS[0], outcome)
    assert (report.embedding, report.attacked) == (request.embedding_digest, None)


def test_placeholder_is_a_word_that_the_prompt_has_not(victim: DiffusionModel) -> None:
    vocabulary = victim.vocabulary
    word = vocabulary.text([placeholder("", vocabulary)])
    assert word.isalpha()
    other = vocabulary.text([placeholder(f"a {word.upper()} church", vocabulary)])
    assert other.isalpha()
    assert other != word
