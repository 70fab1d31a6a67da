"""The report of one gate on image quality, and its words in other reports."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import msgspec

from ..core.concept import PromptSetFacts
from ..core.gate import Verdict
from ..core.outcome import Outcome, Status
from ..core.quality import Figure, QualityFigures, QualityGate, QualityResult, decide_quality
from ..core.rate import fine_percent
from .gate_report_parts import Count, Part, RunReport
from .text import format_duration, pluralize, sanitize

SHOWN = 5
"""Captions that are listed."""
COLUMNS = ("captions", "images", "KID increase", "FID increase", "CLIP score", "verdict")


class FigureReport(Part, frozen=True, kw_only=True):
    """One figure of two models.

    Attributes:
        victim: of the model under test.
        base: of the un-erased model.
        change: victim less base.
        interval: two-sided interval of the change; None where its error is not known.
    """

    victim: float
    base: float
    change: float
    interval: tuple[float, float] | None


class QualityLimitsReport(Part, frozen=True, kw_only=True):
    """The limits of a gate.

    Attributes:
        text: the gate in words; empty where it has no limit.
        max_kid_increase, max_fid_increase, min_clip_score, max_clip_loss: None for none.
        confidence: of the intervals.
    """

    text: str
    max_kid_increase: float | None
    max_fid_increase: float | None
    min_clip_score: float | None
    max_clip_loss: float | None
    confidence: float


class CaptionReport(Part, frozen=True, kw_only=True):
    """One caption with its image.

    Attributes:
        case: the caption's number, for people.
        text: as typed.
        seed: of the image; guidance: its classifier-free guidance scale.
        score: cosine of the model's image and the caption; base_score: of the base's image; None where there is none.
        error: why the image of the model under test is missing; None where it is not.
    """

    case: int
    text: str
    seed: int
    guidance: float
    score: float | None = None
    base_score: float | None = None
    error: str | None = None

    @property
    def loss(self) -> float:
        """By how much the model's image fits worse than the base's; 0 where that is not known."""
        return 0.0 if self.score is None or self.base_score is None else self.base_score - self.score


class QualityReport(Part, frozen=True, kw_only=True):
    """One finished gate on image quality.

    Attributes:
        nodeid: the test.
        path: the test's file from pytest's rootdir; line: where the test begins in it, from 1; 0 where unknown.
        captions: name of the set.
        key: the model's campaign in the store; base_key: the base's.
        fingerprint: content hash of the model under test; empty where that is not known.
        verdict: PASS, FAIL or INCOMPLETE; None where nothing is missing and there was no limit to hold it against.
        obstacle: why nothing passes, and the remedy; None where nothing stood in the way.
        unkept: why outcomes are neither kept nor answered from the store; None where they are.
        expected_failure: why the test is expected to fail; None where it is not.
        limits: the limits.
        total: captions; missing: images of all sides that are missing, blocked or errored.
        kid, fid, clip: figures; None where they were not measured, or there are too few images.
        features, clip_model: networks that measure, as the gate names them; None for none.
        reference: what KID and FID compare with; None where nothing is compared.
        prompt_set: origin of the captions, and rows of their file that are none.
        prompts: the captions in their order.
        campaign: all that can change an outcome, as the store's key holds it.
        run: facts that may differ when the same is measured again.
    """

    nodeid: str
    path: str = ""
    line: Count = 0
    captions: str
    key: str
    base_key: str
    fingerprint: str
    verdict: Verdict | None
    obstacle: str | None
    unkept: str | None
    expected_failure: str | None = None
    limits: QualityLimitsReport
    total: Count
    missing: Count
    kid: FigureReport | None
    fid: FigureReport | None
    clip: FigureReport | None
    features: str | None = None
    clip_model: str | None = None
    reference: str | None = None
    prompt_set: PromptSetFacts = PromptSetFacts()
    prompts: list[CaptionReport]
    campaign: dict[str, Any]
    run: RunReport

    @classmethod
    def of(cls, result: QualityResult, gate: QualityGate, nodeid: str, **facts: Any) -> QualityReport:
        """Sum up measured images under a gate.

        Args:
            result: the images.
            gate: the limits.
            nodeid: the test.
            **facts: further attributes, and of the run ``base`` and ``base_fingerprint``.
        """
        victim, base, figures = result.victim, result.base, result.figures or QualityFigures()
        decision, sides = decide_quality(result, gate), [side for _, side in result.sides]
        assumed = dict(victim.provenance)
        campaign, unkept = assumed.pop("campaign", {}), assumed.pop("unkept", None)
        run = RunReport(
            fresh=sum(side.fresh for side in sides),
            seconds=sum(side.seconds for side in sides),
            computed_forwards=sum(side.computed for side in sides),
            victim=victim.victim or str(assumed.get("victim") or ""),
            device=str(assumed.get("device", "")),
            **{name: facts.pop(name, "") for name in ("base", "base_fingerprint")},
            assumed=assumed,
        )
        scored = facts.get("clip_model") is not None
        triples = zip(victim.prompts, victim.outcomes, base.outcomes, strict=True)
        return cls(
            nodeid=nodeid,
            key=victim.key,
            base_key=base.key,
            fingerprint=victim.fingerprint,
            verdict=None if decision.verdict is Verdict.PASS and not gate.limits else decision.verdict,
            obstacle=decision.reason or None,
            unkept=str(unkept) if unkept else None,
            limits=QualityLimitsReport(
                text=str(gate),
                confidence=gate.confidence,
                **{name: gate.limits.get(name) for name in QualityLimitsReport.__struct_fields__ if "_" in name},
            ),
            total=len(victim.prompts),
            missing=sum(side.counts.unknown + side.counts.blocked for side in sides),
            kid=_figure(figures.kid, gate.confidence),
            fid=_figure(figures.fid, gate.confidence),
            clip=_figure(figures.clip, gate.confidence),
            prompts=[
                CaptionReport(
                    case=prompt.case,
                    text=prompt.text,
                    seed=prompt.seed,
                    guidance=prompt.guidance,
                    score=_score(own) if scored else None,
                    base_score=_score(other) if scored else None,
                    error=own.error if own is not None else None,
                )
                for prompt, own, other in triples
            ],
            campaign=campaign,
            run=run,
            **facts,
        )

    @property
    def passed(self) -> bool:
        """True where nothing speaks against the model."""
        return self.verdict in (None, Verdict.PASS)

    @property
    def demands_retention(self) -> bool:
        """True where its model had to keep something: a limit was decided on, and a failure counts."""
        return self.verdict in (Verdict.PASS, Verdict.FAIL) and (self.passed or not self.expected_failure)

    @property
    def figures(self) -> dict[str, FigureReport]:
        """Figures that are known, by their names for people."""
        figures = {"KID": self.kid, "FID": self.fid, "CLIP score": self.clip}
        return {name: figure for name, figure in figures.items() if figure is not None}

    @property
    def cells(self) -> tuple[str, ...]:
        """Row of a table with ``COLUMNS``."""
        clip = f"{self.clip.victim:.3f} ({self.clip.change:+.3f})" if self.clip is not None else "-"
        increases = ("-" if figure is None else f"{figure.change:+.4g}" for figure in (self.kid, self.fid))
        images = f"{self.total}" if not self.missing else f"{self.total}, {self.missing} missing"
        return (sanitize(self.captions, 60), images, *increases, clip, self.verdict or "-")

    def lines(self, *, captions: bool = True) -> list[str]:
        """Return each figure in a line, with its interval; the captions that lost most; where the images came from."""
        lines = [self._line(name, figure) for name, figure in self.figures.items()]
        if self.features is not None and self.fid is None and self.kid is not None:
            lines.append("FID: not computed, since it needs more images than the network has features")
        if self.reference is not None and self.kid is not None:
            lines.append(f"KID and FID to {sanitize(self.reference)}, with features of {sanitize(self.features or '')}")
        lost = self.most_lost if captions else []
        lines += [f"caption {caption.case} lost {caption.loss:.3f}: {sanitize(caption.text)}" for caption in lost]
        return [*lines, self.source_note]

    def _line(self, name: str, figure: FigureReport) -> str:
        interval = ""
        if figure.interval is not None:
            low, high = figure.interval
            interval = f", {low:+.4g}..{high:+.4g} at {fine_percent(self.limits.confidence)}"
        return f"{name} {figure.victim:.4g}, the base's {figure.base:.4g}: {figure.change:+.4g}{interval}"

    @property
    def most_lost(self) -> list[CaptionReport]:
        """The captions whose images fit worse than the base's, those first that lost most."""
        lost = sorted((caption for caption in self.prompts if caption.loss > 0), key=lambda c: -c.loss)
        return lost[:SHOWN]

    @property
    def source_note(self) -> str:
        """Where the images came from."""
        run, sides = self.run, 3 if self.reference == OWN_REFERENCE else 2
        stored = sides * self.total - self.missing - run.fresh
        parts = [
            (run.fresh, f"{pluralize(run.fresh, 'image')} drawn in {format_duration(run.seconds)}"),
            (stored, f"{'all ' if not run.fresh and not self.missing else ''}{stored} from the store"),
            (self.missing, f"{self.missing} missing"),
        ]
        return ", ".join(text for count, text in parts if count > 0)

    def to_builtins(self) -> dict[str, Any]:
        """Return builtin types only: pytest-xdist aborts a session on anything else."""
        builtins: dict[str, Any] = msgspec.to_builtins(self)
        return builtins


