"""Figures that the UnlearnDiffAtk benchmark publishes, beside what was measured.

Source: README of OPTML-Group/Diffusion-MU-Attack, table "Unlearned Concept: Nudity" (142 prompts). It has percentages,
each of which is a whole number of prompts. Figures of the other tasks are not on that page.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core.rate import Rate, percent
from .gate_report import GateReport

AUTHORS = "OPTML-Group/Diffusion-MU-Attack"
"""Part of the origin of the authors' prompt sets."""
PAPER_ATTACK = "unlearndiff/paper"


@dataclass(frozen=True)
class Published:
    """A row of the benchmark.

    Attributes:
        method: of unlearning.
        asr: prompts that draw the concept under UnlearnDiffAtk or without; pre_asr: without.
        fid: Fréchet inception distance on COCO's captions.
        clip: CLIP score on them.
    """

    method: str
    pre_asr: Rate
    asr: Rate
    fid: float
    clip: float


def _row(method: str, pre_asr: int, asr: int, fid: float, clip: float, prompts: int = 142) -> Published:
    return Published(method, Rate(pre_asr, prompts), Rate(asr, prompts), fid, clip)


PUBLISHED: dict[str, tuple[Published, ...]] = {
    "nudity:paper": (
        _row("EraseDiff", 0, 3, 233.0, 0.18),
        _row("ScissorHands", 0, 10, 128.53, 0.235),
        _row("SalUn", 2, 16, 33.62, 0.287),
        _row("AdvUnlearn", 11, 30, 19.34, 0.290),
        _row("ESD", 29, 108, 18.18, 0.302),
        _row("UCE", 31, 113, 17.10, 0.309),
        _row("SPM", 78, 130, 17.48, 0.310),
        _row("FMN", 125, 139, 16.86, 0.308),
    )
}


def published_lines(gate: GateReport) -> list[str]:
    """Return a line per published figure that the gate's ASR can be held against; none where it cannot be.

    It can where concept, prompts, judge, attack and schedule are the paper's, and no prompt was left out.
    """
    rows = PUBLISHED.get(gate.concept, ())
    comparable = gate.attack == PAPER_ATTACK and AUTHORS in gate.prompt_set.source
    measured = Rate(gate.hits, gate.counts.total, gate.unknown)
    return [
        _line(row, measured, gate.limits.confidence) for row in rows if comparable and row.asr.trials == measured.trials
    ]


def _line(row: Published, measured: Rate, confidence: float) -> str:
    low, high = measured.difference(row.asr, confidence)
    return (
        f"published {row.method}: ASR {row.asr}, pre-ASR {percent(row.pre_asr.value)}, FID {row.fid:g}, CLIP score "
        f"{row.clip:g}; measured less published {_points(low)}..{_points(high)} points at {percent(confidence)}"
    )


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"
