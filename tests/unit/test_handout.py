"""Which worker attacks which prompt, also where workers are lost."""

from __future__ import annotations

from collections import Counter
from random import Random

from builders import prompts
from hypothesis import given as holds_for
from hypothesis import strategies as st

from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.runs.begun import Begun
from pytest_unlearndiff.workers.scheduler import ENDING, MAX_TRIES, Scheduler


def digests(count: int) -> list[str]:
    return [prompt.digest for prompt in prompts(count)]


def begin(prompt: Prompt | Begun) -> Prompt:
    """A prompt that was handed out, begun or not."""
    return prompt.prompt if isinstance(prompt, Begun) else prompt


def given(prompt: Prompt, rounds: int) -> Begun:
    """A prompt as its worker gives it back."""
    return Begun(prompt, rounds, b"")


def test_turns_are_brief_when_few_prompts_wait() -> None:
    handout = Scheduler(prompts(8), workers=2)
    seen = []
    while handout:
        for worker in "ab":
            taken = [begin(each) for each in handout.take(worker, 1)]
            seen.append(handout.brief(worker))
            for prompt in taken:
                handout.done(worker, prompt.digest)
    assert ENDING == 2
    assert seen == [False] * 3 + [True] * 3 + [False] * 2, "and not where as many are left as there are workers"
    alone = Scheduler(prompts(8), workers=1)
    alone.take("a", 8)
    assert not alone.brief("a")


def test_whoever_is_free_goes_on_with_the_least_advanced() -> None:
    handout, asked = Scheduler(prompts(4), workers=2), prompts(4)
    assert handout.take("a", 1) == [asked[0]]
    assert handout.take("b", 1) == [asked[1]]
    handout.give_back("a", [given(asked[0], 1)])
    assert not handout.holds("a")
    assert handout.held == 1
    assert handout.take("a", 1) == [asked[2]], "a prompt that nobody has begun is the least advanced"
    handout.give_back("b", [given(asked[1], 5)])
    assert handout.take("b", 1) == [asked[3]]
    handout.give_back("b", [given(asked[3], 1)])
    assert [handout.take("b", 1)[0], handout.take("c", 1)[0]] == [given(asked[0], 1), given(asked[3], 1)]
    assert handout.held == 3
    handout.done("c", asked[3].digest)
    assert handout.take("c", 1) == [given(asked[1], 5)]


def test_what_a_lost_worker_went_on_with_starts_afresh_and_the_last_time_stays_with_one_worker() -> None:
    handout, asked = Scheduler(prompts(3)), prompts(3)
    handout.take("a", 3)
    handout.give_back("a", [given(asked[0], 3)])
    assert handout.take("b", 1) == [given(asked[0], 3)]
    handout.lost("b", "gone")
    assert handout.take("c", 1) == [asked[0]]
    handout.lost("c", "gone")
    handout.lost("a", "gone")
    handout.workers = 2
    assert handout.take("d", 1) == [asked[0]]
    assert not handout.brief("d"), "on the last try it stays where it is"
    handout.take("e", 1)
    assert handout.brief("e")


def test_a_worker_is_handed_what_its_lanes_hold() -> None:
    handout, asked = Scheduler(prompts(5)), digests(5)
    assert [begin(p).digest for p in handout.take("a", 2)] == asked[:2]
    assert handout.take("a", 2) == []
    assert [begin(p).digest for p in handout.take("b", 2)] == asked[2:4]
    handout.done("a", asked[1])
    assert [begin(p).digest for p in handout.take("a", 2)] == asked[4:]
    assert handout.held == 4
    assert handout.holds("b")
    assert not handout.holds("c")


def test_a_worker_with_less_memory_than_before_is_handed_nothing_more() -> None:
    handout = Scheduler(prompts(9))
    handout.take("a", 4)
    handout.done("a", digests(9)[0])
    assert handout.take("a", 2) == []


