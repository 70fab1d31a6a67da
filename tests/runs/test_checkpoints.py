"""Checkpoints: an interrupted campaign goes on exactly where it was, and believes nothing damaged or foreign."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from builders import concept
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from short_schedules import attack_configs, shorten_schedules
from tiny import PROMPTS as TINY

from pytest_unlearndiff.attacks.base import build_attack
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.images import Evaluated, Judgement
from pytest_unlearndiff.core.outcome import Outcome
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets
from pytest_unlearndiff.runs.campaign import Campaign, StopCondition
from pytest_unlearndiff.runs.checkpoints import CheckpointFolder, CheckpointId, check, decode, encode
from pytest_unlearndiff.runs.engine import Engine
from pytest_unlearndiff.runs.evaluation import Evaluation
from pytest_unlearndiff.runs.local_backend import EngineRequest
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.runs.prompts import PendingPrompt
from pytest_unlearndiff.runs.runner import Runner
from pytest_unlearndiff.store.store import Mode, Store

from .fakes import CHECKPOINT_ID, PROMPTS, FakeAttack, FakeModel, make_engine

Make = Callable[[], Engine]


def run_interrupted(make: Make, prompts: list[Prompt], rounds: Callable[[], int]) -> tuple[dict[str, Outcome], int]:
    """Run engines one after the other, each from the last one's checkpoints and killed after some rounds of work."""
    outcomes, checkpoints, engines = dict[str, Outcome](), dict[str, bytes](), 0
    while len(outcomes) < len({prompt.digest for prompt in prompts}):
        engine, left = make(), rounds()
        engines += 1
        running = engine.run([prompt for prompt in prompts if prompt.digest not in outcomes], checkpoints)
        for outcome in running:
            if outcome is not None:
                assert outcome.prompt not in outcomes
                outcomes[outcome.prompt] = replace(outcome, seconds=0.0)
                checkpoints.pop(outcome.prompt, None)
                continue
            checkpoints |= engine.take_checkpoints()
            left -= 1
            if not left:
                break
        running.close()
    return outcomes, engines


def undisturbed(make: Make, prompts: list[Prompt]) -> dict[str, Outcome]:
    return run_interrupted(make, prompts, lambda: 10**6)[0]


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32))
def test_resume_equals_undisturbed(batch_size: int, most: int, seed: int) -> None:
    """Wherever it is killed, with any batch size before and after."""
    random = Random(seed)
    make = lambda: make_engine(batch_size=random.randint(1, batch_size))  # noqa: E731
    outcomes, _ = run_interrupted(make, PROMPTS, lambda: random.randint(1, most))
    assert outcomes == undisturbed(lambda: make_engine(batch_size=4), PROMPTS)


def test_no_round_is_repeated() -> None:
    attacks = list[FakeAttack]()

    def make() -> Engine:
        attacks.append(FakeAttack())
        return make_engine(attacks[-1], 4)

    _, engines = run_interrupted(make, PROMPTS, lambda: 1)
    whole = FakeAttack()
    list(make_engine(whole, 4).run(PROMPTS))
    assert sum(sum(attack.batches) for attack in attacks) == sum(whole.batches)
    assert engines > 6


