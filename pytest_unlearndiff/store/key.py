"""The key of a campaign: everything that can change an outcome, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .hashing import digest

_MAX_VALUE_LENGTH = 60
_SCHEDULE = "params.schedule."

_LABELS = {
    _SCHEDULE: "the schedule",
    "victim": "the victim's weights",
    "target": "the base's weights",
    "judge.weights": "the judge's weights",
    "params.known": "the known adversarial prompts",
}


@dataclass(frozen=True)
class AttackKey:
    """Everything that decides the outcome of a prompt, beside the prompt itself.

    The prompt set is not part of it: an outcome belongs to one prompt, so twenty prompts of a set and fifty of it
    share their common part. Limits, paths, devices and package versions are not part of it either.

    Attributes:
        algorithm: version of the attack's mathematics; raised when a change may change outcomes.
        attack: the attack's name.
        params: its settings, slots and schedule among them.
        victim: fingerprint of the victim's weights.
        target: fingerprint of what target images are made from; empty if the attack needs none.
        judge: kind, options and fingerprint of the judge.
        sampling: settings that evaluation images are generated with.
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
        """Convert to builtin types."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """Hash of the key in 16 hex digits."""
        return digest(self.to_dict())


def key_differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Name the parts in which two keys differ, such as ``the victim's weights`` or ``params.slots (5 here, 3 there)``.

    Args:
        here: a key's ``to_dict``.
        there: another's, perhaps read from a file that somebody changed.
    """
    left, right = dict(_flatten(here)), dict(_flatten(there))
    names = [name for name in dict.fromkeys([*left, *right]) if left.get(name) != right.get(name)]
    if "attack" in names:  # with which its settings differ anyhow, and the base too unless both keys have one
        both_have_base = bool(left.get("target") and right.get("target"))
        names = [name for name in names if not name.startswith("params.") and (name != "target" or both_have_base)]
    schedule = [name for name in names if name.startswith(_SCHEDULE)]
    if len(schedule) > 1:
        names = [name for name in names if name not in schedule[1:]]
        names[names.index(schedule[0])] = _SCHEDULE
    return [_describe_difference(name, left.get(name), right.get(name)) for name in names]


def _flatten(key: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in key.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _describe_difference(name: str, here: object, there: object) -> str:
    """Describe a difference for people, to whom fingerprints say nothing."""
    if name == "victim" and _weights(here) == _weights(there):
        return "the victim's version, or what acts on its images beside its weights"
    return _LABELS.get(name) or f"{name} ({_shorten(here)} here, {_shorten(there)} there)"


def _weights(victim: object) -> str:
    """Weights' part of a victim's fingerprint, which comes first."""
    return re.split(" and | in version | with ", str(victim), maxsplit=1)[0]


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[: _MAX_VALUE_LENGTH - 3]}..."