def test_where_little_is_left_every_worker_gets_an_even_share() -> None:
    handout = Scheduler(prompts(9), workers=4)
    assert [len(handout.take(worker, 8)) for worker in "abcd"] == [3, 2, 2, 2]
    handout = Scheduler(prompts(20), workers=2)
    assert [len(handout.take(worker, 8)) for worker in "ab"] == [8, 8]
    for digest in digests(20)[:7]:
        handout.done("a", digest)
    assert len(handout.take("a", 8)) == 4, "of the 13 that are left, b has 8, and nobody else is there for the others"
    handout = Scheduler(prompts(3), workers=5)
    assert [len(handout.take(worker, 8)) for worker in "abcde"] == [1, 1, 1, 0, 0]


def test_what_a_lost_worker_had_is_tried_first_and_in_order() -> None:
    handout, asked = Scheduler(prompts(6)), digests(6)
    handout.take("a", 3)
    assert handout.lost("a", "gone") == []
    assert [begin(p).digest for p in handout.take("b", 4)] == asked[:4]


def test_a_prompt_that_takes_its_workers_along_ends_in_an_error_and_takes_no_other_prompt_along() -> None:
    handout, ended, workers = Scheduler(prompts(12)), list[Outcome](), 0
    poison, fine = digests(12)[5], set[str]()
    while handout:
        workers += 1
        worker = f"worker {workers}"
        while taken := handout.take(worker, 4):
            if poison in {begin(prompt).digest for prompt in taken}:
                ended += handout.lost(worker, "segmentation fault")
                break
            for prompt in taken:
                handout.done(worker, begin(prompt).digest)
                fine.add(begin(prompt).digest)
    assert [(o.prompt, o.status) for o in ended] == [(poison, Status.ERROR)]
    assert ended[0].error == "3 workers were lost while they attacked this prompt; the last: segmentation fault"
    assert fine == {*digests(12)} - {poison}


@holds_for(st.integers(1, 40), st.integers(1, 5), st.integers(1, 6), st.floats(0, 0.9), st.integers(0, 2**32))
def test_every_prompt_comes_to_one_end_whoever_is_lost(
    count: int, workers: int, batch_size: int, chance: float, seed: int
) -> None:
    """Attacked, or in an error after MAX_TRIES lost workers; nobody holds more than its lanes, or what another has."""
    random, handout = Random(seed), Scheduler(prompts(count), workers)
    crew, hired = [f"worker {n}" for n in range(workers)], workers
    held: dict[str, list[Prompt]] = {worker: [] for worker in crew}
    ends, losses = Counter[str](), Counter[str]()
    while handout:
        worker = random.choice(crew)
        held[worker] += map(begin, handout.take(worker, batch_size))
        mine = [prompt.digest for prompt in held[worker]]
        assert len(mine) <= batch_size
        everything = [prompt.digest for each in held.values() for prompt in each]
        assert len(everything) == len(set(everything)) == handout.held
        if any(losses[digest] == MAX_TRIES - 1 for digest in mine):
            assert len(mine) == 1
        if mine and random.random() < chance:
            losses.update(mine)
            failed = handout.lost(worker, "gone")
            assert {outcome.prompt for outcome in failed} == {d for d in mine if losses[d] == MAX_TRIES}
            ends.update(outcome.prompt for outcome in failed)
            hired += 1
            crew[crew.index(worker)] = f"worker {hired}"
            del held[worker]
            held[f"worker {hired}"] = []
        elif mine:
            digest = held[worker].pop(random.randrange(len(mine))).digest
            handout.done(worker, digest)
            ends[digest] += 1
            if handout.brief(worker):
                kept = held[worker][: random.randrange(len(held[worker]) + 1)]
                handout.give_back(worker, [given(p, random.randrange(5)) for p in held[worker] if p not in kept])
                held[worker] = kept
    assert ends == Counter(digests(count))


def test_a_worker_that_has_more_than_its_share_of_what_is_left_waits() -> None:
    handout = Scheduler(prompts(20), workers=2)
    handout.take("a", 8)
    for prompt in handout.take("b", 8):
        handout.done("b", begin(prompt).digest)
    assert handout.take("a", 10) == [], "it has 8 of the 12 that are left"
    assert len(handout.take("b", 10)) == 4