@pytest.mark.parametrize("config", [pytest.param(config, id=config.title) for config in attack_configs()])
def test_every_attack_resumes_after_every_round(
    config: AttackConfig, victim: DiffusionModel, targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With several images per prompt, alone and in a batch."""
    shorten_schedules(monkeypatch)

    def judge(images: Sequence[Image.Image], _: object) -> list[Judgement]:
        scores = [sum(image.tobytes()) % 11 for image in images]  # as good as random, and the image's alone
        return [Judgement(score == 10, score, "noise") for score in scores]

    def make(batch_size: int) -> Engine:
        attack, evaluation = build_attack(config, victim), Evaluation(victim, judge, images=2)
        return Engine(attack, victim, targets, evaluation, batch_size, 7, checkpoint_id=CHECKPOINT_ID)

    prompts = list(TINY[:2])
    outcomes, _ = run_interrupted(lambda: make(2), prompts, lambda: 1)
    assert outcomes == undisturbed(lambda: make(1), prompts)
    assert all(outcome.evaluations % 2 == 0 for outcome in outcomes.values())


def saved() -> tuple[Prompt, bytes]:
    """A checkpoint of a prompt after its first round."""
    engine = make_engine()
    running = engine.run([PROMPTS[3]])
    next(running)
    next(running)
    [(_, data)] = engine.take_checkpoints().items()
    return PROMPTS[3], data


PROMPT, DATA = saved()


def test_checkpoint_holds_cost_and_judgements() -> None:
    pending = decode(CHECKPOINT_ID, PROMPT, DATA)
    assert pending.saved is not None
    assert (pending.saved.evaluations, pending.saved.blocked, pending.saved.state.facts) == (2, 0, {"round": 1})
    assert pending.seconds > 0
    assert torch.equal(pending.saved.state.tensors["generator"], torch.Generator().get_state())
    waiting = PendingPrompt(PROMPT, Evaluated(Judgement(False, float("nan"), "", blocked=True), blocked=1), 1.5)
    again = decode(CHECKPOINT_ID, PROMPT, encode(CHECKPOINT_ID, waiting, None))
    assert (again.baseline.blocked, again.seconds, again.saved) == (True, 1.5, None)


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_damaged_checkpoint_is_ignored(place: int, change: int) -> None:
    damaged = bytearray(DATA)
    damaged[place] ^= change
    with pytest.raises(ValueError, match=r"damaged|another"):
        check(bytes(damaged), CHECKPOINT_ID.fields(PROMPT.digest))


@given(st.integers(0, len(DATA) - 1))
def test_torn_checkpoint_is_ignored(length: int) -> None:
    with pytest.raises(ValueError, match="damaged"):
        check(DATA[:length], CHECKPOINT_ID.fields(PROMPT.digest))


@pytest.mark.parametrize(
    ("owner", "prompt", "kind"),
    [
        (replace(CHECKPOINT_ID, campaign="f" * 16), PROMPT, "campaign"),
        (replace(CHECKPOINT_ID, attack="fake 2"), PROMPT, "attack"),
        (CHECKPOINT_ID, PROMPTS[7], "prompt"),
    ],
)
def test_foreign_checkpoint_is_ignored(owner: CheckpointId, prompt: Prompt, kind: str) -> None:
    with pytest.raises(ValueError, match=f"it belongs to another {kind}"):
        decode(owner, prompt, DATA)


def test_unrestorable_state_begins_afresh(caplog: pytest.LogCaptureFixture) -> None:
    class Forgetful(FakeAttack):
        def load(self, *_: Any) -> Any:
            raise KeyError("generator")

    outcomes = [o for o in make_engine(Forgetful()).run([PROMPT], {PROMPT.digest: DATA}) if o is not None]
    expected = undisturbed(make_engine, [PROMPT])
    assert [replace(outcome, seconds=0.0) for outcome in outcomes] == [*expected.values()]
    assert "begins afresh: KeyError: 'generator'" in caplog.text


def campaign(store: Store) -> tuple[Campaign, Path]:
    campaign = Campaign(replace(concept(2), prompts=tuple(PROMPTS)), AttackConfig(), Fingerprint("v", "t"), "j")
    return campaign, campaign.folder(store).folder / "in-progress"


class Interrupted(Exception):
    """Stands for Ctrl-C."""


class Interrupting:
    """A backend of the fake attack, interrupted after some rounds."""

    needs_torch = True

    def __init__(self, rounds: int) -> None:
        self.rounds, self.requests = rounds, list[Any]()

    def build(self, request: EngineRequest) -> tuple[Engine, dict[str, Any]]:
        model = FakeModel()
        engine = make_engine(model=model)
        engine._checkpoint_id = CheckpointId.of(request.campaign)
        self.requests = model.requests
        step = engine.step

        def interrupted() -> list[Outcome]:
            self.rounds -= 1
            if self.rounds < 0:
                raise Interrupted
            return step()

        engine.step = interrupted  # type: ignore[method-assign]
        return engine, {}


@pytest.mark.parametrize("mode", Mode)
def test_checkpoints_follow_the_store_mode(tmp_path: Path, mode: Mode) -> None:
    store = Store(tmp_path, mode)
    asked, folder = campaign(store)
    backend = Interrupting(4)
    with suppress(Interrupted):
        Runner(store, ModelCache(), backend, batch_size=4).run(asked, ModelSpec)
    assert folder.exists() is mode.writes
    assert tmp_path.joinpath("campaigns").exists() is mode.writes


def test_resumed_campaign_leaves_no_checkpoint(tmp_path: Path) -> None:
    store = Store(tmp_path)
    asked, folder = campaign(store)
    requests, results = list[Any](), None
    for rounds in (2, 3, 100):
        backend = Interrupting(rounds)
        with suppress(Interrupted):
            results = Runner(store, ModelCache(), backend, batch_size=4).run(asked, ModelSpec)
        assert rounds == 100 or list(folder.iterdir())
        requests += backend.requests
    assert results is not None
    assert results.complete
    assert not folder.exists()
    unattacked = [request for request in requests if request.text.startswith("prompt")]
    assert len(unattacked) == len(PROMPTS), "no un-attacked image was drawn twice"
    whole = Runner(Store(tmp_path / "other"), ModelCache(), Interrupting(100), batch_size=4).run(asked, ModelSpec)
    forget = lambda outcomes: [replace(o, seconds=0.0) for o in outcomes]  # noqa: E731
    assert forget(results.outcomes) == forget(whole.outcomes)


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, DATA])
def test_ignored_checkpoint_is_noted(tmp_path: Path, damage: bytes) -> None:
    store = Store(tmp_path)
    asked, folder = campaign(store)
    folder.mkdir(parents=True)
    path = folder / f"{PROMPTS[3].digest}.safetensors"
    path.write_bytes(damage)
    result = Runner(store, ModelCache(), Interrupting(100), batch_size=4).run(asked, ModelSpec)
    assert result.complete
    [note] = result.provenance["store_notes"]
    assert note.startswith(f"{path} is ignored, and its prompt attacked from the start: it ")


def test_resume_over_short_sessions(tmp_path: Path) -> None:
    """Each has time for a few rounds of all prompts at once, and none of them ends in the first."""
    store = Store(tmp_path)
    asked, _ = campaign(store)
    asked = replace(asked, concept=replace(asked.concept, prompts=(PROMPTS[3], PROMPTS[7])))

    class Clock:
        def __init__(self, rounds: int) -> None:
            self.left = rounds

        def __call__(self, snapshot: Any) -> None:
            self.left -= 1

    results = []
    for _ in range(2):
        clock = Clock(4)
        stop = StopCondition(message="used up: the same command goes on", message_nothing_done="too short")
        overdue = property(lambda self, clock=clock: clock.left <= 0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StopCondition, "is_overdue", overdue)
            runner = Runner(store, ModelCache(), Interrupting(100), batch_size=8, progress=clock)
            results.append(runner.run(asked, ModelSpec, stop=stop))
    assert (results[0].fresh, results[0].obstacle) == (0, "used up: the same command goes on")
    assert (results[1].fresh, results[1].obstacle) == (2, "")


def test_write_without_fsync_and_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path / "in-progress", CHECKPOINT_ID, reads=True, writes=True)
    folder.write({PROMPT.digest: DATA})
    assert folder.read([PROMPT]) == ({PROMPT.digest: DATA}, [])

    def full(self: Path, data: bytes) -> int:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    folder.write({PROMPT.digest: b"new"})
    assert folder.read([PROMPT]) == ({PROMPT.digest: DATA}, [])
    folder.remove(PROMPT.digest)
    folder.close()
    assert not (tmp_path / "in-progress").exists()
