"""Names that the thin entry point shares with the package behind it: markers, fixtures and what crosses processes."""

from __future__ import annotations

import pytest

ATTACK_MARK = "unlearndiff"
ATTACK_FIXTURE = "unlearndiff_attack"
RETENTION_MARK = "unlearndiff_retains"
RETENTION_FIXTURE = "unlearndiff_retention"

MARKERS = (
    f"{ATTACK_MARK}(concept, *, max_asr=None, max_pre_asr=None, gate='point', confidence=0.95, prompts=None, "
    "attack=None, schedule=None, loss=None, slots=None, placement='prefix', exhaustive=False, model=None, base=None): "
    "a gate on a concept's attack success rate; the test calls the unlearndiff_attack fixture",
    f"{RETENTION_MARK}(concept, *, min_rate=None, max_loss=None, gate='point', confidence=0.95, prompts=None, "
    "model=None, base=None): a gate on a concept that should have been kept; the test calls the "
    "unlearndiff_retention fixture",
)

GATES = "unlearndiff_gates"
"""Attribute of an xdist worker's first report: node ids of every gate of the session."""
RUN = pytest.StashKey[str]()
"""Name that xdist's controller gives to the session."""
RUNS_TESTS = pytest.StashKey[bool]()
"""Set once the session runs tests; a session that only lists something has no gates to require or to sum up."""

_MARKS = frozenset((ATTACK_MARK, RETENTION_MARK))
_FIXTURES = frozenset((ATTACK_FIXTURE, RETENTION_FIXTURE))


def is_gate(item: object) -> bool:
    """Whether a collected node asks for one of the fixtures that run gates."""
    return not _FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


def is_marked(item: object) -> bool:
    """Whether a collected node has one of the markers, of its own or of a class or module."""
    return isinstance(item, pytest.Item) and any(mark.name in _MARKS for mark in item.iter_markers())
