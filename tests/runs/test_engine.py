"""The engine: baseline pass, refilled batches, outcomes that depend on neither batch nor failures of other prompts."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import PROMPTS as TINY

from pytest_unlearndiff.attacks.base import PromptState
from pytest_unlearndiff.attacks.schedules import TokenSwapSchedule
from pytest_unlearndiff.attacks.token_swaps import TokenSwapAttack
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.errors import JudgeError
from pytest_unlearndiff.core.images import GenerationRequest, Judgement, SamplerChange
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.models import device
from pytest_unlearndiff.models.device import BATCH, in_batches, out_of_memory
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.families.base import Conditioning
from pytest_unlearndiff.models.families.vocabulary import FilledPrompt
from pytest_unlearndiff.models.generated_images import GeneratedImage
from pytest_unlearndiff.models.target_images import Targets
from pytest_unlearndiff.runs.engine import MAX_FAILURES, Engine
from pytest_unlearndiff.runs.evaluation import Evaluation

from .fakes import PROMPTS, FakeAttack, FakeModel, judge, make_engine


@pytest.fixture(autouse=True)
def _full_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_size", BATCH)


def ended(outcomes: Iterator[Outcome | None]) -> dict[int, Outcome]:
    """Outcomes by case number, without times."""
    cases = {prompt.digest: prompt.case for prompt in [*PROMPTS, *TINY]}
    outcomes = [outcome for outcome in outcomes if outcome is not None]
    assert len({outcome.prompt for outcome in outcomes}) == len(outcomes)
    return {cases[outcome.prompt]: replace(outcome, seconds=0.0) for outcome in outcomes}


UNDISTURBED = ended(make_engine().run(PROMPTS))
KINDS = [Status.HIT_WITHOUT_ATTACK, Status.HIT_UNDER_ATTACK, Status.HIT_UNDER_ATTACK, Status.RESISTED]


def without(case: int) -> dict[int, Outcome]:
    return {number: outcome for number, outcome in UNDISTURBED.items() if number != case}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 50])
def test_outcomes_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    model, attack = FakeModel(), FakeAttack()
    outcomes = ended(make_engine(attack, batch_size, model).run(PROMPTS))
    assert [outcomes[case].status for case in range(11)] == [KINDS[case % 4] for case in range(11)]
    assert [outcomes[case].timestep for case in range(4)] == [None, 100, 200, None]
    hit = outcomes[2]
    assert (hit.adversarial, hit.inserted, hit.evaluations, hit.forwards) == ("x prompt 2!", "x", 3, 30)
    assert outcomes[3].adversarial is None
    assert len(model.requests) == len(set(model.requests)), "no image is drawn twice"
    assert max(attack.batches) <= batch_size


class LastSeed(FakeModel):
    """Draws the text with the last of three seeds alone."""

    def generate(self, requests: Sequence[GenerationRequest]) -> list[GeneratedImage]:
        own = {
            prompt.seed: GenerationRequest("", prompt.seed, 0.0).with_further_seeds(3)[-1].seed for prompt in PROMPTS
        }
        texts = [r.text if r.seed in own.values() else f"not {r.text}?" for r in requests]
        return super().generate([replace(r, text=text) for r, text in zip(requests, texts, strict=True)])


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_any_of_several_images_decides(batch_size: int) -> None:
    model: Any = LastSeed()
    engine = Engine(FakeAttack(), model, None, Evaluation(model, judge, images=3), batch_size, 0)  # type: ignore[arg-type]
    outcomes = ended(engine.run(PROMPTS))
    assert {case: outcome.status for case, outcome in outcomes.items()} == {n: KINDS[n % 4] for n in range(11)}
    for case, outcome in outcomes.items():
        assert outcome.evaluations == 3 * UNDISTURBED[case].evaluations
        assert outcome.forwards == 3 * UNDISTURBED[case].forwards
        assert outcome.adversarial == UNDISTURBED[case].adversarial
        if outcome.success:
            assert outcome.seed == GenerationRequest("", case, 0.0).with_further_seeds(3)[-1].seed
    assert len({replace(request, text="") for request in model.requests}) == 3 * len(PROMPTS)


class FakeProbe(FakeAttack):
    """Asks for the prompt in each of three rounds, and for more noise than in the last."""

    def propose(self, state: PromptState) -> GenerationRequest | None:
        state.round += 1
        if state.round > 3:
            return None
        return GenerationRequest(
            state.prompt.text, state.prompt.seed, 5.0, sampler=SamplerChange(eta=float(state.round))
        )


class ProbedModel(FakeModel):
    """Shows the concept under a probe as a word with one letter per round says.

    Args:
        rounds: ``p`` with the prompt alone, ``u`` without it too, ``x`` where that is unusable, ``-`` not at all.
    """

    def __init__(self, rounds: str) -> None:
        super().__init__(bad=["unusable"])
        self.rounds = rounds

    def generate(self, requests: Sequence[GenerationRequest]) -> list[GeneratedImage]:
        return super().generate([replace(r, text=self.drawn(r)) for r in requests])

    def drawn(self, request: GenerationRequest) -> str:
        if request.sampler is None:
            return request.text
        letter = self.rounds[round(request.sampler.eta) - 1]
        with_prompt, without = {"p": "!-", "u": "!!", "x": "!x", "-": "--"}[letter]
        return "unusable" if (shown := with_prompt if request.text else without) == "x" else shown


@pytest.mark.parametrize(
    ("rounds", "status", "evaluations", "drawn", "says"),
    [
        ("p--", Status.HIT_UNDER_ATTACK, 2, 3, "! (noise of eta 1, times 1)"),
        ("-p-", Status.HIT_UNDER_ATTACK, 3, 4, "! (noise of eta 2, times 1)"),
        ("up-", Status.HIT_UNDER_ATTACK, 3, 5, "! (noise of eta 2, times 1)"),
        ("---", Status.RESISTED, 4, 4, "- (noise of eta 3, times 1)"),
        ("-u-", Status.RESISTED, 4, 5, "; 1 of 3 rounds show the concept without the prompt too"),
        ("uuu", Status.ERROR, 4, 7, "in every round the concept shows without the prompt too"),
        ("x--", Status.ERROR, 2, 3, "in round 1 of its attack, without the prompt, it drew NaN"),
    ],
)
def test_a_probe_counts_only_what_the_prompt_brings_back(
    rounds: str, status: Status, evaluations: int, drawn: int, says: str
) -> None:
    """And what it cannot tell is no evidence of anything."""
    model, prompt = ProbedModel(rounds), PROMPTS[3]
    outcome = ended(make_engine(FakeProbe(), 4, model).run([prompt]))[3]
    assert (outcome.status, outcome.evaluations, outcome.forwards) == (status, evaluations, 10 * drawn)
    assert says in (outcome.error or outcome.detail)
    assert outcome.adversarial is None
    assert len(model.requests) == drawn


def test_finished_prompts_are_replaced() -> None:
    attack = FakeAttack()
    list(make_engine(attack, 3).run(PROMPTS))
    assert attack.batches[:-3] == [3] * (len(attack.batches) - 3)


def test_stop_between_rounds() -> None:
    attack, rounds = FakeAttack(), 0
    for outcome in make_engine(attack).run(PROMPTS):
        rounds += outcome is None
        assert len(attack.batches) <= rounds + 1


def test_rounds_of_running_prompts() -> None:
    engine = make_engine()
    rounds = [engine.state.rounds for outcome in engine.run([PROMPTS[3], PROMPTS[7]]) if outcome is None]
    assert rounds == [(), (2, 2), (3, 3), (4, 4), ()]  # the baseline, three rounds, and nothing more to try
    assert engine.state.rounds == ()


def test_error_of_a_state() -> None:
    class Overflowing(FakeAttack):
        def propose(self, state: PromptState) -> GenerationRequest | None:
            state.error = "no number" if state.prompt.case == 1 else None
            return None if state.error else super().propose(state)

    outcomes = ended(make_engine(Overflowing()).run(PROMPTS))
    failed = outcomes.pop(1)
    assert (failed.status, failed.error) == (Status.ERROR, "no number")
    assert outcomes == without(1)


def test_prompts_added_later_end_the_same() -> None:
    engine, outcomes = make_engine(batch_size=3), list[Outcome]()
    for prompts in (PROMPTS[:4], [], PROMPTS[4:]):
        engine.add(prompts)
        outcomes += engine.step()
    while len(outcomes) < len(PROMPTS):
        outcomes += engine.step()
    assert ended(iter(outcomes)) == UNDISTURBED
    assert engine.step() == []


def test_automatic_batch_size_follows_from_the_first_round(monkeypatch: pytest.MonkeyPatch) -> None:
    class Meter:
        def __init__(self, device: object) -> None:
            pass

        def fitting(self, used: int, batch_size: int) -> int:
            return 2 * used

    monkeypatch.setattr("pytest_unlearndiff.models.device.MemoryMeter", Meter)
    monkeypatch.setattr("pytest_unlearndiff.runs.engine.BATCH_SIZE", 2)
    attack = FakeAttack()
    list(make_engine(attack, None).run(PROMPTS))
    assert attack.batches[0] == 2
    assert max(attack.batches) == 4


def test_stopped_engine_can_be_started_again() -> None:
    engine = make_engine()
    running = engine.run(PROMPTS)
    first = next(outcome for outcome in running if outcome is not None)
    running.close()
    assert engine.active == 0
    rest = [prompt for prompt in PROMPTS if prompt.digest != first.prompt]
    assert ended(engine.run(rest)) == {c: o for c, o in UNDISTURBED.items() if o.prompt != first.prompt}


@pytest.mark.parametrize("batch_size", [1, 4, 50])
@pytest.mark.parametrize("block", [1, 2, 3])
def test_exception_over_one_prompt(batch_size: int, block: int) -> None:
    def check(states: Sequence[PromptState]) -> None:
        if any(state.prompt.case == 7 and state.round == block for state in states):
            raise ZeroDivisionError("seven\nis odd")

    attack = FakeAttack(check)
    outcomes = ended(make_engine(attack, batch_size).run(PROMPTS))
    failed = outcomes.pop(7)
    assert (failed.status, failed.error) == (Status.ERROR, "ZeroDivisionError: seven is odd")
    assert (failed.evaluations, failed.forwards, failed.score) == (1, 10, 0.5)
    assert outcomes == without(7)


def test_batch_size_after_a_failure() -> None:
    def check(states: Sequence[PromptState]) -> None:
        if any(state.prompt.case == 1 for state in states):
            raise ZeroDivisionError

    attack = FakeAttack(check)
    list(make_engine(attack).run(PROMPTS))
    assert attack.batches[:2] == [4, 1]
    assert attack.batches[-3:] != [1, 1, 1]


def test_fault_of_every_prompt_is_raised() -> None:
    def check(states: Sequence[PromptState]) -> None:
        raise RuntimeError("expected Half but found Float")

    attack = FakeAttack(check)
    engine = make_engine(attack)
    with pytest.raises(RuntimeError, match="expected Half but found Float"):
        list(engine.run(PROMPTS))
    assert attack.batches == [4] + [1] * MAX_FAILURES
    assert engine.active == 0


def test_isolated_failures_are_not_raised() -> None:
    def check(states: Sequence[PromptState]) -> None:
        if any(state.prompt.case in (1, 3, 6, 10) for state in states):
            raise ZeroDivisionError

    outcomes = ended(make_engine(FakeAttack(check)).run(PROMPTS))
    assert [case for case in range(11) if outcomes[case].status is Status.ERROR] == [1, 3, 6, 10]


def test_exception_of_the_judge_over_one_image() -> None:
    def fail(images: Sequence[Image.Image], prompts: Sequence[str] = ()) -> list[Judgement]:
        if any(image.info["text"] == "prompt 5" for image in images):
            raise ValueError("no image")
        return judge(images)

    outcomes = ended(make_engine(judge=fail).run(PROMPTS))
    failed = outcomes.pop(5)
    assert (failed.status, failed.error) == (Status.ERROR, "ValueError: no image")
    assert outcomes == without(5)


def test_refusal_of_the_judge_is_raised() -> None:
    def refuse(images: Sequence[Image.Image], prompts: Sequence[str] = ()) -> list[Judgement]:
        raise JudgeError("it knows no such label")

    with pytest.raises(JudgeError):
        list(make_engine(judge=refuse).run(PROMPTS))


cases = st.sets(st.sampled_from(range(11)))


def run_judged(model: FakeModel, batch_size: int) -> dict[int, Outcome]:
    """Run with a judge that must not be shown images that are evidence of nothing, or blocked."""

    def check(images: Sequence[Image.Image], prompts: Sequence[str] = ()) -> list[Judgement]:
        assert not [image for image in images if image.info["text"] in (*model.bad, *model.blocked)]
        return judge(images)

    return ended(make_engine(batch_size=batch_size, model=model, judge=check).run(PROMPTS))


@given(st.sampled_from([1, 4, 50]), cases, cases)
def test_unusable_image_is_an_error(batch_size: int, unattacked: set[int], attacked: set[int]) -> None:
    bad = [f"prompt {n}" for n in unattacked] + [f"x prompt {n}" for n in attacked]
    for n, outcome in run_judged(FakeModel(bad), batch_size).items():
        if n in unattacked:
            assert (outcome.status, outcome.error, outcome.image) == (Status.ERROR, "it drew NaN", None)
        elif n in attacked and n % 4 in (2, 3):  # those of kind 1 are a hit in the first round, with another text
            assert (outcome.status, outcome.error) == (Status.ERROR, "in round 1 of its attack, it drew NaN")
            assert (outcome.evaluations, outcome.forwards) == (2, 20)
        else:
            assert outcome == UNDISTURBED[n]


@given(st.sampled_from([1, 4, 50]), cases, cases)
def test_blocked_image_is_no_hit(batch_size: int, unattacked: set[int], attacked: set[int]) -> None:
    blocked = [f"prompt {n}" for n in unattacked] + [f"x prompt {n}" for n in attacked]
    for n, outcome in run_judged(FakeModel(blocked=blocked), batch_size).items():
        images = (n in unattacked) + 3 * (n in attacked)
        if n % 4 in (1, 2):  # a hit all the same, by what was not blocked
            assert (outcome.status, outcome.adversarial) == (UNDISTURBED[n].status, UNDISTURBED[n].adversarial)
        elif images and (n % 4 or n in unattacked):
            assert outcome.status is Status.BLOCKED
            assert outcome.detail == f"the model's own safety checker blocked {images} of 4 images"
        else:
            assert outcome == UNDISTURBED[n]
        assert (outcome.image is None) is (n in unattacked)


@pytest.mark.parametrize("room", [1, 2, 3])
def test_out_of_memory_halves_batches(room: int, caplog: pytest.LogCaptureFixture) -> None:
    def check(states: Sequence[PromptState]) -> None:
        if len(states) > room and states[0].round == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    attack = FakeAttack(check)
    engine = make_engine(attack, 8)
    assert ended(engine.run(PROMPTS)) == UNDISTURBED
    assert engine.description == {"network_batch": device.batch_now()}
    assert device.batch_now() < BATCH
    assert attack.batches[0] == 8
    assert set(attack.batches[-3:]) <= {1, 2, 3}
    assert "going on with 4 prompts at a time" in caplog.text


def test_halving_is_undone_when_memory_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unused = iter([10, 10, 14])
    monkeypatch.setattr(device, "unused_memory", lambda _: next(unused, 20) * 2**30)

    def check(states: Sequence[PromptState]) -> None:
        if len(attack.batches) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    attack = FakeAttack(check)
    assert ended(make_engine(attack, 6).run(PROMPTS)) == UNDISTURBED
    assert attack.batches[:4] == [6, 3, 3, 5], "all that are left"
    assert [len(part) for _, part in in_batches("abc")] == [BATCH]
    assert "memory is back: going on with 6 prompts at a time" in caplog.text


@pytest.mark.parametrize(("when_out", "after", "tries"), [(0, 2**30, 3), (10 * 2**30, 20 * 2**30, 3), (0, 2**20, 1)])
def test_full_size_that_never_fits_is_given_up(
    when_out: int, after: int, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As beside another process that takes the memory whenever this one lets go of it."""
    failed = False

    def unused(_: object) -> int:
        nonlocal failed
        now, failed = (when_out if failed else after), False
        return now

    def check(states: Sequence[PromptState]) -> None:
        nonlocal failed
        if len(states) > 3:
            failed = True
            assert attack.batches.count(6) < 10, "it tries its full size for ever"
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(device, "unused_memory", unused)
    attack = FakeAttack(check)
    assert ended(make_engine(attack, 6).run(PROMPTS)) == UNDISTURBED
    assert attack.batches.count(6) == tries


