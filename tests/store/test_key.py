"""Campaign keys: everything that can change an outcome, and nothing else."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from builders import key

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.store.key import AttackKey, key_differences

# One other value a field. A new field fails the first test until it is listed here.
CHANGES: dict[str, list[Any]] = {
    "algorithm": [2],
    "attack": ["random"],
    "params": [{"slots": 5}, {}, {"slots": 3, "placement": "suffix"}],
    "victim": ["aaab"],
    "target": ["", "aaaa"],
    "judge": [{"kind": "image-classifier", "weights": "dddd"}, {"kind": "other", "weights": "cccc"}],
    "sampling": [
        {"steps": 25, "scheduler": "lms", "spacing": "linspace"},
        {"steps": 50, "scheduler": "own", "spacing": "own"},
        {"steps": 50, "scheduler": "lms", "spacing": "leading"},
    ],
    "seed": [1],
}


def test_changes_cover_every_field() -> None:
    """So limits, devices and paths are in no key."""
    assert set(CHANGES) == {field.name for field in fields(AttackKey)} == set(key().to_dict())


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in CHANGES.items() for value in values])
def test_every_field_changes_the_digest(name: str, value: Any) -> None:
    assert key(**{name: value}).digest != key().digest


def test_digest_ignores_order_but_not_roles() -> None:
    assert key(victim="bbbb", target="aaaa").digest != key().digest
    assert key(sampling={"spacing": "linspace", "scheduler": "lms", "steps": 50}).digest == key().digest


def test_one_change_is_one_difference() -> None:
    assert key_differences(key().to_dict(), key().to_dict()) == []
    changes: list[dict[str, Any]] = [
        {"seed": 1}, {"victim": "x"}, {"target": "x"}, {"params": {"slots": 5}}, {"params": {}}, {"algorithm": 9},
        {"judge": {"kind": "image-classifier", "weights": "x"}}, {"sampling": {"steps": 50, "scheduler": "lms"}},
    ]  # fmt: skip
    for change in changes:
        found = key_differences(key(**change).to_dict(), key().to_dict())
        assert len(found) == 1, change


VERSION = ["the victim's version, or what acts on its images beside its weights"]


@pytest.mark.parametrize(
    ("here", "there", "differences"),
    [
        ({"seed": 3, "victim": "x"}, {}, ["the victim's weights", "seed (3 here, 0 there)"]),
        ({"victim": "a1 in version '2'"}, {"victim": "a1 in version '1'"}, VERSION),
        ({"victim": "a1 with negative prompt 'x'"}, {"victim": "a1"}, VERSION),
        ({"victim": "a1 and b2 beside it"}, {"victim": "a1"}, VERSION),
    ],
)
def test_differences(here: dict[str, Any], there: dict[str, Any], differences: list[str]) -> None:
    assert key_differences(key(**here).to_dict(), key(**there).to_dict()) == differences
    assert "judge" in "".join(key_differences(key().to_dict(), {"judge": None, "other": [1]}))


def test_differences_name_the_cause() -> None:
    fast, paper, none = (AttackConfig(*names) for names in (("unlearndiff",), ("unlearndiff", "paper"), ("none",)))
    keys = [key(attack=spec.name, params=spec.params()).to_dict() for spec in (fast, paper, none)]
    assert key_differences(keys[0], keys[1]) == ["the schedule"]
    assert key_differences(keys[0], {**keys[2], "target": ""}) == ["attack (unlearndiff here, none there)"]
    long = key(params={"slots": [*range(100)]}).to_dict()
    assert all(len(said) < 200 for said in key_differences(long, key(params={"slots": 3}).to_dict()))
