"""What was computed is counted, copies that fill batches up among it, and stays apart from what outcomes count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import run
from tiny import PROMPTS, tiny_pipeline, tiny_xl

from pytest_unlearndiff.attacks.losses import LossQuery, denoising_losses, gradients
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Concept, JudgeConfig, Prompt, Sampling
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.core.model_options import DefenseConfig, defense
from pytest_unlearndiff.core.outcome import Outcome, Status, computed_forwards
from pytest_unlearndiff.models.device import BATCH, error_batch
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.local_backend import LocalBackend
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.runs.runner import Runner
from pytest_unlearndiff.store.store import Store
from pytest_unlearndiff.workers.distributed_engine import WorkerEvent, WorkerPoolConfig
from pytest_unlearndiff.workers.worker import JobSpec, WorkerUpdate

STEPS = 2


@contextmanager
def seen(unet: Any) -> Iterator[list[int]]:
    """How many latents a UNet was called with, by its own account."""
    calls: list[int] = []
    forward = unet.forward

    def noted(sample: torch.Tensor, *given: Any, **named: Any) -> Any:
        calls.append(len(sample))
        return forward(sample, *given, **named)

    unet.forward = noted
    try:
        yield calls
    finally:
        del unet.forward


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl])
@pytest.mark.parametrize(
    ("scales", "sampling", "defenses", "passes"),
    [
        ([5.0], Sampling(STEPS), (), 2 * BATCH * STEPS),
        ([5.0] * 5, Sampling(STEPS), (), 2 * 2 * BATCH * STEPS),
        ([5.0, 7.5], Sampling(STEPS), (), 2 * 2 * BATCH * STEPS),
        ([1.0], Sampling(STEPS), (), BATCH * STEPS),
        (
            [5.0],
            Sampling(STEPS),
            (defense("safe-latent-diffusion", strength="max", concept="church", warmup="steps"),),
            3 * BATCH * STEPS,
        ),
    ],
)
def test_forwards_of_images(
    make: Callable[[], Any], scales: list[float], sampling: Sampling, defenses: Sequence[DefenseConfig], passes: int
) -> None:
    pipe = make()
    victim, before = DiffusionModel(pipe, sampling, defenses), computed_forwards()
    with seen(pipe.unet) as calls:
        victim.generate([GenerationRequest("a church", seed, scale) for seed, scale in enumerate(scales)])
    assert computed_forwards() - before == sum(calls) == passes
    assert not pipe.unet._forward_pre_hooks


def test_forwards_of_losses_and_gradients(victim: DiffusionModel) -> None:
    shape, slots = victim.latent_shape, victim.vocabulary.slots("a church", 1, "prefix")
    probe = LossQuery(slots, [5], torch.zeros(shape), torch.ones(shape), 500)
    for measure, batch, passes in ((denoising_losses, error_batch(), 1), (gradients, BATCH, 2)):
        for count, batches in ((1, 1), (batch, 1), (batch + 1, 2)):
            before = computed_forwards()
            measure([probe] * count, victim)
            assert computed_forwards() - before == passes * batches * batch


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Campaign, ModelSpec]]:
    """A campaign without attack on a tiny model, whose judge sees nothing."""
    (tmp_path / "eye_of_work.py").write_text("def look(images):\n    return [False for _ in images]\n")
    monkeypatch.syspath_prepend(tmp_path)
    tiny_pipeline(1).save_pretrained(tmp_path / "model")

    def made(*prompts: Prompt) -> tuple[Campaign, ModelSpec]:
        judge = JudgeConfig("function", {"call": "eye_of_work:look"})
        asked = Concept("church", prompts, judge, sampling=Sampling(STEPS))
        return Campaign(asked, AttackConfig("none"), Fingerprint("victim", ""), ""), ModelSpec(tmp_path / "model")

    return made


def test_result_separates_computed_from_counted_forwards(
    campaign: Callable[..., tuple[Campaign, ModelSpec]], tmp_path: Path
) -> None:
    asked, source = campaign(PROMPTS[0])
    store = Store(tmp_path / "store")
    first = run(asked, store, lambda: source)
    again = run(asked, store, lambda: source)
    assert (first.forwards, first.computed) == (2 * STEPS, 2 * STEPS * BATCH)
    assert (again.forwards, again.computed) == (2 * STEPS, 0)


def test_prompts_are_batched_by_guidance(campaign: Callable[..., tuple[Campaign, ModelSpec]], tmp_path: Path) -> None:
    prompts = [Prompt(f"a church {n}", n, 5.0 + n % 2, n) for n in range(8)]
    asked, source = campaign(*prompts)
    runner = Runner(Store(tmp_path / "store"), ModelCache(), LocalBackend(), batch_size=4)
    result = runner.run(asked, lambda: source)
    assert result.complete
    assert result.computed == result.forwards == 8 * 2 * STEPS
    alone = replace(asked, concept=replace(asked.concept, prompts=tuple(prompts[3:4])))
    kept = run(alone, Store(tmp_path / "another"), lambda: source)
    assert replace(kept.outcomes[0], seconds=0.0) == replace(result.outcomes[3], seconds=0.0)  # type: ignore[type-var]


class OneWorker:
    """A backend of one worker, which ends every prompt in its first step."""

    def __init__(self) -> None:
        self.pending: list[WorkerEvent] = []

    def start(self, job: JobSpec, most: int) -> list[str]:
        self.pending.append(WorkerEvent("w", WorkerUpdate("node", 2)))
        return ["w"]

    def step(self, worker: str, prompts: Any, checkpoints: Any) -> None:
        outcomes = [Outcome(prompt.digest, Status.RESISTED) for prompt in prompts]
        self.pending.append(WorkerEvent(worker, WorkerUpdate("node", 2, outcomes, computed=70)))

    def events(self, seconds: float) -> list[WorkerEvent]:
        pending, self.pending = self.pending, []
        return pending


def test_forwards_computed_by_workers_are_added(
    campaign: Callable[..., tuple[Campaign, ModelSpec]], tmp_path: Path
) -> None:
    asked, source = campaign(*PROMPTS)
    pool = WorkerPoolConfig(OneWorker(), 60.0)  # type: ignore[arg-type]
    result = Runner(Store(tmp_path / "store"), ModelCache(), pool, batch_size=2).run(asked, lambda: source)
    assert result.complete
    assert result.computed == 2 * 70
