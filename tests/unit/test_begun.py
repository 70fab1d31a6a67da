"""A prompt that goes on in another process ends as if it had stayed: every attack, at every round."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from tiny import PROMPTS, tiny_pipeline

from pytest_unlearndiff.attacks.base import PromptState, build_attack
from pytest_unlearndiff.attacks.schedules import (
    P4D,
    RING_A_BELL,
    UNLEARNDIFF,
    EmbeddingSchedule,
    GeneticSchedule,
    RepeatedNoiseSchedule,
    SimplexSchedule,
    TokenSwapSchedule,
)
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Prompt, Sampling
from pytest_unlearndiff.core.drawing import GenerationRequest
from pytest_unlearndiff.core.judgement import Judgement
from pytest_unlearndiff.core.known_prompts import KnownPrompt, KnownPrompts
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets
from pytest_unlearndiff.runs.begun import Begun, Packer
from pytest_unlearndiff.runs.engine import Engine, PendingPrompt, RunningPrompt
from pytest_unlearndiff.runs.evaluation import Evaluation

KNOWN = KnownPrompts(
    tuple(KnownPrompt(PROMPTS[0].digest, GenerationRequest(f"{n} church", 1, 5.0), str(n)) for n in range(3))
)

SPECS = {
    "fast": AttackConfig(),
    "classifier": AttackConfig(loss="classifier"),
    "paper": AttackConfig(schedule="paper"),
    "repeated": AttackConfig(schedule="paper+repeated-noise"),
    "p4d": AttackConfig("p4d"),
    "ring-a-bell": AttackConfig("ring-a-bell", word="church"),
    "random": AttackConfig("random"),
    "seed-search": AttackConfig("seed-search"),
    "transfer": AttackConfig("transfer", known=KNOWN),
}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UNLEARNDIFF, "fast", TokenSwapSchedule((0.35, 0.65), 3, 4, 2, restart=2))  # type: ignore[arg-type]
    monkeypatch.setitem(UNLEARNDIFF, "paper", SimplexSchedule((0.3, 0.5, 0.7), steps=2))  # type: ignore[arg-type]
    monkeypatch.setitem(UNLEARNDIFF, "paper+repeated-noise", RepeatedNoiseSchedule((0.3, 0.5, 0.7), steps=2))  # type: ignore[arg-type]
    monkeypatch.setitem(P4D, "fast", EmbeddingSchedule((0.3, 0.5, 0.7), steps=2))  # type: ignore[index]
    monkeypatch.setitem(RING_A_BELL, "fast", GeneticSchedule(3, 2, population=8))  # type: ignore[index]


def never(images: Sequence[Image.Image]) -> list[Judgement]:
    """Sees the concept in no image, and says something of each that depends on all of its pixels."""
    return [Judgement(False, sum(image.tobytes()) / 1e7, "") for image in images]


def engine(spec: AttackConfig, batch_size: int = 2) -> Engine:
    """As in a process of its own: nothing is shared with another engine but what random weights are made of."""
    victim, base = (DiffusionModel(tiny_pipeline(seed), Sampling(steps=2)) for seed in (1, 0))
    return Engine(build_attack(spec, victim), victim, Targets(base), Evaluation(victim, never), batch_size, 0)


def wandering(spec: AttackConfig, prompt: Prompt) -> tuple[Outcome, int]:
    """Attack a prompt, every round of it in another process; returns its outcome and how often it moved."""
    coming: list[Prompt | Begun] = [prompt]

    def arrived() -> list[Prompt | Begun]:
        came = list(coming)
        coming.clear()
        return came

    moves = 0
    while True:
        here = engine(spec)
        serving = here.serve(arrived)
        while not (begun := here.give_back()):
            if (outcome := next(serving)) is not None:
                return outcome, moves
        coming += pickle.loads(pickle.dumps(begun))
        assert here.give_back() == []
        moves += 1


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_prompt_that_moves_after_every_round_ends_as_one_that_stays(spec: AttackConfig) -> None:
    [stays] = [outcome for outcome in engine(spec).run(PROMPTS[:1]) if outcome is not None]
    moved, moves = wandering(spec, PROMPTS[0])
    assert stays.status is Status.RESISTED
    assert moves >= 2, "it never left"
    assert replace(moved, seconds=0) == replace(stays, seconds=0)


def test_models_stay_where_they_are() -> None:
    victim, base = (DiffusionModel(tiny_pipeline(seed), Sampling(steps=2)) for seed in (1, 0))
    here, there = Packer(victim, Targets(base)), Packer(base, Targets(victim))
    seat = seated(base=base, victim=victim)
    begun = here.pack(seat)
    assert begun is not None
    assert begun.prompt == PROMPTS[0]
    assert len(begun.packed) < 10_000
    state: Any = there.unpack(begun).state
    assert (state.base, state.victim) == (victim, base)


@pytest.mark.parametrize("spec", [SPECS["fast"], SPECS["paper"], SPECS["p4d"]], ids=["fast", "paper", "p4d"])
def test_a_prompt_travels_without_those_that_it_was_begun_with(spec: AttackConfig) -> None:
    sizes = []
    for count in (1, len(PROMPTS)):
        here = engine(spec, batch_size=count)
        serving = here.serve(iter([PROMPTS[:count], []]).__next__)
        while not (begun := here.give_back()):
            next(serving)
        sizes.append(max(len(each.packed) for each in begun))
    alone, together = sizes
    assert together < 1.1 * alone


def test_a_prompt_that_is_tried_alone_stays_where_it_is() -> None:
    here = engine(SPECS["random"])
    judge, failures = here._evaluate._judge, [RuntimeError("something failed")]

    def once(images: Sequence[Image.Image]) -> list[Judgement]:
        if here._seats and failures:
            raise failures.pop()
        return judge(images)

    here._evaluate._judge = once
    serving = here.serve(iter([PROMPTS[:2], *[[]] * 100]).__next__)
    while failures:
        next(serving)
    next(serving)
    assert len(here._seats) == 1
    assert here.give_back() == []


@pytest.mark.parametrize("what", ["another victim", "a module", "a function", "a base where there is none"])
def test_what_cannot_leave_its_process_stays(what: str) -> None:
    victim, other = (DiffusionModel(tiny_pipeline(seed), Sampling(steps=2)) for seed in (1, 0))
    parts = {
        "another victim": other,
        "a module": torch.nn.Linear(2, 2),
        "a function": lambda: None,
        "a base where there is none": other,
    }
    for targets in (None, Targets(None)) if what.startswith("a base") else (Targets(victim),):
        assert Packer(victim, targets).pack(seated(own=parts[what])) is None


def seated(**parts: Any) -> RunningPrompt:
    """A lane, of an attack of somebody's own, that refers to these."""
    state = PromptState(PROMPTS[0], torch.Generator())
    state.__dict__.update(parts)
    return RunningPrompt(state, PendingPrompt(PROMPTS[0], Judgement(False, 0.0, "")))