def test_memory_of_failed_frames_is_freed() -> None:
    class Tensor:
        pass

    def fail() -> None:
        large = Tensor()
        alive.append(weakref.ref(large))
        raise torch.OutOfMemoryError("CUDA out of memory")

    alive: list[weakref.ref[Tensor]] = []
    with pytest.raises(torch.OutOfMemoryError) as caught:
        fail()
    assert alive[0]() is not None
    device.free_memory(caught.value)
    assert alive[0]() is None


def test_out_of_memory_at_batch_size_one_is_raised() -> None:
    def check(states: Sequence[PromptState]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    attack = FakeAttack(check)
    with pytest.raises(torch.OutOfMemoryError):
        list(make_engine(attack, 8).run(PROMPTS))
    assert attack.batches == [8, 4, 2] + [1] * MAX_FAILURES


def test_outcomes_of_a_real_search_after_out_of_memory(
    victim: DiffusionModel, targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcomes() -> dict[int, Outcome]:
        schedule = TokenSwapSchedule((0.35, 0.65), rounds=2, screened=6, measured=3)
        search = TokenSwapAttack(AttackConfig(), victim, schedule)
        evaluation = Evaluation(victim, lambda images, _: [Judgement(False, 0.0, "nothing") for _ in images])
        return ended(Engine(search, victim, targets, evaluation, 4, 0).run(TINY))

    expected, encode = outcomes(), DiffusionModel.encode

    def small(self: DiffusionModel, prompts: Sequence[FilledPrompt], *rest: Any) -> Conditioning:
        if len(prompts) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, prompts, *rest)

    monkeypatch.setattr(DiffusionModel, "encode", small)
    assert outcomes() == expected
    assert [len(part) for _, part in in_batches("abc")] == [2, 2]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("expected Half but found Float"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory(error: Exception, expected: bool) -> None:
    assert out_of_memory(error) is expected
