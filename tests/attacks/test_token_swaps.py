"""Token swaps: one per round, measured on a bank of noise that every choice of a state shares."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import PROMPTS

from pytest_unlearndiff.attacks.losses import ClassifierLoss, LossQuery, denoising_losses, gradients
from pytest_unlearndiff.attacks.schedules import TokenSwapSchedule
from pytest_unlearndiff.attacks.slots import Choice
from pytest_unlearndiff.attacks.token_swaps import SwapState, TokenSwapAttack, _best
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.models.device import error_batch
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets

CLASSIFIER = AttackConfig(loss="classifier")
SHORT = TokenSwapSchedule((0.35, 0.65), rounds=4, screened=6, measured=3)


def begin(
    prompts: list[Prompt], victim: DiffusionModel, targets: Targets, schedule: TokenSwapSchedule = SHORT, **spec: Any
) -> tuple[TokenSwapAttack, list[SwapState]]:
    """The search, and its states at their start."""
    search = TokenSwapAttack(replace(AttackConfig(), **spec), victim, schedule)
    return search, search.start(prompts, targets, 0)


def error_at(search: TokenSwapAttack, state: SwapState, choice: Choice, victim: DiffusionModel, *entries: int) -> float:
    """A choice's mean error at these entries of the state's bank."""
    return float(denoising_losses(search._queries(state, choice, entries), victim).mean())


def promising(search: TokenSwapAttack, state: SwapState, victim: DiffusionModel) -> list[Choice]:
    """For each slot, its swaps from best to worst by the gradient, worked out one by one."""
    _, slopes = gradients(search._queries(state, state.choice, range(2)), victim)
    slope, vocabulary = slopes.mean(0), victim.vocabulary
    table = vocabulary.embeddings[vocabulary.typeable]
    ranked = []
    for slot in range(3):
        gain = {token: -float(slope[slot] @ table[token]) for token in range(len(table)) if token != state.choice[slot]}
        best = sorted(gain, key=gain.__getitem__, reverse=True)
        ranked.append([(*state.choice[:slot], token, *state.choice[slot + 1 :]) for token in best])
    return [swap for row in zip(*ranked, strict=True) for swap in row]


def test_round(victim: DiffusionModel, targets: Targets) -> None:
    search, (state,) = begin(PROMPTS[:1], victim, targets)
    before = state.choice
    named = promising(search, state, victim)[: SHORT.screened]
    search.advance([state])
    measured = state.tried - {before}
    rough = {choice: error_at(search, state, choice, victim, 0) for choice in named}
    assert measured == set(sorted(named, key=rough.__getitem__)[: SHORT.measured])
    assert state.choice == min(measured, key=lambda choice: error_at(search, state, choice, victim, 0, 1))


def test_screening_entry_changes_each_round(victim: DiffusionModel, targets: Targets) -> None:
    search, (state,) = begin(PROMPTS[:1], victim, targets)
    named = [promising(search, state, victim)]
    rough = []
    for entry in range(2):
        state.round = entry
        rough.append(search._screen([state], named)[0])
        errors_there = [error_at(search, state, choice, victim, entry) for choice in rough[-1]]
        assert errors_there == sorted(errors_there)
    assert rough[0] != rough[1]


def test_choices_are_measured_once(victim: DiffusionModel, targets: Targets) -> None:
    search, (state,) = begin(PROMPTS[:1], victim, targets)
    proposals = [search.advance([state])[0] for _ in range(SHORT.rounds)]
    assert len(set(proposals)) == SHORT.rounds
    assert len(state.tried) == 1 + SHORT.rounds * SHORT.measured


def test_restart(victim: DiffusionModel, targets: Targets) -> None:
    search, (state,) = begin(PROMPTS[:1], victim, targets, replace(SHORT, restart=2))
    banks, distances = [state.noise], []
    for _ in range(SHORT.rounds):
        before = state.choice
        search.advance([state])
        banks.append(state.noise)
        distances.append(sum(old != new for old, new in zip(before, state.choice, strict=True)))
    assert [banks[n] is banks[n + 1] for n in range(4)] == [True, True, False, True]
    assert not (banks[0] == banks[-1]).any()
    assert [distance == 1 for distance in distances] == [True, True, False, True]
    assert state.forwards == SHORT.forward_passes(0), "beginning again costs nothing"


def test_exhausted_vocabulary(victim: DiffusionModel, targets: Targets) -> None:
    vocabulary = len(victim.vocabulary.typeable)
    search, (state,) = begin(
        PROMPTS[:1], victim, targets, TokenSwapSchedule((0.5,), 3, vocabulary, vocabulary), slots=1
    )
    assert [search.advance([state])[0] is None for _ in range(3)] == [False, True, True]
    assert len(state.tried) == vocabulary
    assert state.error is None


def test_classifier_loss_is_negative_log_probability() -> None:
    others, found = torch.tensor([[0.5, 0.2], [0.4, 0.3]]), torch.tensor([[0.45, 0.25], [0.1, 0.9]])
    classifier = ClassifierLoss(others, size=10)
    for entry in range(2):
        squares = 10 * torch.stack([found[:, entry], *others[:, entry, None].expand(2, 2)])  # ours, then theirs
        wanted = -(-squares).log_softmax(0)[0]
        torch.testing.assert_close(classifier.loss(found, range(2))[:, entry], wanted)
        torch.testing.assert_close(classifier.loss(found[:, [entry]], [entry])[:, 0], wanted)


def test_classifier_weights_are_the_derivative() -> None:
    classifier = ClassifierLoss(torch.tensor([[0.5, 0.2], [0.4, 0.3]]), size=10)
    found = torch.tensor([[0.45, 0.25], [0.1, 0.9]], requires_grad=True)
    (slope,) = torch.autograd.grad(classifier.loss(found, range(2)).sum(), found)
    torch.testing.assert_close(classifier.weights(found.detach(), range(2)), slope)


def test_classifier_loss_of_large_latents() -> None:
    classifier = ClassifierLoss(torch.tensor([[0.0], [1.0]]), size=4 * 128 * 128)
    loss = classifier.loss(torch.tensor([[0.5], [2.0], [-3.0]]), [0])
    assert torch.isfinite(loss).all()
    torch.testing.assert_close(loss[:2, 0], torch.tensor([0.5, 2.0]) * 4 * 128 * 128)
    assert loss[2] == 0


def test_classifier_references_share_the_bank(victim: DiffusionModel, targets: Targets) -> None:
    search = TokenSwapAttack(CLASSIFIER, victim, SHORT)
    (state,) = search.start(PROMPTS[:1], targets, 0)
    assert state.classifier is not None
    assert state.classifier.others.shape == (2, 2)
    assert state.classifier.size == state.x0.numel()
    assert state.forwards == 4
    for text, row in zip((PROMPTS[0].text, ""), state.classifier.others, strict=True):
        slots = victim.vocabulary.unattacked(text)
        bank = [LossQuery(slots, [], state.x0, state.noise[m], t) for m, t in enumerate((350, 650))]
        torch.testing.assert_close(denoising_losses(bank, victim), row)


def test_classifier_gradient(victim: DiffusionModel, targets: Targets) -> None:
    search = TokenSwapAttack(CLASSIFIER, victim, SHORT)
    (state,) = search.start(PROMPTS[:1], targets, 0)
    assert state.classifier is not None
    found, slopes = gradients(search._queries(state, state.choice, range(2)), victim)
    weights = state.classifier.weights(found[None], range(2))[0]
    wanted = (weights[:, None, None] * slopes).mean(0)
    torch.testing.assert_close(search._slopes([state])[0], wanted)


def test_classifier_round(victim: DiffusionModel, targets: Targets) -> None:
    search = TokenSwapAttack(CLASSIFIER, victim, SHORT)
    (state,) = search.start(PROMPTS[:1], targets, 0)
    assert state.classifier is not None
    before = set(state.tried)
    search.advance([state])

    def loss(choice: tuple[int, ...]) -> float:
        assert state.classifier is not None
        found = denoising_losses(search._queries(state, choice, range(2)), victim)
        return float(state.classifier.loss(found[None], range(2)).mean())

    assert state.choice == min(state.tried - before, key=loss)


@given(
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, float("inf"), float("nan")]), min_size=1, max_size=30), st.integers(1, 40)
)
def test_best_tokens_are_those_of_a_stable_sort(promise: list[float], count: int) -> None:
    row = torch.tensor(promise)
    order = row.nan_to_num(nan=-torch.inf, posinf=torch.inf).argsort(descending=True, stable=True)
    assert _best(row, count) == order[:count].tolist()


def test_each_text_is_encoded_once_and_changes_no_loss(
    victim: DiffusionModel, targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, states = begin(PROMPTS[:3], victim, targets)
    queries = [query for _ in range(2) for state in states for query in search._queries(state, state.choice, [0, 1])]
    alone = torch.cat([denoising_losses([query], victim) for query in queries])
    encoded: list[int] = []
    encode = DiffusionModel.encode

    def counted(self: DiffusionModel, prompts: Any, *slots: Any) -> Any:
        encoded.append(len(prompts))
        return encode(self, prompts, *slots)

    monkeypatch.setattr(DiffusionModel, "encode", counted)
    assert torch.equal(denoising_losses(queries, victim), alone)
    assert encoded == [error_batch()]
