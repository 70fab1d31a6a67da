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

    The CLIP score is that of a gate on captions that the same model must keep, judged by ``clip-score``. FID stays
    open: it is measured elsewhere. The text is empty where no gate attacks.
    """
    text, *others = _text_first(session)
    gates = [gate for gate in text if not is_unattacked(gate.attack)]
    if not gates:
        return ""
    lines = [f"Not all gates are in these tables: {', '.join(session.gaps)}.", ""] if session.gaps else []
    for concept in sorted({gate.concept for gate in gates}):
        rows = [gate for gate in gates if gate.concept == concept]
        lines += [f"### Unlearned Concept: {plain(concept)}", "", f"| {' | '.join(_COLUMNS)} |"]
        lines += ["|" + "---|" * len(_COLUMNS), *(_row(gate, _captions(gate, session)) for gate in rows), ""]
        notes = [(gate, note) for gate in rows for note in _notes(gate, _captions(gate, session))]
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


def _row(gate: GateReport, captions: GateReport | None) -> str:
    rates = [_percentages(rate.at_least, rate.at_most) for rate in (gate.rate_without_attack, gate.rate)]
    scores = captions.base.scores if captions is not None and captions.base is not None else None
    clip = f"{scores.victim:.3f}" if scores is not None else "-"
    return f"| {' | '.join([plain(_method(gate)), *rates, '-', clip])} |"


def _method(gate: GateReport) -> str:
    return last_part(gate.run.victim) or "unknown model"


def _percentages(least: float, most: float) -> str:
    return f"{100 * least:.2f}" if least == most else f"{100 * least:.2f} to {100 * most:.2f}"


def _notes(gate: GateReport, captions: GateReport | None) -> Iterator[str]:
    low, high = gate.rate.interval
    yield (
        f"ASR {format_share(gate.hits, gate.unknown, gate.counts.total)}, {percent(low)} to {percent(high)} at "
        f"{fine_percent(gate.limits.confidence)}; key {gate.key}"
    )
    if gate.unknown:
        unknown = pluralize(gate.unknown, "prompt")
        yield f"not comparable with the page: {unknown} not measured; run the gate with exhaustive=True"
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
    gates = session.worst_first
    verdict = gates[0].verdict
    if session.gaps and verdict is not Verdict.FAIL:
        verdict = Verdict.INCOMPLETE
    parts = [_rate(max(group, key=lambda gate: gate.rate.at_most)) for group in _text_first(session) if group]
    limited = gates[0].verdict is not None
    parts.append(f"{sum(gate.passed for gate in gates)} of {len(gates)} gates pass" if limited else "no limit")
    message = ", ".join([*parts, *session.gaps])
    facts = {"schemaVersion": 1, "label": "unlearning", "message": message, "color": _COLOURS[verdict]}
    return json.dumps({**facts, "isError": verdict not in (None, Verdict.PASS)}, indent=1) + "\n"
