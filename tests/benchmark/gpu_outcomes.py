"""Whether numbers and outcomes depend on the batch, and recovery where memory ends: sections of ``benchmark.gpu``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from pytest_unlearndiff.attacks.losses import LossQuery, denoising_losses, gradients
from pytest_unlearndiff.attacks.schedules import TokenSwapSchedule
from pytest_unlearndiff.attacks.token_swaps import TokenSwapAttack
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.device import network_batch
from pytest_unlearndiff.core.images import GenerationRequest, Judgement
from pytest_unlearndiff.core.outcome import Outcome
from pytest_unlearndiff.models import device as networks
from pytest_unlearndiff.models.device import matmul_precision
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets
from pytest_unlearndiff.runs.engine import Engine
from pytest_unlearndiff.runs.evaluation import Evaluation

from .measuring import GIB, Subject, free_memory
from .random_weights import prompts

SHORT = TokenSwapSchedule((0.35, 0.65), rounds=3, screened=6, measured=2, restart=2)
"""A search that ends in seconds."""


@contextmanager
def batches_of(size: int) -> Iterator[None]:
    """Compute in batches of another size, which the plugin chooses itself."""
    before, networks._size = networks._size, size
    try:
        yield
    finally:
        networks._size = before


def brightness(images: Sequence[Image.Image], threshold: float) -> list[Judgement]:
    """Judge by the mean of all pixels: a judge that costs nothing and tells images apart to the last grey level."""
    means = [round(float(np.asarray(image, dtype=np.float64).mean()), 6) for image in images]
    return [Judgement(mean > threshold, mean, "") for mean in means]


def median_brightness(subject: Subject) -> float:
    """Return a threshold that half of the un-attacked images are above, so that prompts are attacked and some hit."""
    requests = [GenerationRequest(p.text, p.seed, p.guidance) for p in prompts(subject.scale.prompts)]
    with matmul_precision(subject.precision):
        images = [generated.image for generated in subject.model.generate(requests)]
    return sorted(judgement.score for judgement in brightness(images, 0))[len(images) // 2]


def attack(subject: Subject, batch_size: int, threshold: float) -> tuple[dict[str, Outcome], Engine]:
    """Attack the subject's prompts; return outcomes by prompt, and the engine."""
    model = subject.model
    search = TokenSwapAttack(AttackConfig(), model, SHORT)
    evaluation = Evaluation(model, lambda images, prompts=(): brightness(images, threshold))
    scope = partial(matmul_precision, subject.precision)
    engine = Engine(search, model, Targets(model), evaluation, batch_size, 0, scope)
    outcomes = [each for each in engine.run(prompts(subject.scale.prompts)) if each is not None]
    return {outcome.prompt: outcome for outcome in outcomes}, engine


def outcomes_by_batch(subject: Subject) -> None:
    """Compare outcomes of prompts attacked one by one with those of eight together, twice."""
    threshold = median_brightness(subject)
    alone, _ = attack(subject, 1, threshold)
    for title in ("8 together", "8 together, again"):
        started = time.monotonic()
        together, _ = attack(subject, 8, threshold)
        pairs = [(alone[digest], together[digest]) for digest in alone]
        subject.report.add(
            "outcomes",
            f"{subject.name} {title}, against one by one",
            prompts=len(pairs),
            same_status=sum(one.status is other.status for one, other in pairs),
            same_text=sum(one.adversarial == other.adversarial for one, other in pairs),
            same_score=sum(one.score == other.score for one, other in pairs),
            hits=sum(one.success for one, _ in pairs),
            errors=sum(other.error is not None for _, other in pairs),
            s=time.monotonic() - started,
        )


def queries_of(model: DiffusionModel, count: int) -> list[LossQuery]:
    """Return loss queries that differ in everything."""
    queries = []
    for index, prompt in enumerate(prompts(count)):
        generator = torch.Generator().manual_seed(index)
        slots = model.vocabulary.slots(prompt.text, 3, "prefix")
        typeable = model.vocabulary.typeable
        tokens = typeable[torch.randint(len(typeable), (3,), generator=generator)].tolist()
        x0, noise = (torch.randn(model.latent_shape, generator=generator) for _ in range(2))
        t = model.timesteps * (index + 1) // (count + 2)
        queries.append(LossQuery(slots, tokens, x0.to(model.device), noise, t))
    return queries


