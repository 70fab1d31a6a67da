"""What is asked of machines before anything runs on them: the same packages, and the same files."""

from __future__ import annotations

import builtins
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from builders import prompts

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Concept, JudgeConfig
from pytest_unlearndiff.core.errors import AttackUnavailable, ModelError
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.model_cache import Fingerprint, ModelSpec
from pytest_unlearndiff.sources.judge_files import judge_weights
from pytest_unlearndiff.store.hashing import Fingerprints
from pytest_unlearndiff.workers.ray_backend import RayBackend, RayWorker, asker, differing
from pytest_unlearndiff.workers.worker import JobSpec, check_files


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ({"torch": "2"}, {"torch": "2"}, []),
        ({"torch": "2"}, {"torch": "3"}, ["n1 has torch 3, not 2"]),
        ({"torch": "2"}, {"torch": ""}, ["n1 has no torch"]),
        ({"torch": ""}, {"torch": "3"}, []),
        ({"torch": ""}, {"torch": ""}, ["n1 has no torch"]),
    ],
)
def test_packages_that_differ_are_named(here: dict[str, str], there: dict[str, str], said: list[str]) -> None:
    assert differing([("here", here), ("n1", there)]) == said


def test_where_pytest_has_no_torch_the_machines_still_have_to_agree() -> None:
    answers = [("here", {"torch": ""}), ("n1", {"torch": "2"}), ("n2", {"torch": "3"})]
    assert differing(answers) == ["n2 has torch 3, not 2"]


def test_a_machine_says_what_it_has() -> None:
    _, found = asker(["pytest", "no-such-package"])()
    assert found["pytest"] == pytest.__version__
    assert found["no-such-package"] == ""


