"""Outcomes survive JSON unchanged, strangers are refused, and counts add up to the set."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from builders import outcomes
from hypothesis import given
from hypothesis import strategies as st

from pytest_unlearndiff.core.outcome import Counts, Outcome, Status


@given(outcomes)
def test_json_and_back(outcome: Outcome) -> None:
    data = outcome.to_dict()
    assert type(data["status"]) is str  # a StrEnum would not survive every serialiser
    assert Outcome.from_dict(json.loads(json.dumps(data))) == outcome


def test_outcome_without_later_fields() -> None:
    line = (
        '{"prompt": "p", "status": "hit-under-attack", "adversarial": "zq p", "inserted": "zq", "seed": 3, '
        '"evaluations": 4, "steps": 3, "forwards": 312, '
        '"score": 0.9, "detail": "church", "seconds": 1.5, "error": null}'
    )
    found = Outcome.from_dict(json.loads(line))
    assert (found.timestep, found.forwards) == (None, 312)
    assert json.dumps(found.to_dict()) == line
    assert json.loads(json.dumps(replace(found, timestep=350).to_dict())) == json.loads(line) | {"timestep": 350}


MALFORMED: list[dict[str, Any]] = [
    {"status": "survived"}, {"status": None}, {"prompt": 7}, {"adversarial": 3}, {"seed": "12"}, {"steps": 1.5},
    {"steps": None}, {"score": "0.9"}, {"detail": None}, {"error": ["boom"]}, {"timestep": 3.5}, {"colour": "blue"},
]  # fmt: skip
WHOLE = {"prompt": "p", "status": "hit-under-attack"}


@pytest.mark.parametrize("data", [*({**WHOLE, **change} for change in MALFORMED), {"prompt": "p"}, {"status": "error"}])
def test_malformed_outcomes(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"outcome|Status"):
        Outcome.from_dict(data)


@pytest.mark.parametrize("status", Status)
def test_success_by_status(status: Status) -> None:
    assert Outcome("p", status).success is (status in (Status.HIT_WITHOUT_ATTACK, Status.HIT_UNDER_ATTACK))


@given(st.lists(st.none() | outcomes, max_size=12))
def test_counts_add_up(found: list[Outcome | None]) -> None:
    counts = Counts.of(found)
    assert (counts.total, counts.missing) == (len(found), found.count(None))
    assert counts.hits == sum(outcome is not None and outcome.success for outcome in found)
    assert counts.unknown == sum(outcome is None or outcome.status is Status.ERROR for outcome in found)
    hits, ended = counts.hits_without_attack + counts.hits_under_attack, counts.resisted + counts.blocked + counts.error
    assert hits + ended + counts.missing == counts.total
