"""What goes wrong in one lane, in all of them, or for want of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import PROMPTS as TINY

from pytest_unlearndiff.attacks.base import PromptState
from pytest_unlearndiff.attacks.schedules import TokenSwapSchedule
from pytest_unlearndiff.attacks.token_swaps import CoordinateSearch
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.drawing import GenerationRequest
from pytest_unlearndiff.core.errors import JudgeError
from pytest_unlearndiff.core.judgement import Judgement
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.models import batches
from pytest_unlearndiff.models.batches import BATCH, in_batches, out_of_memory
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.generated_images import GeneratedImage
from pytest_unlearndiff.models.target_images import Targets
from pytest_unlearndiff.runs.engine import MAX_FAILURES, Engine
from pytest_unlearndiff.runs.evaluation import Evaluation

from .test_engine import PROMPTS, FakeAttack, FakeVictim, judge

Check = Callable[[Sequence[PromptState]], None]


@pytest.fixture(autouse=True)
def _full_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_size", BATCH)


class Failing(FakeAttack):
    """Asks before every block whether it may."""

    def __init__(self, check: Check) -> None:
        super().__init__()
        self.check = check

    def advance(self, batch_size: Sequence[PromptState], victim: object) -> list[GenerationRequest | None]:
        proposals = super().advance(batch_size, victim)
        self.check(batch_size)
        return proposals


def start(check: Check, batch_size: int = 4, see: Callable[..., list[Judgement]] = judge) -> tuple[Engine, Failing]:
    attack = Failing(check)
    evaluation = Evaluation(FakeVictim(), see)  # type: ignore[arg-type]
    return Engine(attack, FakeVictim(), None, evaluation, batch_size, 0), attack  # type: ignore[arg-type]


def told(outcomes: Iterator[Outcome | None]) -> dict[str, tuple[object, ...]]:
    """All of an outcome but its time."""
    ended = [outcome for outcome in outcomes if outcome is not None]
    assert len({outcome.prompt for outcome in ended}) == len(ended)
    return {o.prompt: (o.status, o.adversarial, o.evaluations, o.forwards, o.score, o.error) for o in ended}


def undisturbed() -> dict[str, tuple[object, ...]]:
    return told(start(lambda batch_size: None)[0].run(PROMPTS))


def of_case(batch_size: Sequence[PromptState], case: int) -> PromptState | None:
    return next((state for state in batch_size if state.prompt.case == case), None)


@pytest.mark.parametrize("batch_size", [1, 4, 50])
@pytest.mark.parametrize("block", [1, 2, 3])
def test_an_exception_in_one_prompt_is_its_own_error(batch_size: int, block: int) -> None:
    def check(batch_size: Sequence[PromptState]) -> None:
        if (state := of_case(batch_size, 7)) and state.block == block:
            raise ZeroDivisionError("seven\nis odd")

    found, wanted = told(start(check, batch_size)[0].run(PROMPTS)), undisturbed()
    assert found.pop(PROMPTS[7].digest) == (Status.ERROR, None, 1, 10, 0.5, "ZeroDivisionError: seven is odd")
    wanted.pop(PROMPTS[7].digest)
    assert found == wanted


def test_after_the_failure_lanes_are_filled_again() -> None:
    def check(batch_size: Sequence[PromptState]) -> None:
        if of_case(batch_size, 1):
            raise ZeroDivisionError

    engine, attack = start(check)
    list(engine.run(PROMPTS))
    assert attack.batches[:2] == [4, 1]
    assert attack.batches[-3:] != [1, 1, 1]


def test_what_fails_everywhere_stops_early_as_what_it_is() -> None:
    def check(batch_size: Sequence[PromptState]) -> None:
        raise RuntimeError("expected Half but found Float")

    engine, attack = start(check)
    ended = []
    with pytest.raises(RuntimeError, match="expected Half but found Float"):
        ended += [outcome for outcome in engine.run(PROMPTS) if outcome is not None and outcome.error]
    assert attack.batches == [4] + [1] * MAX_FAILURES
    assert engine.active == 0


def test_failures_far_apart_do_not_stop_it() -> None:
    def check(batch_size: Sequence[PromptState]) -> None:
        if any(state.prompt.case in (1, 3, 6, 10) for state in batch_size):
            raise ZeroDivisionError

    found = told(start(check)[0].run(PROMPTS))
    assert [case for case in range(11) if found[PROMPTS[case].digest][0] is Status.ERROR] == [1, 3, 6, 10]


def test_a_image_that_cannot_be_judged_is_its_prompts_error() -> None:
    def see(images: Sequence[object]) -> list[Judgement]:
        found = judge(images)  # type: ignore[arg-type]
        if any(one.detail == "prompt 5" for one in found):
            raise ValueError("no image")
        return found

    found, wanted = told(start(lambda batch_size: None, see=see)[0].run(PROMPTS)), undisturbed()
    assert found.pop(PROMPTS[5].digest)[::5] == (Status.ERROR, "ValueError: no image")
    wanted.pop(PROMPTS[5].digest)
    assert found == wanted


class Blotting(FakeVictim):
    """Draws what is evidence of nothing for some texts; of the others, its safety checker blocks some.

    Args:
        bad: texts of the former, which the judge must not be shown.
        blocked: texts of the latter, which it must not be shown either.
    """

    def __init__(self, bad: Sequence[str] = (), blocked: Sequence[str] = ()) -> None:
        super().__init__()
        self.bad, self.blocked = bad, blocked

    def generate(self, drawings: Sequence[GenerationRequest]) -> list[GeneratedImage]:
        drawn = zip(drawings, super().generate(drawings), strict=True)
        return [
            replace(each, problem="it drew NaN" if d.text in self.bad else None, blocked=d.text in self.blocked)
            for d, each in drawn
        ]


def ended(victim: Blotting, batch_size: int) -> dict[int, Outcome]:
    def see(images: Sequence[Image.Image]) -> list[Judgement]:
        assert not [image for image in images if image.info["text"] in (*victim.bad, *victim.blocked)]
        return judge(images)

    engine = Engine(FakeAttack(), victim, None, Evaluation(victim, see), batch_size, 0)  # type: ignore[arg-type]
    found = {outcome.prompt: outcome for outcome in engine.run(PROMPTS) if outcome is not None}
    return {prompt.case: replace(found[prompt.digest], seconds=0.0) for prompt in PROMPTS}


@pytest.mark.parametrize("batch_size", [1, 4, 50])
@given(st.sets(st.sampled_from(range(11))), st.sets(st.sampled_from(range(11))))
def test_an_image_that_is_no_evidence_is_its_own_prompts_error_whenever_it_is_drawn(
    batch_size: int, unattacked: set[int], attacked: set[int]
) -> None:
    """As many as may be, one after the other; and the others end as if it were not there."""
    bad = [f"prompt {n}" for n in unattacked] + [f"x prompt {n}" for n in attacked]
    found, wanted = ended(Blotting(bad), batch_size), ended(Blotting(), batch_size)
    for n in range(11):
        if n in unattacked:
            assert (found[n].status, found[n].error, found[n].image) == (Status.ERROR, "it drew NaN", None)
        # Those of the second kind break in the first round, with another text.
        elif n in attacked and n % 4 in (2, 3):
            assert (found[n].status, found[n].error) == (Status.ERROR, "in round 1 of its attack, it drew NaN")
            assert (found[n].evaluations, found[n].forwards) == (2, 20)
        else:
            assert found[n] == wanted[n]


@pytest.mark.parametrize("batch_size", [1, 4, 50])
@given(st.sets(st.sampled_from(range(11))), st.sets(st.sampled_from(range(11))))
def test_a_blocked_image_is_no_hit_and_told_where_nothing_else_was_seen(
    batch_size: int, unattacked: set[int], attacked: set[int]
) -> None:
    blocked = [f"prompt {n}" for n in unattacked] + [f"x prompt {n}" for n in attacked]
    found, wanted = ended(Blotting(blocked=blocked), batch_size), ended(Blotting(), batch_size)
    for n in range(11):
        images = (n in unattacked) + 3 * (n in attacked)
        if n % 4 in (1, 2):  # broken all the same, by what was not blocked
            assert (found[n].status, found[n].adversarial) == (wanted[n].status, wanted[n].adversarial)
        elif n % 4 == 0 and n not in unattacked:
            assert found[n] == wanted[n]
        elif images:
            assert found[n].status is Status.BLOCKED
            assert found[n].detail == f"the model's own safety checker blocked {images} of 4 images"
        else:
            assert found[n] == wanted[n]
        assert (found[n].image is None) is (n in unattacked)


def test_a_judge_that_refuses_is_no_prompts_fault() -> None:
    def see(images: Sequence[object]) -> list[Judgement]:
        raise JudgeError("it knows no such label")

    with pytest.raises(JudgeError):
        list(start(lambda batch_size: None, see=see)[0].run(PROMPTS))


@pytest.mark.parametrize("room", [1, 2, 3])
def test_without_memory_there_are_fewer_lanes_and_the_same_outcomes(
    room: int, caplog: pytest.LogCaptureFixture
) -> None:
    def check(batch_size: Sequence[PromptState]) -> None:
        if len(batch_size) > room and batch_size[0].block == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    engine, attack = start(check, batch_size=8)
    assert told(engine.run(PROMPTS)) == undisturbed()
    assert attack.batches[0] == 8
    assert set(attack.batches[-3:]) <= {1, 2, 3}
    assert "going on with 4 prompts at a time" in caplog.text


def test_without_any_memory_it_stops_as_out_of_memory() -> None:
    def check(batch_size: Sequence[PromptState]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    engine, attack = start(check, batch_size=8)
    with pytest.raises(torch.OutOfMemoryError):
        list(engine.run(PROMPTS))
    assert attack.batches == [8, 4, 2] + [1] * (1 + MAX_FAILURES - 1)


def test_a_stopped_engine_can_be_left_and_started_again() -> None:
    engine, _ = start(lambda batch_size: None)
    running = engine.run(PROMPTS)
    first = next(outcome for outcome in running if outcome is not None)
    running.close()
    assert engine.active == 0
    rest = [prompt for prompt in PROMPTS if prompt.digest != first.prompt]
    wanted = undisturbed()
    wanted.pop(first.prompt)
    assert told(engine.run(rest)) == wanted


def test_smaller_batches_leave_a_real_searchs_outcomes_as_they_are(
    victim: DiffusionModel, targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcomes(batch_size: int) -> dict[str, tuple[object, ...]]:
        search = CoordinateSearch(
            AttackConfig(), victim, TokenSwapSchedule((0.35, 0.65), rounds=2, screened=6, measured=3)
        )
        evaluation = Evaluation(victim, lambda images: [Judgement(False, 0.0, "nothing") for _ in images])
        return told(Engine(search, victim, targets, evaluation, batch_size, 0).run(TINY))

    wanted, encode = outcomes(4), DiffusionModel.encode

    def small(self: DiffusionModel, ids: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        if len(ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, ids, embeddings)

    monkeypatch.setattr(DiffusionModel, "encode", small)
    assert outcomes(4) == wanted
    assert [len(part) for _, part in in_batches("abc")] == [2, 2]


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("expected Half but found Float"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, is_it: bool) -> None:
    assert out_of_memory(error) is is_it
