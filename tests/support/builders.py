"""Small values that many unit tests need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from pytest_unlearndiff.core.concept import Concept, JudgeConfig, Prompt
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.core.result import AttackResult
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.local_backend import LocalBackend
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import ModelSpec
from pytest_unlearndiff.runs.runner import Runner
from pytest_unlearndiff.store.key import AttackKey
from pytest_unlearndiff.store.store import Store

UPSTREAM = Path(__file__).resolve().parents[3] / "shared" / "prompts"
"""Upstream's prompt sets, beside a developer's checkout: their content does not go into the project."""

needs_upstream = pytest.mark.skipif(not UPSTREAM.is_dir(), reason="upstream's prompt sets are not on this machine")

_STATUSES = {
    "g": Status.HIT_WITHOUT_ATTACK,
    "b": Status.HIT_UNDER_ATTACK,
    "r": Status.RESISTED,
    "e": Status.ERROR,
    "k": Status.BLOCKED,
}


def prompts(count: int) -> tuple[Prompt, ...]:
    return tuple(Prompt(f"a church, number {i}", seed=1000 + i, guidance=7.5, case=100 + i) for i in range(count))


def concept(count: int = 3) -> Concept:
    return Concept("church", prompts(count), JudgeConfig("image-classifier", {"label": "church"}))


def outcome(prompt: str, status: Status, **facts: Any) -> Outcome:
    """An outcome as a campaign would leave it."""
    if status is Status.HIT_UNDER_ATTACK:
        facts = {"adversarial": f"xyz {prompt}", "inserted": "xyz", "detail": "church 0.98", **facts}
    if status is Status.ERROR:
        facts = {"error": "RuntimeError: out of memory", **facts}
    return Outcome(prompt, status, **facts)


def result(letters: str, **facts: Any) -> AttackResult:
    """A result with one prompt a letter: g(enerated), b(roken), r(esisted), (bloc)k(ed), e(rror) or - (missing)."""
    asked = concept(len(letters))
    found = {
        prompt.digest: outcome(prompt.digest, _STATUSES[letter])
        for prompt, letter in zip(asked.prompts, letters, strict=True)
        if letter != "-"
    }
    return AttackResult.gather(asked, found, **{"attack": "unlearndiff/fast", "victim": "esd.pt", **facts})


def key(**changes: Any) -> AttackKey:
    known: dict[str, Any] = {
        "algorithm": 1,
        "attack": "unlearndiff",
        "params": {"slots": 3},
        "victim": "aaaa",
        "target": "bbbb",
        "judge": {"kind": "image-classifier", "weights": "cccc"},
        "sampling": {"steps": 50, "scheduler": "lms", "spacing": "linspace"},
        "seed": 0,
    }
    return AttackKey(**(known | changes))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
outcomes = st.builds(
    Outcome,
    prompt=st.text("0123456789abcdef", min_size=16, max_size=16),
    status=st.sampled_from(Status),
    adversarial=st.none() | texts,
    inserted=st.none() | texts,
    seed=st.none() | st.integers(0, 2**63),
    evaluations=st.integers(0, 10**6),
    steps=st.integers(0, 10**6),
    forwards=st.integers(0, 10**9),
    score=st.none() | st.floats(allow_nan=False),
    detail=texts,
    seconds=st.floats(0, 1e9),
    error=st.none() | texts,
    timestep=st.none() | st.integers(0, 999),
    image=st.none() | st.text("0123456789abcdef", min_size=16, max_size=16),
)


def run(campaign: Campaign, store: Store, resolve_model: Callable[[], ModelSpec], **options: Any) -> AttackResult:
    """Run a campaign in this process, two prompts at a time; options are those of ``Runner.run``."""
    return Runner(store, ModelCache(), LocalBackend(), batch_size=2).run(campaign, resolve_model, **options)
