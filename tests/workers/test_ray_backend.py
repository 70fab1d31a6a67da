"""Ray's side of workers, with a fake Ray: resources, packages, start and end."""

from __future__ import annotations

import builtins
import os
import sys
from types import ModuleType
from typing import Any

import pytest
from builders import concept

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.errors import AttackUnavailable
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.model_cache import Fingerprint, ModelSpec
from pytest_unlearndiff.workers.ray_backend import RayBackend, package_differences, package_reporter, start_ray
from pytest_unlearndiff.workers.worker import JobSpec

JOB = JobSpec(Campaign(concept(2), AttackConfig(), Fingerprint("v", "t"), "j"), ModelSpec(), 1)
WAIT = "RAY_gcs_server_port_wait_time_s"


@pytest.mark.parametrize(
    ("here", "others", "mistakes"),
    [
        ({"torch": "2"}, [{"torch": "2"}], []),
        ({"torch": "2"}, [{"torch": "3"}], ["n1 has torch 3, not 2"]),
        ({"torch": "2"}, [{"torch": ""}], ["n1 has no torch"]),
        ({"torch": ""}, [{"torch": "3"}], []),
        ({"torch": ""}, [{"torch": ""}], ["n1 has no torch"]),
        ({"torch": ""}, [{"torch": "2"}, {"torch": "3"}], ["n2 has torch 3, not 2"]),
    ],
)
def test_package_differences(here: dict[str, str], others: list[dict[str, str]], mistakes: list[str]) -> None:
    nodes = [(f"n{number}", versions) for number, versions in enumerate(others, 1)]
    assert package_differences([("here", here), *nodes]) == mistakes


def test_package_reporter() -> None:
    _, versions = package_reporter(["pytest", "no-such-package"])()
    assert versions["pytest"] == pytest.__version__
    assert versions["no-such-package"] == ""


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return load(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(AttackUnavailable, match=r'pip install "pytest-unlearndiff\[ray\]"'):
        RayBackend("2", "cpu").start(JOB, 1)


class FakeRay(ModuleType):
    """Ray on one machine, whose actors note what they are called for.

    Args:
        cpus: of the machine.
        gpus: of the machine.
    """

    def __init__(self, cpus: int = 2, gpus: int = 0) -> None:
        super().__init__("ray")
        self.resources = {"CPU": float(cpus), "GPU": float(gpus)}
        self.torch = ""
        self.called: list[str] = []
        self.killed = 0
        self.down = 0
        self.up = False

    def init(self, **_: Any) -> None:
        self.up = True

    def is_initialized(self) -> bool:
        return self.up

    def shutdown(self) -> None:
        self.down += 1

    def put(self, thing: Any) -> Any:
        return thing

    def get(self, refs: Any) -> Any:
        return refs

    def kill(self, actor: Any, *, no_restart: bool = True) -> None:
        self.killed += no_restart

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": "0" * 56, "Alive": True, "Resources": self.resources}]

    def remote(self, thing: Any) -> Any:
        ray = self

        class Remote:
            def options(self, **_: Any) -> Remote:
                return self

            def remote(self) -> Any:
                if isinstance(thing, type):
                    return FakeActor(ray)
                node, versions = thing()
                return node, {**versions, **({"torch": ray.torch} if ray.torch else {})}

        return Remote()


class FakeActor:
    def __init__(self, ray: FakeRay) -> None:
        self.ray = ray

    def __getattr__(self, method: str) -> Any:
        class Method:
            @staticmethod
            def remote(*_: Any) -> object:
                self.ray.called.append(method)
                return object()

        return Method


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
        ("4", "auto", 2, 4, 1 / 2),
    ],
)
def test_workers_share_gpus(where: str, device: str, gpus: int, count: int, share: float) -> None:
    backend = RayBackend(where, device)
    backend._ray = FakeRay(8, gpus)
    assert backend._count() == count
    assert backend._share == pytest.approx(share)


@pytest.mark.parametrize(
    ("where", "device", "message"),
    [
        ("ray/2", "cuda", "ray: a worker needs a GPU and a CPU, and the cluster at ray has 0"),
        ("2", "cuda", "--unlearndiff-device=cuda needs a GPU: this machine has 0 GPUs and 8 CPUs"),
        ("auto", "cpu", "workers=auto means one worker for each GPU, and models run on --unlearndiff-device=cpu: give"),
        ("auto", "auto", "workers=auto means one worker for each GPU, and there is none here: give a number of"),
    ],
)
def test_missing_gpus_are_named(where: str, device: str, message: str) -> None:
    backend = RayBackend(where, device)
    backend._ray = FakeRay(8)
    with pytest.raises(AttackUnavailable, match=message):
        backend._count()


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    strategies = ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = lambda node, soft: node  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "ray.util", ModuleType("ray.util"))
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    return fake


def test_workers_of_the_campaign_before_are_used_again(ray: FakeRay) -> None:
    backend = RayBackend("2", "cpu")
    assert backend.events(0.001) == []
    assert len(backend.start(JOB, 1)) == 1
    assert len(backend.start(JOB, 2)) == 2
    assert ray.called == ["load"] * 3
    assert len(backend._actors) == 2


def test_only_a_ray_of_its_own_is_ended(ray: FakeRay) -> None:
    owner, guest = RayBackend("1", "cpu"), RayBackend("1", "cpu")
    owner.start(JOB, 1)
    guest.start(JOB, 1)  # Ray runs by now
    guest.close()
    assert (ray.killed, ray.down) == (1, 0)
    owner.close()
    assert (ray.killed, ray.down) == (2, 1)


def test_other_packages_are_refused_before_anything_runs(ray: FakeRay) -> None:
    ray.torch = "0.1"
    with pytest.raises(
        AttackUnavailable, match=r"workers=2: .* has torch 0\.1, not .*Install the same versions everywhere"
    ):
        RayBackend("2", "cpu").start(JOB, 2)
    assert (ray.called, ray.down) == ([], 1)


@pytest.mark.parametrize(
    ("where", "error", "calls", "message"),
    [
        ("ray", ConnectionError("timeout"), 1, "^--unlearndiff-workers=ray: Ray cannot .*timeout$"),
        ("ray://head:1", ConnectionError("timeout"), 1, r"timeout\. A cluster that asks .*RAY_AUTH_TOKEN$"),
        ("ray://head:1", ConnectionAbortedError("See x.err"), 3, r"x\.err\. Where .* GRPC_ENABLE_FORK_SUPPORT=0$"),
    ],
)
def test_cluster_that_lets_nobody_in(where: str, error: Exception, calls: int, message: str) -> None:
    called = []

    def start() -> None:
        called.append(os.environ.get(WAIT))
        raise error

    with pytest.raises(AttackUnavailable, match=message):
        start_ray(where, start, pause=0)
    assert called == ["1"] * calls
    assert WAIT not in os.environ, "a Ray that is started later is not hurried"


def test_cluster_that_ends_a_connection_is_called_again() -> None:
    answers = iter([ConnectionAbortedError("Starting Ray client server failed")] * 2)

    def start() -> None:
        for error in answers:
            raise error

    start_ray("ray://head:1", start, pause=0)
    assert next(answers, None) is None


def test_a_wait_that_a_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT, "9")
    start_ray("ray", lambda: None)
    assert os.environ[WAIT] == "9"
