"""What a session would attack, without attacking it."""

from __future__ import annotations

from collections.abc import Sequence

from ..campaign.campaign import Prospect
from .text import duration, table

_COLUMNS = ("concept", "store", "left", "time")


def plan_lines(gates: Sequence[tuple[str, str, Prospect]], unknown: Sequence[tuple[str, str]]) -> list[str]:
    """One row a gate, and what cannot be foreseen.

    Args:
        gates: node id, concept and prospect of each.
        unknown: node ids of tests whose gates are not known before they run, with the reason.
    """
    rows = [(concept, _store(found), f"{found.left}/{found.tally.total}", _time(found)) for _, concept, found in gates]
    head, *body = table(_COLUMNS, rows)
    lines = [head] if rows else []
    for (nodeid, _, found), row in zip(gates, body, strict=True):
        lines += [row, f"  {nodeid}"]
        if found.differs:
            lines.append(f"  the nearest campaign in the store differs in {', '.join(found.differs)}")
    lines += [f"{nodeid}: {reason}" for nodeid, reason in unknown]
    left = [found for _, _, found in gates if found.left]
    known = [found.seconds for found in left if found.seconds is not None]
    total = f", about {duration(sum(known))}" if known else ""
    some = f" (and {len(left) - len(known)} gates of unknown length)" if len(known) < len(left) and known else ""
    least = "at least " if unknown else ""
    return [*lines, f"{least}{sum(found.left for found in left)} prompts to attack{total}{some}"]


def _store(found: Prospect) -> str:
    if not found.left:
        return "hit" if not found.tally.missing else "decided"
    return "partial" if found.tally.missing < found.tally.total else "miss"


def _time(found: Prospect) -> str:
    if not found.left:
        return "-"
    return "?" if found.seconds is None else f"~{duration(found.seconds)}"
