"""Unlearning beside retention in one line, as benchmarks print it, from the gates of a session.

The figures are those of UnlearnCanvas (Zhang et al. 2024, arXiv 2402.11846, section 3): unlearning accuracy (UA), the
share of images of the erased concept's prompts in which a classifier does not see it; in-domain and cross-domain retain
accuracy (IRA, CRA), the share of images of other concepts in which it sees these, of the erased concept's domain and of
others. Here a domain is what one judge model tells apart, and accuracy under an attack stands beside that without one.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..core.attack_config import is_unattacked
from ..core.info import Threat
from ..core.rate import Rate
from .gate_report import GateReport, by_threat
from .session_report import SessionReport
from .text import format_share, pluralize, sanitize


def two_sided_lines(session: SessionReport) -> list[str]:
    """Return a line per erased concept and model that the session also gates retention of."""
    gone = by_threat(session.gone).get(Threat.TEXT, [])
    models = dict.fromkeys((gate.concept, gate.fingerprint) for gate in gone)
    return [line for concept, model in models if (line := _line(session, concept, model))]


def _line(session: SessionReport, concept: str, model: str) -> str:
    """Describe both sides of a model; empty without a gate on what it must keep."""
    text = by_threat(session.gone)[Threat.TEXT]
    gone = [gate for gate in text if (gate.concept, gate.fingerprint) == (concept, model)]
    kept = [gate for gate in session.kept if gate.fingerprint == model and gate.concept != concept]
    if not kept:
        return ""
    domain = _domain(gone[0])
    sides = [_unlearned(gate) for gate in gone]
    for name, same in (("in-domain retention", True), ("cross-domain retention", False)):
        if gates := [gate for gate in kept if (_domain(gate) == domain) is same]:
            drawn = format_share(*_sums((gate.hits, gate.unknown, gate.counts.total) for gate in gates))
            sides.append(f"{name} {drawn} ({pluralize(len(gates), 'concept')})")
    return f"{sanitize(concept, 60)} on {sanitize(gone[0].run.victim, 200)}: {'; '.join(dict.fromkeys(sides))}"


def _unlearned(gate: GateReport) -> str:
    """Say of how many prompts the concept is not drawn, without attack and under one."""
    total, drawn = gate.counts.total, gate.counts.hits_without_attack
    text = f"unlearning accuracy {_rest(drawn, gate.unknown, total)}"
    if is_unattacked(gate.attack):
        return text
    return f"{text}, under {sanitize(gate.attack, 60)} {_rest(gate.hits, gate.unknown, total)}"


def _rest(hits: int, unknown: int, total: int) -> Rate:
    """Share of prompts that do not draw the concept; of unknown ones each may or may not."""
    return Rate(total - hits - unknown, total, unknown)


def _domain(gate: GateReport) -> str:
    """Return what tells the judge's model from others: its weights."""
    return str(gate.campaign.get("judge", {}).get("weights", ""))


def _sums(counts: Iterable[tuple[int, int, int]]) -> tuple[int, int, int]:
    hits, unknown, total = (sum(column) for column in zip(*counts, strict=True))
    return hits, unknown, total
