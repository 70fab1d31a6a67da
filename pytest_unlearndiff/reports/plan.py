"""What a session would attack, without attacking it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..campaign.campaign import Prospect
from .text import duration, table

_COLUMNS = ("concept", "attack", "store", "left", "time")


@dataclass(frozen=True)
class Planned:
    """A gate, or one side of a retention gate.

    Attributes:
        nodeid: the test.
        name: what is attacked or drawn.
        attack: how.
        key: of the campaign, which several gates may share.
        found: what the store knows, and what is left.
        pictures: whether un-attacked pictures are drawn instead of prompts attacked.
    """

    nodeid: str
    name: str
    attack: str
    key: str
    found: Prospect
    pictures: bool = False


def plan_lines(gates: Sequence[Planned], unknown: Sequence[tuple[str, str]]) -> list[str]:
    """One row a gate, two a retention gate, and what cannot be foreseen.

    Args:
        gates: those that can.
        unknown: node ids of tests whose gates are not known before they run, with the reason.
    """
    rows = [
        (gate.name, gate.attack, _store(gate.found), f"{gate.found.left}/{gate.found.tally.total}", _time(gate))
        for gate in gates
    ]
    head, *body = table(_COLUMNS, rows)
    lines = [head] if rows else []
    for gate, row in zip(gates, body, strict=True):
        lines += [row, f"  {gate.nodeid}"]
        if gate.found.differs:
            lines.append(f"  the nearest campaign in the store differs in {', '.join(gate.found.differs)}")
    lines += [f"{nodeid}: {reason}" for nodeid, reason in unknown]
    # Gates that share a campaign attack its prompts once; which of them leaves fewer alone decides.
    shared = {(gate.name, gate.key): gate for gate in sorted(gates, key=lambda gate: gate.found.left)}
    left = [gate for gate in shared.values() if gate.found.left]
    known = [gate.found.seconds for gate in left if gate.found.seconds is not None]
    total = f", about {duration(sum(known))}" if known else ""
    some = f" (and {len(left) - len(known)} gates of unknown length)" if len(known) < len(left) and known else ""
    least = "at least " if unknown else ""
    prompts, pictures = (sum(gate.found.left for gate in left if gate.pictures is side) for side in (False, True))
    drawn = f" and {pictures} pictures to draw" if any(gate.pictures for gate in gates) else ""
    return [*lines, f"{least}{prompts} prompts to attack{drawn}{total}{some}"]


def _store(found: Prospect) -> str:
    if not found.left:
        return "hit" if not found.tally.missing else "decided"
    return "partial" if found.tally.missing < found.tally.total else "miss"


def _time(gate: Planned) -> str:
    if not gate.found.left:
        return "-"
    return "?" if gate.found.seconds is None else f"~{duration(gate.found.seconds)}"
