"""A prompt's digest holds what can change its image; part of a set is an honest part."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from builders import concept

from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.errors import ConceptError

PROMPT = Prompt("a church in Köln", seed=7, guidance=7.5, case=3)


@pytest.mark.parametrize("change", [{"text": "a church in Koln"}, {"seed": 8}, {"guidance": 7.0}])
def test_what_changes_the_image_changes_the_digest(change: dict[str, Any]) -> None:
    assert replace(PROMPT, **change).digest != PROMPT.digest


def test_the_case_number_is_for_people_only() -> None:
    assert replace(PROMPT, case=4).digest == PROMPT.digest


def test_the_digest_is_the_one_that_stores_on_disk_hold() -> None:
    canonical = '["a church in Köln", 7, 7.5]'
    assert PROMPT.digest == hashlib.sha256(canonical.encode()).hexdigest()[:16]


def test_first_keeps_order_and_all_else() -> None:
    whole = concept(5)
    assert whole.first(2) == replace(whole, prompts=whole.prompts[:2])
    assert whole.first(5) == whole
    assert whole.first(None) == whole


@pytest.mark.parametrize("count", [0, -1, 6])
def test_first_refuses_more_than_there_are(count: int) -> None:
    with pytest.raises(ConceptError, match=f"'church': prompts={count} .*1 to 5"):
        concept(5).first(count)


def test_cases_are_found_by_number_in_the_order_of_the_set() -> None:
    whole = concept(5)
    assert whole.cases((104, 101)).prompts == (whole.prompts[1], whole.prompts[4])


def test_an_unknown_case_is_refused_by_number() -> None:
    with pytest.raises(ConceptError, match="case number 7"):
        concept(5).cases((101, 7))
