"""The Ray backend, with a fake Ray: resources, start and end."""

from __future__ import annotations

import builtins
import os
import signal
import sys
from types import ModuleType
from typing import Any

import pytest
from builders import concept

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.errors import AttackUnavailable
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.workers.ray_backend import RayBackend
from pytest_unlearndiff.workers.worker import JobSpec

JOB = JobSpec(Campaign(concept(2), AttackConfig(), Fingerprint("v", "t"), "j"), ModelSpec(), 1)
WAIT = "RAY_gcs_server_port_wait_time_s"


def test_missing_ray_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
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

    def remote(self, thing: Any) -> Any:
        ray = self

        class Remote:
            def options(self, **_: Any) -> Remote:
                return self

            def remote(self) -> Any:
                return FakeActor(ray)

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
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


def test_workers_are_used_again(ray: FakeRay) -> None:
    backend = RayBackend("2", "cpu")
    assert backend.events(0.001) == []
    assert len(backend.start(JOB, 1)) == 1
    assert len(backend.start(JOB, 2)) == 2
    assert ray.called == ["load"] * 3
    assert len(backend._actors) == 2


def test_close_ends_only_its_own_ray(ray: FakeRay) -> None:
    owner, guest = RayBackend("1", "cpu"), RayBackend("1", "cpu")
    owner.start(JOB, 1)
    guest.start(JOB, 1)  # Ray runs by now
    guest.close()
    assert (ray.killed, ray.down) == (1, 0)
    owner.close()
    assert (ray.killed, ray.down) == (2, 1)


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("ray", ConnectionError("timeout"), "^--unlearndiff-workers=ray: Ray cannot .*timeout$"),
        ("ray://head:1", ConnectionError("timeout"), r"timeout\. A cluster that asks .*RAY_AUTH_TOKEN$"),
        ("ray://head:1", ConnectionAbortedError("See x.err"), r"x\.err\. Where .* GRPC_ENABLE_FORK_SUPPORT=0$"),
    ],
)
def test_unreachable_cluster(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception, message: str
) -> None:
    waits = []

    def init(**_: object) -> None:
        waits.append(os.environ.get(WAIT))
        raise error

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(AttackUnavailable, match=message):
        RayBackend(where, "cpu").connect()
    assert waits == ["1"]
    assert WAIT not in os.environ, "a Ray that is started later is not hurried"


def test_local_ray_is_not_hurried(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    monkeypatch.setattr(ray, "init", lambda **_: waits.append(os.environ.get(WAIT)))
    RayBackend("1", "cpu").connect()
    assert waits == [None]


def test_chosen_wait_for_a_cluster_stays(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT, "9")
    RayBackend("ray", "cpu").connect()
    assert os.environ[WAIT] == "9"


def test_sigterm_handler_stays(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(ray, "init", lambda **_: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    RayBackend("1", "cpu").connect()
    assert signal.getsignal(signal.SIGTERM) is handler
