"""Model cards for the Hugging Face Hub: evaluation results as metadata (``model-index``), and a readable section."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..core.attack_config import is_unattacked
from ..core.errors import ReportError, one_line
from ..core.info import Threat
from ..core.rate import fine_percent, percent
from .failure_text import base_count, count_without_attack, losses, source_note
from .gate_report import GateReport, by_threat
from .markdown import plain, quality_table
from .quality_report import QualityReport
from .session_report import AnyReport, SessionReport
from .text import format_share, last_part, sanitize

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_TASK = "text-to-image"
_BEGIN, _END = "<!-- pytest-unlearndiff: begin -->", "<!-- pytest-unlearndiff: end -->"
_SECTION = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}\n?", re.DOTALL)
_OWN_FIELDS = ("model-index", "model_name", "eval_results", "tags")
"""Of a card's metadata, those that are arguments of their own here."""
_MEASURED_BY = "measured_by"
"""Argument of a metric by which results of this project are told from others in the card."""
_VERSIONS = ("pytest-unlearndiff", "torch", "diffusers", "transformers")
_MEANING_OF_ASR = (
    "Attack success rate (ASR): the share of prompts that draw the concept as they are or with adversarial tokens; "
    "pre-ASR: as they are."
)
_KEPT = ("concept to keep", "drawn", "base draws", "lost", "interval", "gate", "verdict", "key")


def update_model_card(card: str, session: SessionReport) -> str:
    """Write a session's results into a model card; everything else in the card stays.

    Args:
        card: text of an existing card; empty for a new one.
        session: with gates on one model.

    Returns:
        The card with its metadata, in the form that the Hub reads.

    Raises:
        ReportError: the session has gates on several models, or none, or the card's metadata cannot be read.
    """
    from huggingface_hub import ModelCard, ModelCardData

    name = _model_name(session)
    try:
        # Without a block of metadata huggingface_hub warns that it found none.
        existing: Any = ModelCard(card if card.lstrip().startswith("---") else f"---\n{{}}\n---\n{card}")
        kept = [result for result in existing.data.eval_results or () if not _is_own(result)]
        fields = {key: value for key, value in existing.data.to_dict().items() if key not in _OWN_FIELDS}
        tags = dict.fromkeys([*(existing.data.tags or ()), "concept-unlearning"])
        data = ModelCardData(
            **{"library_name": "diffusers", "pipeline_tag": _TASK, **fields},
            tags=[*tags],
            model_name=existing.data.model_name or name,
            eval_results=[
                *kept,
                *(result for gate in session.gates for result in _results(gate)),
                *(result for gate in session.quality for result in _quality_results(gate)),
            ],
        )
        text, section = existing.text, _section(session)
        text = _SECTION.sub(lambda _: section, text) if _SECTION.search(text) else f"{text.rstrip()}\n\n{section}"
        updated = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text.lstrip()}")
    except Exception as error:  # of huggingface_hub's and PyYAML's own classes
        raise ReportError(f"the model card's metadata cannot be read: {one_line(error)}. Correct it first") from None
    return str(updated.content)


def _model_name(session: SessionReport) -> str:
    """Return the model's name.

    Raises:
        ReportError: there is not one model.
    """
    names = sorted({gate.run.victim for gate in session.every})
    if len(names) != 1:
        listed = ", ".join(sanitize(name, 80) for name in names[:5]) or "none"
        raise ReportError(
            f"a model card is about one model, and the session has gates on {len(names)} ({listed}): choose one with "
            "--model, or run its gates"
        )
    return last_part(names[0]) or "model"


def _is_own(result: EvalResult) -> bool:
    return _MEASURED_BY in (result.metric_args or {})


def _results(gate: GateReport) -> Iterator[EvalResult]:
    """Yield the gate's metrics, in percent; a rate that is not known whole is the largest it can be, or the least."""
    low, high = gate.rate.interval
    facts: dict[str, Any] = {
        _MEASURED_BY: "pytest-unlearndiff",
        "prompts": gate.counts.total,
        "unknown": gate.unknown,
        "interval": [_percentage(low), _percentage(high)],
        "confidence": gate.limits.confidence,
        "limit": gate.limits.text or "none",
        "verdict": str(gate.verdict or "none"),
        "attack": sanitize(gate.attack),
        "key": gate.key,
        **{name: str(gate.run.assumed[name]) for name in _VERSIONS if name in gate.run.assumed},
    }
    concept = sanitize(gate.concept)
    where: dict[str, Any] = {
        "task_type": _TASK,
        "dataset_type": concept,
        "dataset_name": sanitize(gate.prompt_set.source) or f"prompts of {concept}",
    }
    if gate.kept:
        yield _result(
            **where,
            metric_type="retention",
            metric_name=f"{concept} drawn (%)",
            metric_value=_percentage(gate.rate.at_least),
            metric_args=facts,
        )
        return
    least = "at most, " if gate.unknown else ""
    if not is_unattacked(gate.attack):
        rate = gate.threat.rate
        yield _result(
            **where,
            metric_type="attack-success-rate" if gate.threat is Threat.TEXT else rate.replace(" ", "-"),
            metric_name=f"{rate} of {concept} ({least}%)",
            metric_value=_percentage(gate.rate.at_most),
            metric_args=facts,
        )
    if gate.threat is not Threat.TEXT:
        return
    yield _result(
        **where,
        metric_type="pre-attack-success-rate",
        metric_name=f"pre-ASR of {concept} ({least}%)",
        metric_value=_percentage(gate.rate_without_attack.at_most),
        metric_args={**facts, "interval": [_percentage(share) for share in gate.rate_without_attack.interval]},
    )


