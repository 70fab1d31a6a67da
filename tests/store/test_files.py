"""JSON of the store: objects of bounded depth, and nothing else."""

from __future__ import annotations

import json

import pytest

from pytest_unlearndiff.store.files import parse_json_object


def nested(levels: int, *, mapping: bool) -> object:
    value: object = 1
    for _ in range(levels):
        value = {"a": value} if mapping else [value]
    return value


@pytest.mark.parametrize("mapping", [True, False])
def test_objects_nest_at_most_20_levels(mapping: bool) -> None:
    """The outermost object counts as a level."""
    deepest = {"a": nested(19, mapping=mapping)}
    assert parse_json_object(json.dumps(deepest)) == deepest
    assert parse_json_object(json.dumps({"a": nested(20, mapping=mapping)})) is None


@pytest.mark.parametrize("content", ["[]", "1", "null", '{"a": 1', "[" * 100_000])
def test_other_content_is_none(content: str) -> None:
    assert parse_json_object(content) is None
