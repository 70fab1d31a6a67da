"""Schedules of a few rounds and steps in place of the built-in attacks' own, and every attack with each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tiny import PROMPTS

from pytest_unlearndiff.attacks.schedules import (
    CompletionSchedule,
    EmbeddingSchedule,
    EncoderSwapSchedule,
    GeneticSchedule,
    InversionSchedule,
    NoiseSchedule,
    RepeatedNoiseSchedule,
    SimplexSchedule,
    TokenSwapSchedule,
)
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.core.info import Schedule
from pytest_unlearndiff.core.known_prompts import KnownPrompt, KnownPrompts
from pytest_unlearndiff.core.registry import Registry

KNOWN = KnownPrompts(
    tuple(
        KnownPrompt(prompt, GenerationRequest(f"zq {n} {prompt.text}", n, 7.5), "zq")
        for prompt in PROMPTS
        for n in range(3)
    )
)
_SIMPLEX = SimplexSchedule((0.49, 0.25, 0.75), steps=3)
_SWAPS = TokenSwapSchedule((0.35, 0.65), rounds=4, screened=4, measured=2, restart=2)
_SHORT: dict[tuple[str, str], Schedule] = {
    ("unlearndiff", "paper"): _SIMPLEX,
    ("unlearndiff", "paper+repeated-noise"): RepeatedNoiseSchedule((0.49, 0.25, 0.75), steps=3),
    ("unlearndiff", "fast"): _SWAPS,
    ("unlearndiff", "thorough"): _SWAPS,
    ("p4d", "paper"): EmbeddingSchedule((0.49, 0.25, 0.75), steps=2),
    ("p4d", "fast"): EmbeddingSchedule((0.49, 0.25, 0.75), steps=2),
    ("ring-a-bell", "paper"): GeneticSchedule(3, 2, population=8),
    ("ring-a-bell", "fast"): GeneticSchedule(3, 2, population=8),
    ("mma-diffusion", "paper"): EncoderSwapSchedule(3, 2, candidates=8, top=8),
    ("mma-diffusion", "fast"): EncoderSwapSchedule(3, 2, candidates=8, top=8),
    ("concept-inversion", "paper"): InversionSchedule(3, 2, 0.3),
    ("concept-inversion", "fast"): InversionSchedule(3, 2, 0.3, (0.3, 0.9)),
    ("noise-probe", "paper"): NoiseSchedule((1.0, 1.85), (1.0, 1.04)),
    ("noise-probe", "fast"): NoiseSchedule((1.0, 1.5), (1.0,)),
    ("completion-probe", "paper"): CompletionSchedule((0.1, 0.5)),
    ("completion-probe", "fast"): CompletionSchedule((0.1, 0.3, 0.5)),
    ("random", "paper"): _SIMPLEX,
    ("random", "fast"): _SWAPS,
    ("random", "thorough"): _SWAPS,
    ("seed-search", "paper"): _SIMPLEX,
    ("seed-search", "fast"): _SWAPS,
    ("seed-search", "thorough"): _SWAPS,
}


def shorten_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every schedule of the built-in attacks one of a few rounds and steps.

    Raises:
        KeyError: an attack has a schedule that has no short one here.
    """
    for info in Registry().attacks.values():
        for name in info.schedules:
            monkeypatch.setitem(info.schedules, name, _SHORT[info.name, name])  # type: ignore[arg-type]


def attack_configs() -> Iterator[AttackConfig]:
    """Every built-in attack under each of its schedules and losses."""
    for info in Registry().attacks.values():
        for name, schedule in (info.schedules or {"fast": None}).items():
            for loss in [loss for loss in info.losses if schedule and loss in schedule.losses] or ["denoise"]:
                yield AttackConfig(info.name, name, loss=loss, word="church", known=KNOWN)
