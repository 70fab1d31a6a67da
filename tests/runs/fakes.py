"""A fake attack on a fake model, for tests of the engine.

Prompt n shows the concept without attack where n % 4 is 0, in round n % 4 of the attack where that is 1 or 2; others
never do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from PIL import Image

from pytest_unlearndiff.attacks.base import AttackState, PromptState
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.images import GenerationRequest, Judgement
from pytest_unlearndiff.models.generated_images import GeneratedImage
from pytest_unlearndiff.runs.checkpoints import CheckpointId
from pytest_unlearndiff.runs.engine import Engine
from pytest_unlearndiff.runs.evaluation import Evaluation

PROMPTS = [Prompt(f"prompt {n}", n, 5.0, n) for n in range(11)]


CHECKPOINT_ID = CheckpointId("0123456789abcdef", "fake 1")


class FakeModel:
    """Draws an image that is only its text.

    Args:
        bad: texts whose images are evidence of nothing.
        blocked: texts whose images its safety checker blocks.
    """

    forwards_per_image = 10
    device = torch.device("cpu")

    def __init__(self, bad: Sequence[str] = (), blocked: Sequence[str] = ()) -> None:
        self.bad, self.blocked = bad, blocked
        self.requests: list[GenerationRequest] = []

    def tokens(self, text: str) -> int:
        return len(text.split()) + 2

    def generate(self, requests: Sequence[GenerationRequest]) -> list[GeneratedImage]:
        self.requests += requests
        images = []
        for request in requests:
            image = Image.new("RGB", (1, 1))
            image.info["text"] = request.text
            problem = "it drew NaN" if request.text in self.bad else None
            images.append(replace(GeneratedImage(image), problem=problem, blocked=request.text in self.blocked))
        return images


def judge(images: Sequence[Image.Image], prompts: Sequence[str] = ()) -> list[Judgement]:
    """See the concept in a proposal with an exclamation mark, or in an un-attacked prompt of the first kind."""
    texts = [str(image.info["text"]) for image in images]
    return [Judgement(t.endswith("!") or t in {f"prompt {n}" for n in (0, 4, 8)}, 0.5, t) for t in texts]


class FakeAttack:
    """Proposes the same text twice, then a hit in the round that the prompt's number says.

    Args:
        check: is shown the batch after every round; raises what should go wrong.
    """

    def __init__(self, check: Callable[[Sequence[PromptState]], None] = lambda states: None) -> None:
        self.check = check
        self.batches: list[int] = []

    def start(self, prompts: Sequence[Prompt], targets: object, seed: int) -> list[PromptState]:
        return [PromptState(prompt, torch.Generator()) for prompt in prompts]

    def advance(self, states: Sequence[PromptState]) -> list[GenerationRequest | None]:
        self.batches.append(len(states))
        proposals = [self.propose(state) for state in states]
        self.check(states)
        return proposals

    def save(self, state: PromptState) -> AttackState:
        return AttackState({"generator": state.generator.get_state()}, {"round": state.round})

    def load(self, prompt: Prompt, saved: AttackState, targets: object) -> PromptState:
        generator = torch.Generator().set_state(saved.tensors["generator"])
        return PromptState(prompt, generator, saved.facts["round"])

    def propose(self, state: PromptState) -> GenerationRequest | None:
        state.round += 1
        state.timestep = 100 * state.round
        if state.round > 3:
            return None
        hit = state.prompt.case % 4 == state.round
        state.inserted = "x" if hit else None
        text = f"x {state.prompt.text}" + ("!" if hit and state.round < 3 else "")
        return GenerationRequest(text, state.prompt.seed, 5.0)


def make_engine(
    attack: FakeAttack | None = None,
    batch_size: int = 4,
    model: FakeModel | None = None,
    judge: Callable[[Sequence[Image.Image]], list[Judgement]] = judge,
) -> Engine:
    model = model or FakeModel()
    evaluation = Evaluation(model, judge)  # type: ignore[arg-type]
    attack = attack or FakeAttack()
    return Engine(attack, model, None, evaluation, batch_size, 0, checkpoint_id=CHECKPOINT_ID)  # type: ignore[arg-type]