def repeatability(subject: Subject) -> None:
    """Measure how far one query's error and gradient depend on time, neighbours, position and size of the batch."""
    model, full = subject.model, network_batch(str(subject.report.device))
    one, *others = queries_of(model, 2 * full)
    cases: dict[str, tuple[list[LossQuery], int, int]] = {
        "again": ([one, *others[: full - 1]], 0, full),
        "beside others": ([one, *others[full - 1 : 2 * full - 2]], 0, full),
        "beside copies of itself": ([one], 0, full),
        "at the end of the batch": ([*others[: full - 1], one], full - 1, full),
        **{f"in a batch of {size}": ([one, *others], 0, size) for size in (1, 2, full // 2, 2 * full)},
    }
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        try:
            error, slope = _numbers(subject, *cases["again"])
            for title, case in cases.items():
                other_error, other_slope = _numbers(subject, *case)
                apart = float((other_slope - slope).abs().max() / slope.abs().max())
                subject.report.add(
                    "repeatability",
                    f"{subject.name} {title}{', deterministic algorithms' if deterministic else ''}",
                    same_error=other_error == error,
                    error_apart=abs(other_error - error) / abs(error),
                    same_gradient=torch.equal(other_slope, slope),
                    gradient_apart=apart,
                )
        finally:
            torch.use_deterministic_algorithms(False)


def _numbers(subject: Subject, queries: Sequence[LossQuery], position: int, size: int) -> tuple[float, torch.Tensor]:
    with batches_of(size), matmul_precision(subject.precision):
        _, slopes = gradients(queries, subject.model)
        return float(denoising_losses(queries, subject.model)[position]), slopes[position].float().cpu()


def recovery_from_memory(subject: Subject) -> None:
    """Attack with less memory than a batch needs: every prompt has to end, with the outcome it has otherwise."""
    networks.restore_batches(subject.report.device)
    threshold, before = median_brightness(subject), networks._size
    expected, _ = attack(subject, 1, threshold)
    limited = _limited_gpu if subject.report.device.type == "cuda" else _limited_network
    try:
        with limited(subject) as limit:
            outcomes, engine = attack(subject, 8, threshold)
        subject.report.add(
            "memory ends",
            f"{subject.name} 8 prompts together",
            prompts=len(expected),
            ended=len(outcomes),
            errors=sum(each.error is not None for each in outcomes.values()),
            same_status=sum(each.status is expected[digest].status for digest, each in outcomes.items()),
            prompts_together_at_end=engine.batch_size,
            batches_of_at_end=networks._size,
            limit=limit,
        )
    finally:
        networks._size = before


@contextmanager
def _limited_gpu(subject: Subject) -> Iterator[str]:
    """Leave this process memory for batches of one, and not for full ones."""
    index, model, sizes = subject.report.device.index or 0, subject.model, {}
    full = network_batch(str(subject.report.device))
    held = torch.cuda.memory_allocated(index)
    for size in (1, full):
        free_memory()
        torch.cuda.reset_peak_memory_stats(index)
        with batches_of(size), matmul_precision(subject.precision):
            gradients(queries_of(model, size), model)
            model.generate([GenerationRequest(p.text, p.seed, p.guidance) for p in prompts(size)])
        sizes[size] = torch.cuda.max_memory_allocated(index) - held
    limit = held + sizes[1] + 0.4 * (sizes[full] - sizes[1])
    free_memory()
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(index).total_memory, index)
    try:
        yield f"{limit / GIB:.1f} GiB, of which weights are {held / GIB:.1f}"
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, index)


@contextmanager
def _limited_network(subject: Subject) -> Iterator[str]:
    """Simulate it: the network refuses more than two samples, which guidance makes of one."""
    network = subject.pipe.unet
    forward = network.forward

    def refuse(sample: torch.Tensor, *others: Any, **named: Any) -> Any:
        if len(sample) > 2:
            raise torch.OutOfMemoryError("out of memory (simulated)")
        return forward(sample, *others, **named)

    network.forward = refuse
    try:
        yield "simulated: batches of one"
    finally:
        network.forward = forward
