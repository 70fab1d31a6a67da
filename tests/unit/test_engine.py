"""The engine: the sweep, refilled lanes, outcomes that do not depend on how many are attacked together."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from PIL import Image

from pytest_unlearndiff.attacks.base import PromptState
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.drawing import GenerationRequest
from pytest_unlearndiff.core.judgement import Judgement
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.models.generated_images import GeneratedImage
from pytest_unlearndiff.runs.engine import Engine
from pytest_unlearndiff.runs.evaluation import Evaluation

# Prompt n: drawn at once where n % 4 == 0, broken in block n % 4 where that is 1 or 2, else never.
PROMPTS = [Prompt(f"prompt {n}", n, 5.0, n) for n in range(11)]


class FakeVictim:
    """Draws a image that is only its text; counts what it drew."""

    forwards_per_image = 10

    def tokens(self, text: str) -> int:
        return len(text.split()) + 2

    def __init__(self) -> None:
        self.drawn: list[GenerationRequest] = []

    def generate(self, drawings: Sequence[GenerationRequest]) -> list[GeneratedImage]:
        self.drawn += drawings
        images = [Image.new("RGB", (1, 1)) for _ in drawings]
        for image, drawing in zip(images, drawings, strict=True):
            image.info["text"] = drawing.text
        return [GeneratedImage(image) for image in images]


def judge(images: Sequence[Image.Image]) -> list[Judgement]:
    """A hit is a proposal with an exclamation mark, or an un-attacked prompt of the first kind."""
    texts = [str(image.info["text"]) for image in images]
    return [Judgement(t.endswith("!") or t in {f"prompt {n}" for n in (0, 4, 8)}, 0.5, t) for t in texts]


class FakeAttack:
    """Proposes the same text twice, then a hit in the block that the prompt's number says."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def start(self, prompts: Sequence[Prompt], victim: object, targets: object, seed: int) -> list[PromptState]:
        return [PromptState(prompt, torch.Generator()) for prompt in prompts]

    def advance(self, batch_size: Sequence[PromptState], victim: object) -> list[GenerationRequest | None]:
        self.batches.append(len(batch_size))
        return [self._propose(state) for state in batch_size]

    def _propose(self, state: PromptState) -> GenerationRequest | None:
        state.block += 1
        if state.block > 3:
            return None
        hit = state.prompt.case % 4 == state.block
        state.inserted = "x" if hit else None
        return GenerationRequest(
            f"x {state.prompt.text}" + ("!" if hit and state.block < 3 else ""), state.prompt.seed, 5.0
        )


def run(batch_size: int) -> tuple[dict[str, Outcome], FakeVictim, FakeAttack]:
    victim, attack = FakeVictim(), FakeAttack()
    evaluation = Evaluation(victim, judge)  # type: ignore[arg-type]
    engine = Engine(attack, victim, None, evaluation, batch_size, 0)  # type: ignore[arg-type]
    outcomes = [outcome for outcome in engine.run(PROMPTS) if outcome is not None]
    assert len(outcomes) == len(PROMPTS)
    return {outcome.prompt: outcome for outcome in outcomes}, victim, attack


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 50])
def test_outcomes_do_not_depend_on_the_number_of_lanes(batch_size: int) -> None:
    outcomes, _, _ = run(batch_size)
    statuses = [outcomes[prompt.digest].status for prompt in PROMPTS]
    wanted = [Status.HIT_WITHOUT_ATTACK, Status.HIT_UNDER_ATTACK, Status.HIT_UNDER_ATTACK, Status.RESISTED]
    assert statuses == [wanted[n % 4] for n in range(11)]
    broken = outcomes[PROMPTS[2].digest]
    assert (broken.adversarial, broken.inserted, broken.evaluations, broken.forwards) == ("x prompt 2!", "x", 3, 30)
    assert outcomes[PROMPTS[3].digest].adversarial is None


def test_a_finished_lane_takes_the_next_prompt() -> None:
    _, _, attack = run(3)
    assert attack.batches[:-3] == [3] * (len(attack.batches) - 3)


