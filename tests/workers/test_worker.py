"""One worker: what a step reports, which files it accepts, and what the sender keeps of an update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from builders import concept, prompts

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Concept, JudgeConfig, Prompt
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.engine_state import EngineState
from pytest_unlearndiff.runs.local_backend import EngineRequest, LocalBackend
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.runs.positive_control import ControlRecorder, control_campaign
from pytest_unlearndiff.sources.resolve import judge_weights
from pytest_unlearndiff.store.key import Fingerprints
from pytest_unlearndiff.store.store import Store
from pytest_unlearndiff.store.thumbnails import Thumbnails
from pytest_unlearndiff.workers.distributed_engine import DistributedEngine, WorkerPoolConfig
from pytest_unlearndiff.workers.ray_backend import RayBackend
from pytest_unlearndiff.workers.worker import JobSpec, Thumbnail, Worker, WorkerUpdate


class ScriptedEngine:
    """Ends every prompt at once, draws a thumbnail of it, and sees the concept in its target image."""

    batch_size = 2
    state = EngineState()

    def __init__(self, control: ControlRecorder, thumbnails: Thumbnails) -> None:
        self.control, self.thumbnails = control, thumbnails
        self.prompts: list[Prompt] = []

    def add(self, prompts: Sequence[Prompt], checkpoints: Mapping[str, bytes]) -> None:
        self.prompts += prompts

    def take_checkpoints(self) -> dict[str, bytes]:
        return {"unfinished": b"state"}

    def step(self) -> list[Outcome]:
        ended, self.prompts = self.prompts, []
        for prompt in ended:
            self.thumbnails.write(prompt.digest, b"RIFF", base=True)
            self.control.add([Outcome(prompt.digest, Status.HIT_WITHOUT_ATTACK)])
        return [Outcome(prompt.digest, Status.RESISTED) for prompt in ended]


def job(folder: Path, victim: str = "victim.pt") -> JobSpec:
    """A campaign on files of this folder."""
    source = ModelSpec(folder / victim, folder / "base.pt")
    judge = JudgeConfig("image-classifier", {"model": str(folder / "judge.bin"), "label": "church"})
    fingerprint, weights = Fingerprint.of(source, Fingerprints()), judge_weights(judge, Fingerprints())
    campaign = Campaign(Concept("church", prompts(2), judge), AttackConfig(), fingerprint, weights)
    return JobSpec(campaign, source, batch_size=1, keep_images=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint, a whole pipeline, a base and a judge."""
    (tmp_path / "whole").mkdir()
    for name in ("victim.pt", "whole/model_index.json", "base.pt", "judge.bin"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_step_reports_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(self: LocalBackend, request: EngineRequest) -> tuple[ScriptedEngine, dict[str, str]]:
        return ScriptedEngine(request.control, request.thumbnails), {"format": "script"}

    monkeypatch.setattr(LocalBackend, "build", build)
    worker, one = Worker(), prompts(1)[0]
    assert worker.load(job(folder)).description == {"format": "script"}
    update = worker.step([one], {})
    assert update.outcomes == [Outcome(one.digest, Status.RESISTED)]
    assert update.checkpoints == {"unfinished": b"state"}
    assert update.control == [Outcome(one.digest, Status.HIT_WITHOUT_ATTACK)]
    assert update.thumbnails == [Thumbnail(one.digest, b"RIFF", True)]
    later = worker.step([], {})
    assert (later.outcomes, later.control, later.thumbnails) == ([], [], [])


@pytest.mark.parametrize("missing", ["victim.pt", "base.pt", "judge.bin"])
def test_missing_file_is_named(folder: Path, missing: str) -> None:
    sent = job(folder)
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=f"^worker on .+: there is nothing at .*{missing} on this machine: put it at"):
        Worker().load(sent)


@pytest.mark.parametrize("victim", ["victim.pt", "whole"])
def test_same_files_are_accepted(folder: Path, victim: str) -> None:
    sent = job(folder, victim)
    sent.check_files(Fingerprints())
    # The victim's side of a retention gate has no fingerprint of a base.
    alone = replace(sent.campaign, fingerprint=Fingerprint(sent.campaign.fingerprint.victim, ""))
    replace(sent, campaign=alone).check_files(Fingerprints())


@pytest.mark.parametrize(
    ("victim", "name", "message"),
    [
        ("victim.pt", "victim.pt", "victim.pt, with its base, has"),
        ("victim.pt", "base.pt", "victim.pt, with its base, has"),
        ("victim.pt", "judge.bin", "judge of concept 'church' has"),
        ("whole", "whole/model_index.json", "whole, with its base, has"),
        ("whole", "base.pt", "the base has"),
    ],
)
def test_other_content_is_refused_by_name(folder: Path, victim: str, name: str, message: str) -> None:
    sent = job(folder, victim)
    (folder / name).write_text("other")
    with pytest.raises(ModelError, match=f"{message} other content here than where pytest runs"):
        sent.check_files(Fingerprints())


def test_other_target_images_are_refused_by_name(folder: Path) -> None:
    (folder / "1.png").write_text("one")
    shown = replace(concept(1), images={prompts(1)[0].digest: str(folder / "1.png")})
    source = ModelSpec(folder / "victim.pt")
    campaign = Campaign(shown, AttackConfig(), Fingerprint.of(source, Fingerprints(), shown.images), "j")
    (folder / "1.png").write_text("another")
    sent = JobSpec(campaign, source, 1)
    with pytest.raises(ModelError, match="target images of concept 'church' have other content here"):
        sent.check_files(Fingerprints())


@pytest.mark.parametrize("images", [True, False])
def test_updates_are_kept_by_the_sender(tmp_path: Path, images: bool) -> None:
    """A worker sees only its own GPU, whatever its number is here."""
    store = Store(tmp_path, keep_images=images)
    campaign = Campaign(concept(2), AttackConfig(), Fingerprint("v", "t"), "j")
    folder = campaign.folder(store)
    store.create(folder, campaign.key)
    control = ControlRecorder(control_campaign(campaign), store)
    pool, models = WorkerPoolConfig(RayBackend("1", "cpu"), 60), ModelCache()
    thumbnails = store.writable_thumbnails(folder)
    engine, _ = pool.build(EngineRequest(campaign, ModelSpec(device="cuda:3"), models, 2, control, thumbnails))
    assert isinstance(engine, DistributedEngine)
    assert engine.job.source.device == "cuda"
    source = ModelSpec(device="auto", dtype="auto")
    auto, _ = pool.build(EngineRequest(campaign, source, models, 2, control, thumbnails))
    assert isinstance(auto, DistributedEngine)
    assert (auto.job.source.device, auto.job.source.dtype) == ("auto", "auto"), "each worker finds its own"
    seen = Outcome(campaign.concept.prompts[0].digest, Status.HIT_WITHOUT_ATTACK)
    engine.on_update(WorkerUpdate("node", 2, control=[seen], thumbnails=[Thumbnail("d" * 16, b"RIFF....WEBP", False)]))
    assert control.outcomes == {seen.prompt: seen}
    assert store.outcomes(control_campaign(campaign).folder(store))[0] == control.outcomes
    assert (Thumbnails(folder.folder).read("d" * 16) is not None) is images
