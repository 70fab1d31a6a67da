"""The summary section at the end of a session."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.attack_config import AttackConfig
from ..core.rate import percent
from ..core.result import STORE_NOTES
from .failure import blocked, evidence, numbers, source, support, ungated
from .gate_report import GateReport
from .text import UNKEPT, count, readable, safe, share, table, told_model, told_models

_COLUMNS = ("concept", "pre-ASR", "ASR", "interval", "verdict")
_USUAL = AttackConfig().title
_LEAST = 12


def summary_lines(
    records: Sequence[GateReport], *, verbosity: int = 0, width: int | None = None
) -> list[tuple[str, str]]:
    """Lines of the summary with the verdict that colours each, or an empty string.

    The attack is told where it is not the usual one throughout, in a column of its own where that fits.

    Args:
        records: finished gates.
        verbosity: pytest's; below zero only gates are shown that did not pass, or whose pass says little; above zero
            the attack and what was assumed too.
        width: of the terminal, which the table has to fit, beside what its last column has to say; None for any.
    """
    shown = [record for record in records if verbosity >= 0 or not record.passed or support(record) or ungated(record)]
    if not shown:
        return []
    told = verbosity > 0 or any(record.attack != _USUAL for record in shown)
    named = _table(shown, attack=True)
    column = told and (width is None or max(map(len, named)) <= width)
    head, *rows = named if column else _fitted(shown, width)
    lines = [(head, "")]
    of_all = told_models([record.model for record in shown])
    for record, row in zip(shown, rows, strict=True):
        lines.append(("; ".join(filter(None, (row, ungated(record)))), record.verdict))
        attack = f"{safe(record.attack)}, " if told and not column else ""
        lines.append((f"  {safe(record.nodeid, 1000)}: {attack}{record.limits or 'no limit'}, {source(record)}", ""))
        if not of_all:
            lines.append((f"  {told_model(record.model)}", ""))
        if said := numbers(record) if verbosity > 0 or record.attackable != record.total else "":
            lines.append((f"  {said}", ""))
        if said := support(record):
            lines.append((f"  {said}", ""))
        if record.passed and record.unkept:
            lines.append((f"  {safe(record.unkept, UNKEPT)}", ""))
        lines += [(f"  {safe(str(note), 500)}", "") for note in record.assumed.get(STORE_NOTES, ())]
        if record.passed and (said := blocked(record)):
            lines.append((f"  {said}", ""))
        if not record.passed:
            lines += [(f"  {safe(record.obstacle, 500)}", "")] * bool(record.obstacle)
            lines += [(line, "") for line in evidence(record)[1:]]
        if verbosity > 0:
            facts = ((name, value) for name, value in record.assumed.items() if value and name != STORE_NOTES)
            lines += [(f"  {_named(name)}: {readable(value)}", "") for name, value in facts]
    return lines + [(f"  {of_all}", "")] * bool(of_all)


def _table(records: Sequence[GateReport], *, attack: bool = False, name: int = 30) -> list[str]:
    """Head and rows, aligned; names of concepts are cut to ``name`` characters."""
    rows = [_row(record, name) for record in records]
    if not attack:
        return table(_COLUMNS, rows)
    attacks = [safe(record.attack, 40) for record in records]
    columns = (_COLUMNS[0], "attack", *_COLUMNS[1:])
    return table(columns, [(row[0], said, *row[1:]) for row, said in zip(rows, attacks, strict=True)])


def _fitted(records: Sequence[GateReport], width: int | None) -> list[str]:
    """The table without attacks, with names of concepts as long as the terminal has room for."""
    lines = _table(records)
    over = max(map(len, lines)) - width if width is not None else 0
    longest = max(len(safe(record.concept, 30)) for record in records)
    return _table(records, name=max(longest - over, _LEAST)) if over > 0 else lines


def _row(record: GateReport, name: int) -> tuple[str, ...]:
    return (
        safe(record.concept, name),
        count(record.hits_without_attack, record.undecided, record.total),
        share(record.successes, record.undecided, record.total),
        f"{percent(record.low)}..{percent(record.high)}",
        record.verdict or "-",
    )


def _named(name: str) -> str:
    return safe(name.replace("_", " "))