def test_without_ray_the_error_says_how_to_get_it(files: JobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return load(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(AttackUnavailable, match=r'pip install "pytest-unlearndiff\[ray\]"'):
        RayBackend("2", "cpu").gather(files, 1)


class Resources:
    """What Ray says of its machines."""

    def __init__(self, gpus: int, cpus: int) -> None:
        self._resources = {"GPU": float(gpus), "CPU": float(cpus)}

    def cluster_resources(self) -> dict[str, float]:
        return self._resources


@pytest.mark.parametrize(
    ("where", "device", "gpus", "count", "share"),
    [
        ("ray", "cuda", 3, 3, 1),
        ("ray/2", "cuda", 3, 6, 1 / 2),
        ("ray://head:10001/3", "cuda", 3, 8, 1 / 3),
        ("auto/4", "cuda", 1, 4, 1 / 4),
        ("4", "cuda", 2, 4, 1 / 2),
        ("5", "cuda", 2, 5, 1 / 3),
        ("ray/2", "cpu", 0, 8, 1 / 2),
        ("ray", "auto", 3, 3, 1),
        ("ray", "auto", 0, 8, 1),
        ("auto/4", "auto", 1, 4, 1 / 4),
        ("4", "auto", 2, 4, 1 / 2),
    ],
)
def test_workers_share_gpus(where: str, device: str, gpus: int, count: int, share: float) -> None:
    team = RayBackend(where, device)
    team._ray = Resources(gpus, cpus=8)
    assert team._count() == count
    assert team._share == pytest.approx(share)


@pytest.mark.parametrize(
    ("where", "said"), [("ray/2", "ray: a worker needs a GPU and a CPU, and the cluster at ray has 0")]
)
def test_no_place_says_so(where: str, said: str) -> None:
    team = RayBackend(where, "cuda")
    team._ray = Resources(0, 8)
    with pytest.raises(AttackUnavailable, match=said):
        team._count()


def order(folder: Path, victim: str) -> JobSpec:
    """What workers are sent about files of this folder."""
    source = ModelSpec(folder / victim, folder / "base.pt")
    spec = JudgeConfig("image-classifier", {"model": str(folder / "judge.bin"), "label": "church"})
    fingerprint, judge = Fingerprint.of(source, Fingerprints()), judge_weights(spec, Fingerprints())
    campaign = Campaign(Concept("church", prompts(2), spec), AttackConfig(), fingerprint, judge)
    return JobSpec(campaign, source, batch_size=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint, a whole pipeline, a base and a judge."""
    (tmp_path / "whole").mkdir()
    for name in ("victim.pt", "whole/model_index.json", "base.pt", "judge.bin"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
def files(folder: Path) -> JobSpec:
    return order(folder, "victim.pt")


@pytest.mark.parametrize("victim", ["victim.pt", "whole"])
def test_the_same_files_are_taken(folder: Path, victim: str) -> None:
    asked = order(folder, victim)
    check_files(asked, asked, Fingerprints())


def test_a_campaign_without_a_base_of_its_own_is_taken(files: JobSpec) -> None:
    """As the victim's side of a retention gate is."""
    alone = Fingerprint(files.campaign.fingerprint.victim, "")
    asked = replace(files, campaign=replace(files.campaign, fingerprint=alone))
    check_files(asked, asked, Fingerprints())


@pytest.mark.parametrize(
    ("victim", "name", "said"),
    [
        ("victim.pt", "victim.pt", "victim.pt, with its base, has"),
        ("victim.pt", "base.pt", "victim.pt, with its base, has"),
        ("victim.pt", "judge.bin", "judge of concept 'church' has"),
        ("whole", "whole/model_index.json", "whole, with its base, has"),
        ("whole", "base.pt", "the base has"),
    ],
)
def test_other_files_are_refused_by_name(folder: Path, victim: str, name: str, said: str) -> None:
    asked = order(folder, victim)
    (folder / name).write_text("other")
    with pytest.raises(ModelError, match=f"{said} other content here than where pytest runs"):
        check_files(asked, asked, Fingerprints())


@pytest.mark.parametrize(
    ("where", "device", "said"),
    [
        ("2", "cuda", "--unlearndiff-device=cuda needs a GPU: this machine has 0 GPUs and 8 CPUs"),
        ("auto", "cpu", "workers=auto means one worker a GPU, and models run on --unlearndiff-device=cpu: give a"),
        ("auto", "auto", "workers=auto means one worker a GPU, and there is none here: give a number of workers"),
    ],
)
def test_a_gpu_that_is_not_there_is_said(where: str, device: str, said: str) -> None:
    team = RayBackend(where, device)
    team._ray = Resources(0, 8)
    with pytest.raises(AttackUnavailable, match=said):
        team._count()


class FakeRay:
    """Ray on one machine with two CPUs, whose actors note what they are called for.

    Args:
        torch: version that its other machine says it has.
    """

    def __init__(self, torch: str = "") -> None:
        self.torch = torch
        self.called: list[str] = []
        self.ended: list[str] = []
        self.down = 0

    def init(self, **_: Any) -> None:
        self.up = True

    def is_initialized(self) -> bool:
        return getattr(self, "up", False)

    def shutdown(self) -> None:
        self.down += 1

    def put(self, thing: Any) -> Any:
        return thing

    def get(self, refs: Any) -> Any:
        return refs

    def kill(self, actor: Any) -> None:
        self.ended.append(actor.name)

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": "0" * 56, "Alive": True, "Resources": {"CPU": 2.0}}]

    def remote(self, thing: Any) -> Any:
        ray = self

        class Remote:
            def __init__(self, name: str = "") -> None:
                self.name = name

            def options(self, **_: Any) -> Remote:
                return self

            def remote(self) -> Any:
                if isinstance(thing, type):
                    return Actor(ray, f"worker {len(ray.called) + len(ray.ended)}")
                place, found = thing()
                return place, {**found, **({"torch": ray.torch} if ray.torch else {})}

        return Remote()


class Actor:
    """Notes every method that is called."""

    def __init__(self, ray: FakeRay, name: str) -> None:
        self.ray, self.name = ray, name

    def __getattr__(self, method: str) -> Any:
        class Method:
            @staticmethod
            def remote(*_: Any) -> object:
                self.ray.called.append(method)
                return object()

        return Method


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    found = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", found)
    strategies = ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = lambda node, soft: node  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray.util", ModuleType("ray.util"))
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    return found


def test_workers_of_a_campaign_before_are_called_again(ray: FakeRay, files: JobSpec) -> None:
    team = RayBackend("2", "cpu")
    assert team.gather(files, 2) == 2
    assert team.gather(files, 2) == 2
    assert ray.called == ["ready"] * 4
    assert len(team._actors) == 2


def test_where_nobody_was_asked_anything_there_is_no_news(ray: FakeRay) -> None:
    assert RayBackend("2", "cpu").news(0.001) == []


def test_a_ray_that_ran_before_goes_on_running(ray: FakeRay, files: JobSpec) -> None:
    ours = RayBackend("1", "cpu")
    ours.gather(files, 1)
    theirs = RayBackend("1", "cpu")  # Ray is there by now
    theirs.gather(files, 1)
    theirs.close()
    assert (len(ray.ended), ray.down) == (1, 0)
    ours.close()
    assert (len(ray.ended), ray.down) == (2, 1)


def test_other_packages_are_said_before_anything_runs_and_ray_is_ended(ray: FakeRay, files: JobSpec) -> None:
    ray.torch = "0.1"
    team = RayBackend("2", "cpu")
    with pytest.raises(
        AttackUnavailable, match=r"workers=2: .* has torch 0\.1, not .*Install the same versions everywhere"
    ):
        team.gather(files, 2)
    assert (ray.called, ray.down) == ([], 1)


def test_files_that_machines_lack_are_put_where_all_can_fetch_them_once(
    ray: FakeRay, files: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = list[Any]()
    monkeypatch.setattr(ray, "put", lambda thing: stored.append(thing) or thing, raising=True)
    team = RayBackend("2", "cpu")
    team.gather(files, 2)
    lacking = {files.source.model: "digest of the victim"}
    for worker in list(team._actors):
        team.send(worker, lacking)  # type: ignore[arg-type]
    assert ray.called == ["ready", "ready", "receive", "receive"]
    assert stored == [files, b"victim.pt"]


def test_files_that_are_sent_are_unpacked_where_they_arrive(
    ray: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "there"))
    (tmp_path / "esd.pt").write_bytes(b"weights")
    digest = Fingerprints().of(tmp_path / "esd.pt")
    bench, gone = RayWorker(), Path("/elsewhere/esd.pt")
    assert bench.receive([(gone, digest, [("esd.pt", b"wei"), ("esd.pt", b"ghts")])]) == bench.ready()
    assert bench._sent[gone, digest].read_bytes() == b"weights"
