"""Time, memory and floating-point operations of a model's work, as rows of one table and one JSON file."""

from __future__ import annotations

import gc
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.models.device import matmul_precision
from pytest_unlearndiff.models.diffusion_model import DiffusionModel

GIB = 2**30
Value = str | int | float | bool


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        section: of the table.
        title: of what was measured.
        values: by name, with their unit in it.
    """

    section: str
    title: str
    values: dict[str, Value]

    @property
    def result(self) -> str:
        """Values in words."""
        return ", ".join(f"{key} {_format(value)}" for key, value in self.values.items())


@dataclass
class Report:
    """Measurements so far; the JSON file is written anew after each.

    Attributes:
        device: that is measured.
        path: of the JSON file.
        deadline: on ``time.monotonic``'s clock.
        rows: measurements.
    """

    device: torch.device
    path: Path
    deadline: float
    rows: list[Row] = field(default_factory=list)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.deadline - time.monotonic()

    def add(self, section: str, title: str, **values: Value) -> None:
        """Add a row, and print it at once: a run that is cut off has then told what it knew."""
        row = Row(section, title, {name: _rounded(value) for name, value in values.items()})
        self.rows.append(row)
        data = [{"section": each.section, "title": each.title, **each.values} for each in self.rows]
        self.path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        print(f"[{self.left:4.0f} s left] {section}: {title}: {row.result}", file=sys.stderr, flush=True)

    def attempt(self, section: str, seconds: float, work: Callable[[], None]) -> None:
        """Do a section's work; where there is no time, or it fails, add a row that says so.

        Args:
            section: its name.
            seconds: that it needs.
            work: adds its own rows.
        """
        if self.left < seconds:
            self.add(section, "skipped", reason=f"{self.left:.0f} s left, {seconds:.0f} s needed")
            return
        try:
            work()
        except Exception as error:  # the other sections can still be measured
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            self.add(section, "FAILED", reason=f"{type(error).__name__}: {str(error)[:200]} ({where})")
        finally:
            free_memory()

    def table(self) -> str:
        """Return all rows in Markdown."""
        lines = [f"| {row.section} | {row.title} | {row.result} |" for row in self.rows]
        return "\n".join(["| section | measured | result |", "|---|---|---|", *lines])


def _rounded(value: Value) -> Value:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _format(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def free_memory() -> None:
    """Free memory that nothing refers to."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def synchronize(device: torch.device) -> None:
    """Wait until a device has computed all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(
    work: Callable[[], Any], device: torch.device, *, at_least: float = 0.5, runs: int = 20, warm_up: int = 1
) -> float:
    """Return the median wall-clock seconds of a piece of work; of a long one, those of its only run.

    Args:
        work: is run again and again.
        device: where it computes.
        at_least: seconds to measure for, in three runs or more.
        runs: at most.
        warm_up: runs that do not count.
    """
    taken: list[float] = []
    while len(taken) < runs + warm_up and (len(taken) < 3 + warm_up or sum(taken[warm_up:]) < at_least):
        started = time.perf_counter()
        work()
        synchronize(device)
        taken.append(time.perf_counter() - started)
        if taken[0] > 6 * at_least > 0:
            return taken[0]
    counted = sorted(taken[warm_up:])
    return counted[len(counted) // 2]


@contextmanager
def peak_memory(device: torch.device) -> Iterator[dict[str, Value]]:
    """Yield a mapping that has the peak of a GPU's memory, in GiB, when the block has ended; empty elsewhere."""
    peak: dict[str, Value] = {}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield peak
    if device.type == "cuda":
        peak["peak_gib"] = torch.cuda.max_memory_allocated(device) / GIB
        peak["reserved_gib"] = torch.cuda.max_memory_reserved(device) / GIB


def flop(work: Callable[[], Any]) -> int:
    """Count the floating-point operations of a piece of work; a multiplication with its addition is two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


@dataclass(frozen=True)
class Scale:
    """Sizes of what is measured.

    Attributes:
        matrix: side of the product.
        network: batches of the network alone.
        sizes: samples in one call of a network, in the attack and in drawing.
        together: prompts attacked together.
        image_steps: denoising steps of an image that is timed.
        search_steps: optimizer steps of a round of ``paper`` that is timed.
        at_least: seconds that each measurement takes, if its first run is not long.
        prompts: prompts whose outcomes are compared.
        tiny: whether models are tiny.
    """

    matrix: int = 8192
    network: tuple[int, ...] = (1, 4, 8, 16, 32)
    sizes: tuple[int, ...] = (4, 8, 16, 32)
    together: tuple[int, ...] = (1, 8)
    image_steps: int = 10
    search_steps: int = 4
    at_least: float = 0.5
    prompts: int = 8
    tiny: bool = False


TINY = Scale(128, (1, 4), (4, 8), (1, 2), 2, 1, 0.01, 2, True)


@dataclass(frozen=True)
class Subject:
    """A model that is measured in one precision.

    Attributes:
        shape: one of ``random_weights.SHAPES``.
        precision: one of ``core.device.PRECISIONS``.
        pipe: the pipeline.
        report: takes the rows.
        scale: sizes.
        peak: TFLOP/s of a matrix product in this precision; None where it was not measured.
        each: seconds by name, of what prompts an hour follow from.
    """

    shape: str
    precision: str
    pipe: Any
    report: Report
    scale: Scale
    peak: float | None
    each: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Title of its rows."""
        return f"{self.shape}{' (tiny)' if self.scale.tiny else ''} {self.precision}"

    @property
    def model(self) -> DiffusionModel:
        """The victim that draws short images."""
        return DiffusionModel(self.pipe, Sampling(steps=self.scale.image_steps))

    def time(self, work: Callable[[], Any], **limits: int) -> float:
        """Return the seconds of a piece of work in the subject's precision."""
        with matmul_precision(self.precision):
            return seconds(work, self.report.device, at_least=self.scale.at_least, **limits)

    def share(self, tflops: float) -> dict[str, Value]:
        """Return the share of the matrix product's speed."""
        return {} if self.peak is None else {"of_peak": tflops / self.peak}
