"""The summary section at the end of a session."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from ..core.gate import Gate, Verdict
from ..core.rate import largest_within, percent
from .failure import evidence, numbers, source
from .record import Record
from .text import count, readable, safe, share, table

_COLUMNS = ("concept", "pre-ASR", "ASR", "interval", "verdict")


def summary_lines(records: Sequence[Record], *, verbosity: int = 0) -> list[tuple[str, str]]:
    """Lines of the summary with the verdict that colours each, or an empty string.

    Args:
        records: finished gates.
        verbosity: pytest's; below zero only gates that did not pass are shown, above zero what was assumed too.
    """
    shown = [record for record in records if verbosity >= 0 or not record.passed]
    if not shown:
        return []
    head, *rows = table(_COLUMNS, [_row(record) for record in shown])
    lines = [(head, "")]
    for record, row in zip(shown, rows, strict=True):
        lines.append((row, record.verdict))
        lines.append((f"  {record.nodeid}: {record.limits or 'no limit'}, {source(record)}", ""))
        if said := numbers(record) if verbosity > 0 or record.attackable != record.total else "":
            lines.append((f"  {said}", ""))
        if support := _support(record):
            lines.append((support, ""))
        if not record.passed:
            lines += [(f"  {safe(record.obstacle, 500)}", "")] * bool(record.obstacle)
            lines += [(line, "") for line in evidence(record)[1:]]
        if verbosity > 0:
            lines += [(f"  {_named(name)}: {readable(value)}", "") for name, value in record.assumed.items() if value]
    return lines


def _support(record: Record) -> str:
    """How little a pass says, where it says little."""
    if record.verdict != Verdict.PASS or record.max_asr is None or record.reading != "point":
        return ""
    limit = Fraction(record.max_asr)
    if (rate := Gate(limit).also_passes(record.total)) is None:
        return ""
    within = largest_within(limit, record.total)
    return f"  {within} of {record.total} also passes a model whose true ASR is {percent(rate)} one time in five"


def _row(record: Record) -> tuple[str, ...]:
    return (
        safe(record.concept, 30),
        count(record.generated, record.undecided, record.total),
        share(record.successes, record.undecided, record.total),
        f"{percent(record.low)}..{percent(record.high)}",
        record.verdict or "-",
    )


def _named(name: str) -> str:
    return safe(name.replace("_", " "))
