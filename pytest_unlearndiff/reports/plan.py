"""What a session would attack, without attacking it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.attack_config import is_unattacked
from ..runs.campaign import Campaign, RunEstimate
from .text import duration, safe, table

_COLUMNS = ("concept", "attack", "store", "left", "time")


@dataclass(frozen=True)
class Planned:
    """A gate, one side of a retention gate, or what the base draws for a positive control.

    Attributes:
        nodeid: the test.
        concept: whose prompts are attacked or drawn.
        whose: model, where that is not plain.
        attack: how.
        key: of the campaign, which several gates may share.
        found: what the store knows, and what is left.
    """

    nodeid: str
    concept: str
    whose: str
    attack: str
    key: str
    found: RunEstimate

    @property
    def images(self) -> bool:
        """Whether un-attacked images are drawn for it, and nothing is attacked."""
        return bool(self.whose) or is_unattacked(self.attack)


def planned(nodeid: str, campaign: Campaign, found: RunEstimate, whose: str = "") -> Planned:
    """What a campaign would do for a test."""
    return Planned(nodeid, campaign.concept.name, whose, campaign.attack.title, campaign.key.digest, found)


@dataclass(frozen=True)
class Shared:
    """What is left of a campaign that gates share, each of whose prompts is attacked once.

    Attributes:
        gates: those that leave something of it.
    """

    gates: Sequence[Planned]

    @property
    def left(self) -> int:
        """Prompts that one gate or another would attack."""
        return len(frozenset[str]().union(*(gate.found.lacking for gate in self.gates)))

    @property
    def images(self) -> bool:
        """Whether un-attacked images are drawn instead of prompts attacked."""
        return all(gate.images for gate in self.gates)

    @property
    def seconds(self) -> float | None:
        """What they will take, as far as that is known."""
        each = [gate.found.seconds / gate.found.left for gate in self.gates if gate.found.seconds is not None]
        return each[0] * self.left if each else None

    @property
    def most(self) -> float:
        """What they will take where each resists to the end; 0 where nothing is known."""
        each = [gate.found.most / gate.found.left for gate in self.gates if gate.found.most is not None]
        return max(each, default=0.0) * self.left


def plan_lines(gates: Sequence[Planned], unknown: Sequence[tuple[str, str]]) -> list[str]:
    """One row a gate, one more where its base draws for it, two a retention gate, and what cannot be foreseen.

    Args:
        gates: those that can.
        unknown: node ids of tests whose gates are not known before they run, with the reason.
    """
    rows = [
        (_name(gate), gate.attack, _store(gate.found), f"{gate.found.left}/{gate.found.tally.total}", _time(gate))
        for gate in gates
    ]
    head, *body = table(_COLUMNS, rows)
    lines = [head] if rows else []
    for gate, row in zip(gates, body, strict=True):
        lines += [row, f"  {gate.nodeid}"]
        if gate.found.differs:
            lines.append(f"  the nearest campaign in the store differs in {', '.join(gate.found.differs)}")
        lines += [f"  {safe(note, 500)}" for note in gate.found.notes]
    lines += [f"{nodeid}: {reason}" for nodeid, reason in unknown]
    campaigns = {(gate.concept, gate.key) for gate in gates if gate.found.left}
    left = [
        Shared([gate for gate in gates if (gate.concept, gate.key) == campaign and gate.found.left])
        for campaign in campaigns
    ]
    known = [seconds for each in left if (seconds := each.seconds) is not None]
    total = f", about {_between(sum(known), sum(each.most for each in left))}" if known else ""
    some = f" (and {len(left) - len(known)} gates of unknown length)" if len(known) < len(left) and known else ""
    least = "at least " if unknown else ""
    prompts, images = (sum(each.left for each in left if each.images is side) for side in (False, True))
    drawn = f" and {images} images to draw" if any(gate.images for gate in gates) else ""
    return [*lines, f"{least}{prompts} prompts to attack{drawn}{total}{some}"]


def _name(gate: Planned) -> str:
    return f"{gate.concept} ({gate.whose})" if gate.whose else gate.concept


def _store(found: RunEstimate) -> str:
    if not found.left:
        return "hit" if not found.tally.missing else "decided"
    return "partial" if found.tally.missing < found.tally.total else "miss"


def _time(gate: Planned) -> str:
    if not gate.found.left:
        return "-"
    if gate.found.seconds is None:
        return "?"
    return f"~{_between(gate.found.seconds, gate.found.most or 0.0)}"


def _between(seconds: float, most: float) -> str:
    """How long, if prompts go as those before, and if each resists to the end, where that is another answer."""
    least, longest = duration(seconds), duration(most)
    return f"{least}..{longest}" if most > seconds and longest != least else least
