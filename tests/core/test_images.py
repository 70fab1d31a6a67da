"""Several images per prompt: seeds that follow from the prompt's own, and one answer for all of them."""

from __future__ import annotations

import math

import pytest

from pytest_unlearndiff.core.images import BLOCKED, Evaluated, GenerationRequest, Judgement

REQUEST = GenerationRequest("a church", 7, 7.5)
HIT, MISS, CLOSE = Judgement(True, 0.6, "church"), Judgement(False, 0.1, "dog"), Judgement(False, 0.4, "barn")
UNUSABLE = Evaluated(None, "it drew NaN")


def test_further_seeds() -> None:
    """Whoever draws them again must get the same images."""
    four = REQUEST.with_further_seeds(4)
    assert [request.seed for request in four] == [7, 1808820083, 1187467706, 143530063]
    assert {(request.text, request.guidance) for request in four} == {("a church", 7.5)}
    assert REQUEST.with_further_seeds(1) == [REQUEST]
    assert four[:2] == REQUEST.with_further_seeds(2), "more images begin with the same"


def test_seeds_of_neighbours_differ() -> None:
    seeds = [r.seed for seed in range(200) for r in GenerationRequest("", seed, 0.0).with_further_seeds(8)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(
    ("images", "decides", "blocked"),
    [
        ([MISS, HIT, CLOSE], 1, 0),
        ([MISS, CLOSE, MISS], 1, 0),
        ([HIT, HIT], 0, 0),
        ([BLOCKED, MISS], 1, 1),
        ([BLOCKED, BLOCKED], 0, 2),
        ([None, HIT], 1, 0),
        ([HIT, None, BLOCKED], 0, 1),
        ([Judgement(False, math.nan, ""), MISS], 1, 0),
        ([MISS, None], None, 0),  # it might have been a hit
    ],
)
def test_any_of_several_images(images: list[Judgement | None], decides: int | None, blocked: int) -> None:
    requests = REQUEST.with_further_seeds(len(images))
    results = [UNUSABLE if j is None else Evaluated(j, image=f"pixels {n}") for n, j in enumerate(images)]
    joined = Evaluated.any_of(list(zip(requests, results, strict=True)))
    assert (joined.images, joined.blocked, joined.image) == (len(images), blocked, results[0].image)
    if decides is None:
        assert (joined.judgement, joined.problem, joined.seed) == (None, "it drew NaN", None)
    else:
        assert joined.judgement is images[decides]
        assert (joined.problem, joined.seed) == (None, requests[decides].seed)
