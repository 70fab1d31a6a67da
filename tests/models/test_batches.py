"""Batches of one size: every item once, in order, and nothing but copies to fill the last one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_unlearndiff.models.device import BATCH, in_batches


@given(st.lists(st.integers(), max_size=4 * BATCH))
def test_every_item_once_in_batches_of_one_size(items: list[int]) -> None:
    batches = list(in_batches(items))
    assert [item for count, part in batches for item in part[:count]] == items
    for count, part in batches:
        assert len(part) == BATCH
        assert part[count:] == [part[count - 1]] * (BATCH - count)
