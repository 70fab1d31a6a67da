"""Rows for the UnlearnDiffAtk benchmark's page, and a badge for shields."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..core.attack_config import is_unattacked
from ..core.gate import Verdict
from ..core.info import Threat
from ..core.rate import fine_percent, percent
from .failure_text import scores_note
from .gate_report import GateReport, by_threat
from .markdown import plain
from .published import AUTHORS, PAPER_ATTACK
from .quality_report import QualityReport
from .session_report import SessionReport
from .text import format_share, last_part, pluralize, sanitize

_COLUMNS = ("Unlearned Methods", "Pre-ASR (%)", "ASR (%)", "FID", "CLIP-Score")
"""Columns of the tables in the README of OPTML-Group/Diffusion-MU-Attack."""
_COLOURS = {
    Verdict.PASS: "brightgreen",
    Verdict.FAIL: "red",
    Verdict.INCONCLUSIVE: "orange",
    Verdict.INCOMPLETE: "orange",
    None: "blue",
}


def leaderboard(session: SessionReport) -> str:
    """Return a table per concept with the benchmark's columns, and what keeps a row from being compared with it.

    FID and CLIP score are those of a gate on the quality of the same model's images, or the score that of a gate on
    captions that it must keep, judged by ``clip-score``. The text is empty where no gate attacks.
    """
    text, *others = _text_first(session)
    gates = [gate for gate in text if not is_unattacked(gate.attack)]
    if not gates:
        return ""
    lines = [f"Not all gates are in these tables: {', '.join(session.gaps)}.", ""] if session.gaps else []
    for concept in sorted({gate.concept for gate in gates}):
        rows = [gate for gate in gates if gate.concept == concept]
        lines += [f"### Unlearned Concept: {plain(concept)}", "", f"| {' | '.join(_COLUMNS)} |"]
        lines += ["|" + "---|" * len(_COLUMNS), *(_row(gate, session) for gate in rows), ""]
        notes = [(gate, note) for gate in rows for note in _notes(gate, session)]
        lines += [*(f"- {plain(_method(gate))}: {note}" for gate, note in notes), ""]
    rest = [f"- {plain(_method(gate))}: {plain(_rate(gate))}" for group in others for gate in group]
    lines += ["Attacks that leave text, which these tables do not count:", "", *rest, ""] if rest else []
    return "\n".join(lines)


def _text_first(session: SessionReport) -> list[list[GateReport]]:
    """Return the gates on what must be gone by threat model, those on text first, of which there may be none."""
    groups = by_threat(session.gone)
    return [groups.pop(Threat.TEXT, []), *groups.values()]


def _rate(gate: GateReport) -> str:
    """Say the largest rate that a gate's can be."""
    concept, most = sanitize(gate.concept, 40), "up to " if gate.unknown else ""
    return f"{concept} {gate.threat.rate} {most}{percent(gate.rate.at_most)} ({sanitize(gate.attack)})"


def _captions(gate: GateReport, session: SessionReport) -> GateReport | None:
    """Return the gate on captions of the same model, with its CLIP score."""
    for kept in session.kept:
        judge = str(kept.campaign.get("judge", {}).get("kind", ""))
        same = (kept.fingerprint, kept.run.victim) == (gate.fingerprint, gate.run.victim)
        if judge.startswith("clip-score@") and same and kept.base is not None and kept.base.scores is not None:
            return kept
    return None


def _quality(gate: GateReport, session: SessionReport) -> list[QualityReport]:
    """Return the gates on the quality of the same model's images."""
    return [measured for measured in session.quality if measured.fingerprint == gate.fingerprint]


def _row(gate: GateReport, session: SessionReport) -> str:
    rates = [_percentages(rate.at_least, rate.at_most) for rate in (gate.rate_without_attack, gate.rate)]
    quality, captions = _quality(gate, session), _captions(gate, session)
    fids = [measured.fid.victim for measured in quality if measured.fid is not None]
    clips = [measured.clip.victim for measured in quality if measured.clip is not None]
    if captions is not None and captions.base is not None and captions.base.scores is not None:
        clips.append(captions.base.scores.victim)
    fid, clip = f"{fids[0]:.2f}" if fids else "-", f"{clips[0]:.3f}" if clips else "-"
    return f"| {' | '.join([plain(_method(gate)), *rates, fid, clip])} |"


def _method(gate: GateReport) -> str:
    return last_part(gate.run.victim) or "unknown model"


def _percentages(least: float, most: float) -> str:
    return f"{100 * least:.2f}" if least == most else f"{100 * least:.2f} to {100 * most:.2f}"


def _notes(gate: GateReport, session: SessionReport) -> Iterator[str]:
    captions = _captions(gate, session)
    low, high = gate.rate.interval
    yield (
        f"ASR {format_share(gate.hits, gate.unknown, gate.counts.total)}, {percent(low)} to {percent(high)} at "
        f"{fine_percent(gate.limits.confidence)}; key {gate.key}"
    )
    if gate.unknown:
        unknown = pluralize(gate.unknown, "prompt")
        yield f"not comparable with the page: {unknown} not measured; run the gate with exhaustive=True"
    for measured in _quality(gate, session):
        lines = "; ".join(plain(line) for line in measured.lines(captions=False))
        page = "the page's are on 10,000 COCO captions, FID to COCO's own images"
        yield f"on {plain(measured.captions)}: {lines}; {page}"
    if captions is not None:
        yield f"CLIP-Score of {plain(captions.concept)}: {scores_note(captions)}; the page's is on 10,000 COCO captions"
    if gate.attack != PAPER_ATTACK:
        yield f"not comparable with the page: attacked with {plain(gate.attack)}, where the page has {PAPER_ATTACK}"
    if AUTHORS not in gate.prompt_set.source:
        source = plain(gate.prompt_set.source) or "of unknown origin"
        yield f"not comparable with the page: prompts are not its authors' ({source})"
    if (size := gate.prompt_set.prompts) > gate.counts.total:
        yield f"not comparable with the page: {gate.counts.total} of the set's {size} prompts"


def badge(session: SessionReport) -> str:
    """Return a badge of the session's attacks as the JSON that shields.io reads from an endpoint.

    It names the worst rate of each threat model, and has the colour of the worst verdict; a rate that no limit was held
    against is blue. A session that was cut short or left gates unmeasured is at best incomplete.
    """
    verdict = session.worst_verdict
    limited = verdict is not None
    if session.gaps and verdict is not Verdict.FAIL:
        verdict = Verdict.INCOMPLETE
    parts = [_rate(max(group, key=lambda gate: gate.rate.at_most)) for group in _text_first(session) if group]
    passed = sum(gate.passed for gate in session.every)
    parts.append(f"{passed} of {len(session.every)} gates pass" if limited else "no limit")
    message = ", ".join([*parts, *session.gaps])
    facts = {"schemaVersion": 1, "label": "unlearning", "message": message, "color": _COLOURS[verdict]}
    return json.dumps({**facts, "isError": verdict not in (None, Verdict.PASS)}, indent=1) + "\n"
