"""What each saving saves: the former way and today's in turn, in CPU seconds or counted work, with the same result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import torch
from diffusers import LMSDiscreteScheduler

from pytest_unlearndiff.attacks import losses
from pytest_unlearndiff.attacks.losses import LossQuery, denoising_losses
from pytest_unlearndiff.attacks.token_swaps import _best
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.models.device import BATCH
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.families.ddpm import RememberingLms

TOKENS, RANKED = 49408, 30
"""CLIP's tokens, and about as many of each slot as a round looks at."""


@dataclass(frozen=True)
class Saving:
    """One thing that is done differently now.

    Attributes:
        title: of the row.
        unit: of ``before`` and ``after``.
        before: cost of the former way.
        after: today's.
        same: whether both have the same result, to the last bit.
    """

    title: str
    unit: str
    before: float
    after: float
    same: bool

    def __str__(self) -> str:
        """Row of a Markdown table."""
        ratio = f"{self.before / self.after:.2f}" if self.after else ""
        same = "yes" if self.same else "NO"
        return f"| {self.title} | {self.unit} | {self.before:.4g} | {self.after:.4g} | {ratio} | {same} |"


HEAD = "| what | unit | before | now | times | same result |\n|---|---|---|---|---|---|"


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Return the processor seconds of this process, user and system, that a piece of work takes."""
    before = time.process_time()
    work()
    return time.process_time() - before


def contrast(title: str, work: Callable[[], Any], former: Callable[[], Any], same: bool, *, times: int) -> Saving:
    """Measure both ways in turn; the least of several runs counts, since anything else only adds to it."""
    seconds = [(cpu_seconds(former), cpu_seconds(work)) for _ in range(times)]
    return Saving(title, "CPU s", min(s[0] for s in seconds), min(s[1] for s in seconds), same)


def integrated_anew() -> Any:
    """Integrate LMS coefficients at every step of every image."""
    return mock.patch.object(RememberingLms, "get_lms_coefficient", LMSDiscreteScheduler.get_lms_coefficient)


class EachBatch:
    """Encodes the texts of a network's batch for that batch alone (in place of ``losses._Encoder``)."""

    def __init__(self, prompts: Sequence[Any], model: DiffusionModel) -> None:
        self._model = model

    def rows(self, prompts: Sequence[Any], count: int) -> Any:
        """Encode a batch."""
        return self._model.encode(prompts)


@contextmanager
def counted_encodings() -> Iterator[list[int]]:
    """Yield a list that gets the number of texts of each call of the text encoder."""
    rows: list[int] = []
    encode = DiffusionModel.encode

    def counted(self: DiffusionModel, prompts: Any, *slots: Any) -> Any:
        rows.append(len(prompts))
        return encode(self, prompts, *slots)

    with mock.patch.object(DiffusionModel, "encode", counted):
        yield rows


def savings(model: DiffusionModel, prompts: Sequence[Prompt], *, times: int) -> Iterator[Saving]:
    """Measure every saving.

    Args:
        model: the victim.
        prompts: at least four.
        times: runs of each way.
    """
    requests = [GenerationRequest(prompt.text, prompt.seed, prompt.guidance) for prompt in prompts[:BATCH]]
    with integrated_anew():
        before = [image.digest for image in model.generate(requests)]
    same = before == [image.digest for image in model.generate(requests)]

    def drawn_as_before() -> None:
        with integrated_anew():
            model.generate(requests)

    yield contrast(f"{BATCH} images, LMS", partial(model.generate, requests), drawn_as_before, same, times=times)
    yield from _encodings(model, measured_swaps(model, prompts), times)
    promise = torch.randn(3, TOKENS, generator=torch.Generator().manual_seed(0))
    full = partial(_sorted_all, promise)

    def best() -> list[list[int]]:
        return [_best(row, RANKED) for row in promise]

    same = [row[:RANKED] for row in full()] == best()
    yield contrast(f"ranking 3 x {TOKENS:,} tokens", best, full, same, times=5 * times)


def measured_swaps(model: DiffusionModel, prompts: Sequence[Prompt]) -> list[LossQuery]:
    """Return the queries by which a round of ``fast`` measures the best four swaps of each prompt."""
    timesteps = [model.timestep(share) for share in (0.35, 0.5, 0.65, 0.8)]
    queries = []
    for prompt in prompts:
        generator = torch.Generator().manual_seed(prompt.case)
        slots = model.vocabulary.slots(prompt.text, 3, "prefix")
        x0, noise = (torch.randn(model.latent_shape, generator=generator).to(model.device) for _ in range(2))
        for _ in range(4):
            chosen = torch.randint(len(model.vocabulary.typeable), (3,), generator=generator)
            tokens = model.vocabulary.typeable[chosen].tolist()
            queries += [LossQuery(slots, tokens, x0, noise.cpu(), t) for t in timesteps]
    return queries


def _encodings(model: DiffusionModel, queries: list[LossQuery], times: int) -> Iterator[Saving]:
    def as_before() -> torch.Tensor:
        with mock.patch.object(losses, "_Encoder", EachBatch):
            return denoising_losses(queries, model)

    now = partial(denoising_losses, queries, model)
    with counted_encodings() as rows:
        before, first = as_before(), sum(rows)
        after, second = now(), sum(rows) - first
    same, title = torch.equal(before, after), f"measuring {len(queries) // 4} swaps at 4 timesteps"
    yield Saving(f"{title}: texts encoded", "texts", first, second, same)
    yield contrast(title, now, as_before, same, times=times)


def _sorted_all(promise: torch.Tensor) -> list[list[int]]:
    rows: list[list[int]] = promise.argsort(dim=-1, descending=True, stable=True).tolist()
    return rows