def _quality_results(gate: QualityReport) -> Iterator[EvalResult]:
    """Yield the figures of a gate on image quality."""
    captions = sanitize(gate.captions)
    for name, figure in gate.figures.items():
        yield _result(
            task_type=_TASK,
            dataset_type=captions,
            dataset_name=sanitize(gate.prompt_set.source) or f"captions {captions}",
            metric_type=name.lower().replace(" ", "-"),
            metric_name=f"{name} on {captions}",
            metric_value=float(f"{figure.victim:.4g}"),
            metric_args={
                _MEASURED_BY: "pytest-unlearndiff",
                "captions": gate.total,
                "base": float(f"{figure.base:.4g}"),
                "features": gate.clip_model if figure is gate.clip else gate.features,
                "reference": "none" if figure is gate.clip else gate.reference,
                "limit": gate.limits.text or "none",
                "verdict": str(gate.verdict or "none"),
                "key": gate.key,
            },
        )


def _result(**fields: Any) -> EvalResult:
    from huggingface_hub import EvalResult

    return EvalResult(**fields)


def _percentage(share: float) -> float:
    return round(100 * share, 2)


def _section(session: SessionReport) -> str:
    """Return the readable part, between marks by which the next export finds it."""
    groups = by_threat(session.gone)
    meanings = [_MEANING_OF_ASR] if Threat.TEXT in groups else []
    meanings += [
        f"{threat.rate.capitalize()}: the share that draw it as they are or by {threat.means}, which nobody can type."
        for threat in groups
        if threat is not Threat.TEXT
    ]
    meanings.append("Measured by pytest-unlearndiff; intervals are Clopper-Pearson.")
    lines = [_BEGIN, "## Robustness of the unlearning", "", " ".join(meanings), ""]
    if session.gaps:
        lines += [f"**INCOMPLETE: not all gates of the session are here ({', '.join(session.gaps)}).**", ""]
    tables = [
        (("concept", threat.rate_without_attack, threat.rate, "interval", "gate", "verdict", "attack", "key"), gates)
        for threat, gates in groups.items()
    ]
    for columns, gates in (*tables, *([(_KEPT, session.kept)] if session.kept else [])):
        lines += [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns), *map(_row, gates), ""]
    lines += quality_table(session.quality)
    if not session.kept and not session.quality:
        lines += ["Nothing gates what this model must keep.", ""]
    lines += [f"- {note}" for gate in session.gates if (note := _note(gate))]
    return "\n".join([*lines, *_versions(session.every), _END, ""])


def _row(gate: GateReport) -> str:
    share, (low, high) = format_share(gate.hits, gate.unknown, gate.counts.total), gate.rate.interval
    figures = (share, base_count(gate), losses(gate)) if gate.kept else (count_without_attack(gate), share)
    interval = f"{percent(low)}..{percent(high)} at {fine_percent(gate.limits.confidence)}"
    verdict = str(gate.verdict or "no limit")
    cells = [plain(gate.concept), *figures, interval, plain(gate.limits.text or "none"), verdict]
    cells += [f"`{gate.key}`"] if gate.kept else [plain(gate.attack), f"`{gate.key}`"]
    return f"| {' | '.join(cells)} |"


def _note(gate: GateReport) -> str:
    about = [plain(str(gate.prompt_set), 500), f"{source_note(gate)}" if gate.counts.missing else ""]
    text = "; ".join(filter(None, about))
    return f"{plain(gate.concept)}: {text}" if text else ""


def _versions(gates: Sequence[AnyReport]) -> list[str]:
    """Name the versions that measured, where these are known."""
    found = dict.fromkeys(
        f"{name} {gate.run.assumed[name]}" for gate in gates for name in _VERSIONS if name in gate.run.assumed
    )
    return [f"- Measured with {plain(', '.join(found), 400)}"] if found else []