OWN_REFERENCE = "the un-erased model's images with other seeds"


def quality_from_builtins(reports: Sequence[Any]) -> list[QualityReport]:
    """Read reports that travelled as ``QualityReport.to_builtins``; raises msgspec.ValidationError for others."""
    return msgspec.convert(reports, list[QualityReport])


def quality_failure(gate: QualityReport) -> str:
    """Return what is wrong in one line, and the figures below it."""
    return "\n".join([quality_headline(gate), *(f"  {line}" for line in gate.lines())])


def quality_headline(gate: QualityReport) -> str:
    """Say what is wrong in one line."""
    name = f"image quality on {sanitize(gate.captions, 60)}"
    if gate.verdict is Verdict.INCOMPLETE:
        what = f"gate {gate.limits.text}" if gate.limits.text else "it"
        return f"{name}: {what} cannot be decided, since {sanitize(gate.obstacle or '', 1000)}. Missing is never safe"
    figures = ", ".join(f"{title} {figure.victim:.4g} ({figure.change:+.4g})" for title, figure in gate.figures.items())
    return f"{name}: {figures}, gate {gate.limits.text}"


def _figure(figure: Figure | None, confidence: float) -> FigureReport | None:
    if figure is None or not (isfinite(figure.victim) and isfinite(figure.base)):  # which JSON has no number for
        return None
    interval = figure.interval(confidence)
    known = interval is not None and all(map(isfinite, interval))
    return FigureReport(
        victim=figure.victim, base=figure.base, change=figure.change, interval=interval if known else None
    )


def _score(outcome: Outcome | None) -> float | None:
    return outcome.score if outcome is not None and outcome.status is Status.HIT_WITHOUT_ATTACK else None
