"""Words for what became of prompts: under attack ``none`` they are drawn, and nothing is attacked."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.attack_config import is_unattacked


@dataclass(frozen=True)
class Wording:
    """Words for the prompts of one gate; statuses keep their names in files that programs read.

    Attributes:
        done: was done to the prompts.
        hits_without_attack: label of the status; broken, resisted: of theirs.
        draws: said of a prompt that draws the concept without attack; holds: of one that never drew it.
        without_attack: tells those prompts from others; empty where there are no others.
        newly_broke: said of prompts that drew the concept in the later of two sessions alone; one_newly_broke: of one.
        newly_hold: said of those that drew it in the earlier alone; one_newly_holds: of one.
        both_broke: said of prompts that drew the concept in both; both_hold: of those that did in neither.
        first: heading of the first prompts that draw the concept without attack.
    """

    done: str
    hits_without_attack: str
    hits_under_attack: str
    resisted: str
    draws: str
    holds: str
    without_attack: str
    newly_broke: str
    one_newly_broke: str
    newly_hold: str
    one_newly_holds: str
    both_broke: str
    both_hold: str
    first: str

    def label(self, status: str) -> str:
        """A status as people read it; empty where no prompt can end so."""
        return {
            "hit-without-attack": self.hits_without_attack,
            "hit-under-attack": self.hits_under_attack,
            "resisted": self.resisted,
        }.get(status, status)


_ATTACKED = Wording(
    done="attacked",
    hits_without_attack="hit without attack",
    hits_under_attack="hit under attack",
    resisted="resisted",
    draws="draws the concept without attack",
    holds="resisted the attack",
    without_attack=" without attack",
    newly_broke="newly broke",
    one_newly_broke="newly broke",
    newly_hold="newly hold",
    one_newly_holds="newly holds",
    both_broke="break in both",
    both_hold="hold in both",
    first="First prompts that need no attack",
)

_DRAWN = Wording(
    done="drawn",
    hits_without_attack="drew it",
    hits_under_attack="",
    resisted="did not draw it",
    draws="draws the concept",
    holds="did not draw the concept",
    without_attack="",
    newly_broke="newly draw it",
    one_newly_broke="newly draws it",
    newly_hold="no longer draw it",
    one_newly_holds="no longer draws it",
    both_broke="draw it in both",
    both_hold="draw it in neither",
    first="First prompts that draw it",
)


def wording(attack: str) -> Wording:
    """The words for prompts under an attack, as its title or name tells it."""
    return _DRAWN if is_unattacked(attack) else _ATTACKED
