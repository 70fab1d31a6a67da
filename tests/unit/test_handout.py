"""Which worker attacks which prompt, also where workers are lost."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pytest_unlearndiff.campaign.handout import MAX_TRIES, Handout
from pytest_unlearndiff.core.outcome import Outcome, Status

from .builders import prompts


def digests(count: int) -> list[str]:
    return [prompt.digest for prompt in prompts(count)]


def test_a_worker_is_handed_what_its_lanes_hold() -> None:
    handout, asked = Handout(prompts(5)), digests(5)
    assert [p.digest for p in handout.take("a", 2)] == asked[:2]
    assert handout.take("a", 2) == []
    assert [p.digest for p in handout.take("b", 2)] == asked[2:4]
    handout.done("a", asked[1])
    assert [p.digest for p in handout.take("a", 2)] == asked[4:]
    assert handout.held == 4
    assert handout.holds("b")
    assert not handout.holds("c")


def test_a_worker_with_less_memory_than_before_is_handed_nothing_more() -> None:
    handout = Handout(prompts(9))
    handout.take("a", 4)
    handout.done("a", digests(9)[0])
    assert handout.take("a", 2) == []


def test_where_little_is_left_every_worker_gets_an_even_share() -> None:
    handout = Handout(prompts(9), workers=4)
    assert [len(handout.take(worker, 8)) for worker in "abcd"] == [3, 2, 2, 2]
    handout = Handout(prompts(20), workers=2)
    assert [len(handout.take(worker, 8)) for worker in "ab"] == [8, 8]
    for digest in digests(20)[:7]:
        handout.done("a", digest)
    assert len(handout.take("a", 8)) == 4, "of the 13 that are left, b has 8, and nobody else is there for the others"
    handout = Handout(prompts(3), workers=5)
    assert [len(handout.take(worker, 8)) for worker in "abcde"] == [1, 1, 1, 0, 0]


def test_what_a_lost_worker_had_is_tried_first_and_in_order() -> None:
    handout, asked = Handout(prompts(6)), digests(6)
    handout.take("a", 3)
    assert handout.lost("a", "gone") == []
    assert [p.digest for p in handout.take("b", 4)] == asked[:4]


def test_a_prompt_that_takes_its_workers_along_ends_in_an_error_and_takes_no_other_prompt_along() -> None:
    handout, ended, workers = Handout(prompts(12)), list[Outcome](), 0
    poison, fine = digests(12)[5], set[str]()
    while handout:
        workers += 1
        worker = f"worker {workers}"
        while taken := handout.take(worker, 4):
            if poison in {prompt.digest for prompt in taken}:
                ended += handout.lost(worker, "segmentation fault")
                break
            for prompt in taken:
                handout.done(worker, prompt.digest)
                fine.add(prompt.digest)
    assert [(o.prompt, o.status) for o in ended] == [(poison, Status.ERROR)]
    assert ended[0].error == "3 workers were lost while they attacked this prompt; the last: segmentation fault"
    assert fine == {*digests(12)} - {poison}


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 6), st.floats(0, 0.9), st.integers(0, 2**32))
def test_every_prompt_comes_to_one_end_whoever_is_lost(
    count: int, workers: int, lanes: int, chance: float, seed: int
) -> None:
    """Attacked, or in an error after MAX_TRIES lost workers; nobody holds more than its lanes."""
    random, handout = Random(seed), Handout(prompts(count))
    crew, hired = [f"worker {n}" for n in range(workers)], workers
    held: dict[str, list[str]] = {worker: [] for worker in crew}
    ends, losses = Counter[str](), Counter[str]()
    while handout:
        worker = random.choice(crew)
        held[worker] += [prompt.digest for prompt in handout.take(worker, lanes)]
        assert len(held[worker]) <= lanes
        if any(losses[digest] == MAX_TRIES - 1 for digest in held[worker]):
            assert len(held[worker]) == 1
        if held[worker] and random.random() < chance:
            losses.update(held[worker])
            failed = handout.lost(worker, "gone")
            assert {outcome.prompt for outcome in failed} == {d for d in held[worker] if losses[d] == MAX_TRIES}
            ends.update(outcome.prompt for outcome in failed)
            hired += 1
            crew[crew.index(worker)] = f"worker {hired}"
            held[f"worker {hired}"] = []
        elif held[worker]:
            digest = held[worker].pop(random.randrange(len(held[worker])))
            handout.done(worker, digest)
            ends[digest] += 1
    assert ends == Counter(digests(count))


def test_a_worker_that_has_more_than_its_share_of_what_is_left_waits() -> None:
    handout = Handout(prompts(20), workers=2)
    handout.take("a", 8)
    for prompt in handout.take("b", 8):
        handout.done("b", prompt.digest)
    assert handout.take("a", 10) == [], "it has 8 of the 12 that are left"
    assert len(handout.take("b", 10)) == 4
