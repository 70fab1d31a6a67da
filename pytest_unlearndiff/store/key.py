"""The key of a campaign: everything that can change an outcome, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .hashing import digest
from .regular_files import json_object

_CAMPAIGN = re.compile(r"[A-Za-z0-9_-]*-(?P<digest>[0-9a-f]{16})")


def is_campaign(name: str) -> bool:
    """Whether the folder of a campaign may be named so: by its concept and the digest of its key."""
    return _CAMPAIGN.fullmatch(name) is not None


def digest_in(campaign: str) -> str:
    """The digest of its key that a campaign's folder is named by; empty for the name of something else."""
    match = _CAMPAIGN.fullmatch(campaign)
    return match["digest"] if match is not None else ""


def read_key(content: bytes, campaign: str) -> dict[str, Any] | None:
    """What the key with this digest was made from; None where the content of ``key.json`` says something else."""
    key = json_object(content)
    return key if key is not None and digest(key) == campaign else None


_FACTS = "campaign"
"""Where the facts of a campaign name it by the digest of its key, so that none are told of another one."""


def written_facts(facts: Mapping[str, Any], campaign: str) -> str:
    """What was loaded and assumed in a campaign, as ``facts.json`` holds it."""
    return json.dumps({**facts, _FACTS: campaign}, indent=2) + "\n"


def read_facts(content: bytes, campaign: str) -> dict[str, Any]:
    """What ``written_facts`` wrote of this campaign; an empty dictionary for anything else."""
    facts = json_object(content) or {}
    return facts if facts.pop(_FACTS, None) == campaign else {}


@dataclass(frozen=True)
class AttackKey:
    """What decides the outcome of a prompt, beside the prompt itself.

    The prompt set is not part of it: an outcome belongs to one prompt, so twenty prompts of a set and fifty of it
    share what they have in common. Limits, paths, devices and package versions are not part of it either.

    Attributes:
        algorithm: version of the attack's mathematics; raised when a change may change outcomes.
        attack: the attack's name.
        params: its settings, slots and schedule among them.
        victim: fingerprint of the victim's weights.
        target: fingerprint of what target images are made from.
        judge: kind, options and fingerprint of the judge.
        sampling: how evaluation images are drawn.
        seed: run seed of the attack's own generators.
    """

    algorithm: int
    attack: str
    params: Mapping[str, Any]
    victim: str
    target: str
    judge: Mapping[str, Any]
    sampling: Mapping[str, Any]
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Builtin types only."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """The key in 16 hex digits."""
        return digest(self.to_dict())


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Which parts of two keys differ, such as ``the victim's weights`` or ``params.slots (5 here, 3 there)``.

    Args:
        here: a key's ``to_dict``.
        there: another's, perhaps read from a file that somebody changed.
    """
    left, right = dict(_parts(here)), dict(_parts(there))
    names = [name for name in dict.fromkeys([*left, *right]) if left.get(name) != right.get(name)]
    if "attack" in names:  # with which its settings differ anyhow, and whether the base is one of them
        names = [name for name in names if not name.startswith("params.") and (name != "target" or _both(left, right))]
    scheduled = [name for name in names if name.startswith(_SCHEDULE)]
    if len(scheduled) > 1:
        names = [name for name in names if name not in scheduled[1:]]
        names[names.index(scheduled[0])] = _SCHEDULE
    return [_difference(name, left.get(name), right.get(name)) for name in names]


def _both(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    """Whether the base is in both keys."""
    return bool(left.get("target") and right.get("target"))


def _parts(key: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in key.items():
        if isinstance(value, Mapping):
            yield from _parts(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _difference(name: str, here: object, there: object) -> str:
    """A difference for people, to whom fingerprints say nothing."""
    if name == "victim" and _weights(here) == _weights(there):
        return "the victim's version, or what acts on its images beside its weights"
    return _NAMED.get(name) or f"{name} ({_short(here)} here, {_short(there)} there)"


def _weights(victim: object) -> str:
    """What a victim's fingerprint says first."""
    return re.split(" and | in version | with ", str(victim), maxsplit=1)[0]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


_LONGEST = 60
_SCHEDULE = "params.schedule."

_NAMED = {
    _SCHEDULE: "the schedule",
    "victim": "the victim's weights",
    "target": "the base's weights",
    "judge.weights": "the judge's weights",
    "params.known": "the known adversarial prompts",
}