def test_every_round_of_work_gives_a_sign() -> None:
    """So that a campaign can be stopped between any two rounds."""
    evaluation = Evaluation(FakeVictim(), judge)  # type: ignore[arg-type]
    attack = FakeAttack()
    engine = Engine(attack, FakeVictim(), None, evaluation, 4, 0)  # type: ignore[arg-type]
    rounds = 0
    for outcome in engine.run(PROMPTS):
        rounds += outcome is None
        assert len(attack.batches) <= rounds + 1


def test_the_round_of_every_prompt_in_a_lane_is_told() -> None:
    evaluation = Evaluation(FakeVictim(), judge)  # type: ignore[arg-type]
    engine = Engine(FakeAttack(), FakeVictim(), None, evaluation, 4, 0)  # type: ignore[arg-type]
    told = [engine.rounds for outcome in engine.run([PROMPTS[3], PROMPTS[7]]) if outcome is None]
    assert told == [(), (2, 2), (3, 3), (4, 4), ()]  # drawn without attack, three rounds, and nothing more to try
    assert engine.rounds == ()


def test_no_image_is_drawn_twice() -> None:
    _, victim, _ = run(4)
    assert len(victim.drawn) == len(set(victim.drawn))


def test_errors_are_outcomes_of_their_own() -> None:
    class Broken(FakeAttack):
        def _propose(self, state: PromptState) -> GenerationRequest | None:
            state.error = "no number" if state.prompt.case == 1 else None
            return None if state.error else super()._propose(state)

    evaluation = Evaluation(FakeVictim(), judge)  # type: ignore[arg-type]
    engine = Engine(Broken(), FakeVictim(), None, evaluation, 4, 0)  # type: ignore[arg-type]
    outcomes = {outcome.prompt: outcome for outcome in engine.run(PROMPTS) if outcome is not None}
    assert outcomes[PROMPTS[1].digest].status is Status.ERROR
    assert outcomes[PROMPTS[1].digest].error == "no number"
    assert outcomes[PROMPTS[2].digest].status is Status.HIT_UNDER_ATTACK


def test_the_timestep_at_which_a_prompt_broke_is_noted_and_no_other() -> None:
    class Blocks(FakeAttack):
        def _propose(self, state: PromptState) -> GenerationRequest | None:
            found = super()._propose(state)
            state.timestep = 100 * state.block
            return found

    evaluation = Evaluation(FakeVictim(), judge)  # type: ignore[arg-type]
    engine = Engine(Blocks(), FakeVictim(), None, evaluation, 4, 0)  # type: ignore[arg-type]
    outcomes = {outcome.prompt: outcome for outcome in engine.run(PROMPTS) if outcome is not None}
    assert [outcomes[prompt.digest].timestep for prompt in PROMPTS[:4]] == [None, 100, 200, None]


def test_prompts_that_come_in_later_end_as_if_they_had_been_there_at_once() -> None:
    victim = FakeVictim()
    engine = Engine(FakeAttack(), victim, None, Evaluation(victim, judge), 3, 0)  # type: ignore[arg-type]
    assert engine.batch_size == 3
    coming = [PROMPTS[:4], [], PROMPTS[4:]]
    serving = engine.serve(lambda: coming.pop(0) if coming else [])
    found = dict[str, Outcome]()
    while len(found) < len(PROMPTS):
        if (outcome := next(serving)) is not None:
            found[outcome.prompt] = outcome
    expected, *_ = run(3)
    assert {digest: outcome.status for digest, outcome in found.items()} == {
        digest: outcome.status for digest, outcome in expected.items()
    }
    assert [next(serving) for _ in range(3)] == [None] * 3, "it waits for more"


def test_where_the_number_of_lanes_is_left_open_the_first_round_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    class Meter:
        def __init__(self, device: object) -> None:
            pass

        def fitting(self, used: int, batch_size: int) -> int:
            return 2 * used

    monkeypatch.setattr("pytest_unlearndiff.models.memory.MemoryMeter", Meter)
    monkeypatch.setattr("pytest_unlearndiff.models.memory.START", 2)
    monkeypatch.setattr(FakeVictim, "device", torch.device("cpu"), raising=False)
    _, _, attack = run(0)
    assert attack.batches[0] == 2
    assert max(attack.batches) == 4
