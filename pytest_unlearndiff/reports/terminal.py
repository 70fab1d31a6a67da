"""The summary section at the end of a session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..core.attack_config import AttackConfig
from ..core.rate import percent
from ..core.result import STORE_NOTES
from .failure_text import (
    attackable_note,
    base_count,
    blocked_note,
    count_without_attack,
    evidence,
    losses,
    scores_note,
    source_note,
    ungated,
)
from .gate_report import GateReport, by_threat
from .published import published_lines
from .quality_report import COLUMNS, QualityReport
from .text import UNKEPT, format_share, format_value, model_line, models_line, sanitize, table

_KEPT = ("retained", "base", "victim", "lost", "interval", "verdict")
_DEFAULT_ATTACK = AttackConfig().title
_SHORTEST_NAME = 12

Line = tuple[str, str]
"""A line of the summary, and the verdict that colours it or an empty string."""


def summary_lines(gates: Sequence[GateReport], *, verbosity: int = 0, width: int | None = None) -> list[Line]:
    """Return tables of concepts that must be gone, one per threat model, and one of those that must be kept.

    The attack is named where it is not the default one throughout, in a column of its own where that fits.

    Args:
        gates: finished gates.
        verbosity: pytest's; below zero only gates are shown that did not pass, or whose pass says little; above zero
            the attack and what was assumed too.
        width: of the terminal, which the table has to fit, beside notes after its last column; None for any.
    """
    shown = [gate for gate in gates if verbosity >= 0 or not gate.passed or gate.limits.support or ungated(gate)]
    one_model = models_line([gate.run.victim for gate in shown])
    lines: list[Line] = []
    for group in (*by_threat(shown).values(), [gate for gate in shown if gate.kept]):
        if group:
            named = not group[0].kept and (verbosity > 0 or any(gate.attack != _DEFAULT_ATTACK for gate in group))
            head, *rows = _fitted(group, named=named, width=width)
            lines.append((head, ""))
            attack_beside = named and "attack" not in map(str.strip, head.split("  "))  # which parts columns
            for gate, row in zip(group, rows, strict=True):
                lines.append(("; ".join(filter(None, (row, ungated(gate)))), gate.verdict or ""))
                attack = f"{sanitize(gate.attack)}, " if attack_beside else ""
                limits = gate.limits.text or "no limit"
                lines.append((f"  {sanitize(gate.nodeid, 1000)}: {attack}{limits}, {source_note(gate)}", ""))
                notes = _notes(gate, verbosity, named_model=not one_model)
                lines += [(f"  {note}", "") for note in notes if note]
    return lines + [(f"  {one_model}", "")] * bool(one_model)


def quality_lines(gates: Sequence[QualityReport], *, verbosity: int = 0) -> list[Line]:
    """Return a table of gates on image quality, with their figures.

    Args:
        gates: finished gates.
        verbosity: pytest's; below zero only gates are shown that did not pass, above zero the captions that lost most.
    """
    shown = [gate for gate in gates if verbosity >= 0 or not gate.passed]
    if not shown:
        return []
    head, *rows = table(COLUMNS, [gate.cells for gate in shown])
    lines: list[Line] = [(head, "")]
    for gate, row in zip(shown, rows, strict=True):
        lines += [(row, gate.verdict or ""), (f"  {sanitize(gate.nodeid, 1000)}: {gate.limits.text or 'no limit'}", "")]
        notes = [
            model_line(gate.run.victim),
            sanitize(gate.prompt_set.warning, 500),
            sanitize(gate.obstacle or "", 500),
        ]
        notes += [sanitize(gate.unkept or "", UNKEPT), *gate.lines(captions=verbosity > 0 or not gate.passed)]
        lines += [(f"  {note}", "") for note in notes if note]
    return lines


def _notes(gate: GateReport, verbosity: int, *, named_model: bool) -> Iterator[str]:
    """Yield the notes on a gate below its row."""
    facts = gate.run.assumed
    if named_model:
        yield model_line(gate.run.victim)
    if verbosity > 0 or gate.counts.attackable != gate.counts.total:
        yield attackable_note(gate)
    yield sanitize(str(gate.prompt_set) if verbosity > 0 else gate.prompt_set.warning, 500)
    yield gate.limits.support or ""
    yield from published_lines(gate)
    # An obstacle ends with them.
    yield from (
        sanitize(note, 500) for note in map(str, facts.get(STORE_NOTES, ())) if note not in (gate.obstacle or "")
    )
    yield scores_note(gate) if verbosity > 0 or _reads_prompts(gate) else ""
    if gate.passed:
        yield sanitize(gate.unkept or "", UNKEPT)
        yield blocked_note(gate)
    else:
        yield sanitize(gate.obstacle or "", 500)
        yield from (line.strip() for line in evidence(gate)[1:])
    if verbosity > 0:
        for name, value in facts.items():
            if value and name != STORE_NOTES:
                yield f"{sanitize(name.replace('_', ' '))}: {format_value(value)}"


def _reads_prompts(gate: GateReport) -> bool:
    """Tell whether the judge's score says how well an image fits its prompt, which is a figure of its own."""
    return str(gate.campaign.get("judge", {}).get("kind", "")).startswith("clip-score@")


def _fitted(gates: Sequence[GateReport], *, named: bool, width: int | None) -> list[str]:
    """Return the table: with attacks if they are to be named and fit, else with names of concepts cut to fit."""
    with_attack = _table(gates, attack=named)
    if width is None or max(map(len, with_attack)) <= width:
        return with_attack
    lines = _table(gates, attack=False)
    over = max(map(len, lines)) - width
    longest = max(len(sanitize(gate.concept, 30)) for gate in gates)
    return _table(gates, attack=False, name=max(longest - over, _SHORTEST_NAME)) if over > 0 else lines


def _table(gates: Sequence[GateReport], *, attack: bool, name: int = 30) -> list[str]:
    threat, rows = gates[0].threat, [_row(gate, name) for gate in gates]
    columns: tuple[str, ...] = ("concept", threat.rate_without_attack, threat.rate, "interval", "verdict")
    columns = _KEPT if gates[0].kept else columns
    if attack:
        columns = (columns[0], "attack", *columns[1:])
        rows = [(row[0], sanitize(gate.attack, 70), *row[1:]) for gate, row in zip(gates, rows, strict=True)]
    return table(columns, rows)


def _row(gate: GateReport, name: int) -> tuple[str, ...]:
    share, (low, high) = format_share(gate.hits, gate.unknown, gate.counts.total), gate.rate.interval
    figures = (base_count(gate), share, losses(gate)) if gate.kept else (count_without_attack(gate), share)
    return (sanitize(gate.concept, name), *figures, f"{percent(low)}..{percent(high)}", gate.verdict or "-")
