"""Workers that Ray starts: on this machine, or on a cluster that runs already."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from math import ceil
from pathlib import Path
from typing import Any

from ..core.concept import Prompt
from ..core.device import AUTO
from ..core.errors import AttackUnavailable, one_line
from ..runs.begun import Begun
from .connection import connect, single_attempt
from .distributed_engine import WorkerEvent
from .shipping import arrive, pieces
from .worker import JobSpec, Worker

PACKAGES = ("pytest-unlearndiff", "torch", "diffusers", "transformers")
"""What has to be the same wherever prompts of one campaign are attacked."""

QUIET = {"log_to_driver": False, "logging_level": "ERROR"}
"""How Ray is started or joined: what it logs is for people who run clusters."""

_STORE_BYTES = 100 * 2**20
"""For Ray's object store on this machine, which holds the order, and prompts on their way between workers."""


class RayWorker(Worker):
    """A bench that Ray can send files to."""

    def receive(self, parcels: Sequence[tuple[Path, str, Sequence[tuple[str, Any]]]]) -> str:
        """Take files that are not here, once a machine, from Ray's object store.

        Args:
            parcels: of each file or folder its path in orders, its content hash, and names and references of pieces.

        Returns:
            As ``ready``.

        Raises:
            ModelError: what arrived is something else, or cannot be kept.
        """
        import ray

        for path, digest, sent in parcels:
            self.arrived(path, digest, arrive(path.name, digest, ((name, ray.get(piece)) for name, piece in sent)))
        return self.ready()


class RayBackend:
    """One Ray actor a worker; connects, and checks what it finds, when workers are first called.

    Args:
        where: ``auto``, one worker a GPU of this machine; a number of workers on this machine, which share its GPUs;
            ``ray`` or ``ray://HOST:PORT``, one worker a GPU (or CPU, where models run there) of a cluster that runs.
            All but a number may end in ``/N``: N workers share a GPU.
        device: where the models run; ``auto`` for GPUs where Ray finds any, else CPUs.
        namespace: where other processes find the workers by their names; empty where nobody else shall.
    """

    def __init__(self, where: str, device: str, namespace: str = "") -> None:
        self._where, _, per_gpu = where.rpartition("/") if re.search(r"\w/\d+$", where) else (where, "", "1")
        self._device = device
        self._per_gpu = int(per_gpu)
        self._namespace = namespace
        self._sender = ""
        self._ray: Any = None
        self._started = False
        self._share = 1 / self._per_gpu
        self._order: Any = None
        self._actors: dict[str, Any] = {}
        self._places: dict[str, str] = {}
        self._asked: dict[Any, str] = {}
        self._sent: dict[str, list[tuple[str, Any]]] = {}
        self._hired = 0

    @property
    def _gpu(self) -> bool:
        """Whether a worker needs a GPU; what ``auto`` means is Ray's to tell, since this machine may have none."""
        if self._device == AUTO:
            return bool(self._ray.cluster_resources().get("GPU"))
        return self._device.startswith("cuda")

    @property
    def _local(self) -> bool:
        return not self._where.startswith("ray")

    def gather(self, order: JobSpec, most: int) -> int:
        """See ``WorkerBackend``.

        Raises:
            CannotAttack: Ray or a cluster is not there, or has no place, or other packages.
        """
        self.connect()
        self._order = self._ray.put(order)
        self._asked.clear()
        return self._gather(most)

    def _gather(self, most: int) -> int:
        count = min(self._count(), most)
        for worker in list(self._actors)[:count]:
            self._call(worker, "ready")
        for _ in range(count - len(self._actors)):
            self._call(self._hire(), "ready")
        return count

    def hire(self) -> list[str]:
        """Start as many workers as there is place for, beside those there are, for somebody else.

        Returns:
            The names of all of them.

        Raises:
            CannotAttack: as ``gather``.
        """
        self.connect()
        for _ in range(self._count() - len(self._actors)):
            self._hire()
        return list(self._actors)

    @property
    def address(self) -> str:
        """Where another process finds the Ray that this one is connected to."""
        return self._where if self._where.startswith("ray://") else self._ray.get_runtime_context().gcs_address

    def open(self, worker: str) -> None:
        """See ``WorkerBackend``."""
        self._call(worker, "open", self._order, self._sender)

    def send(self, worker: str, files: Mapping[Path, str]) -> None:
        """See ``WorkerBackend``."""
        for path, digest in files.items():
            if digest not in self._sent:
                self._sent[digest] = [(name, self._ray.put(piece)) for name, piece in pieces(path)]
        self._call(worker, "receive", [(path, digest, self._sent[digest]) for path, digest in files.items()])

    def turn(self, worker: str, prompts: Sequence[Prompt | Begun], patience: float, *, brief: bool) -> None:
        """See ``WorkerBackend``."""
        self._call(worker, "turn", list(prompts), self._sender, patience, brief=brief)

    def news(self, seconds: float) -> list[WorkerEvent]:
        """See ``WorkerBackend``."""
        if not self._asked:
            time.sleep(seconds)
            return []
        asked = list(self._asked)
        heard, _ = self._ray.wait(asked, num_returns=1, timeout=seconds)
        if heard:
            heard, _ = self._ray.wait(asked, num_returns=len(asked), timeout=0)
        return [self._heard(ref, self._asked.pop(ref)) for ref in heard]

    def replace(self, worker: str, *, lives: bool) -> None:
        """See ``WorkerBackend``."""
        self._asked = {ref: other for ref, other in self._asked.items() if other != worker}
        self._call(self.successor(worker), "ready")

    def successor(self, worker: str) -> str:
        """End a worker for good and start another one, whose name is returned."""
        self._ray.kill(self._actors.pop(worker))
        return self._hire()

    def place(self, worker: str) -> str:
        """See ``WorkerBackend``."""
        return self._places.get(worker, "a machine that never answered")

    def close(self) -> None:
        """End every worker, and Ray where it was started for them."""
        if self._ray is None:
            return
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        self._asked.clear()
        self._sent.clear()
        if self._started:
            self._ray.shutdown()
        self._ray = None

    def _call(self, worker: str, method: str, *arguments: Any, **named: Any) -> None:
        self._asked[getattr(self._actors[worker], method).remote(*arguments, **named)] = worker

    def _hire(self) -> str:
        self._hired += 1
        worker = f"worker {self._hired}"
        special: dict[str, Any] = {"num_gpus": self._share} if self._gpu else {}
        special |= {"name": worker} if self._namespace else {}
        actor = self._ray.remote(RayWorker).options(num_cpus=1, max_restarts=0, max_task_retries=0, **special)
        self._actors[worker] = actor.remote()
        return worker

    def _heard(self, ref: Any, worker: str) -> WorkerEvent:
        errors = self._ray.exceptions
        try:
            said = self._ray.get(ref)
        except errors.RayTaskError as error:
            cause = error.cause
            return WorkerEvent(
                worker, error=cause if isinstance(cause, Exception) else RuntimeError(str(error)), lives=True
            )
        except errors.RayError as error:
            return WorkerEvent(worker, error=RuntimeError(_why(error)))
        if isinstance(said, str):
            self._places[worker] = said
            return WorkerEvent(worker)
        return WorkerEvent(worker, said)

    def connect(self) -> None:
        """Import Ray, start it or find the cluster, and see whether its machines can do the work; once.

        Raises:
            CannotAttack: as ``gather``.
        """
        if self._ray is not None:
            return
        self._init(self._arguments())
        try:
            self._count()
            self._check_packages()
        except BaseException:
            self.close()
            raise

    def _init(self, arguments: Mapping[str, Any]) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise AttackUnavailable(
                f"--unlearndiff-workers={self._where} needs Ray, and {error.name} is not installed: "
                'pip install "pytest-unlearndiff[ray]"'
            ) from None
        if not ray.is_initialized():
            found = nullcontext() if self._local else single_attempt()
            with found:
                connect(self._where, lambda: ray.init(**arguments))
            self._started = True
        self._ray = ray

    def _arguments(self) -> dict[str, Any]:
        quiet = {**QUIET, "namespace": self._namespace or None}
        if not self._local:
            return {"address": "auto" if self._where == "ray" else self._where, **quiet}
        # Nothing is told to anybody about this machine, and nothing listens but Ray itself.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        count = None if self._where == "auto" else int(self._where)
        return {
            "address": "local",
            "num_cpus": count,
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
            **quiet,
        }

    def _count(self) -> int:
        """How many workers there is place for.

        Raises:
            CannotAttack: none.
        """
        there = self._ray.cluster_resources()
        cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
        found = f"{'this machine' if self._local else f'the cluster at {self._where}'} has {gpus} GPUs and {cpus} CPUs"
        if self._local and self._where != "auto":
            count = int(self._where)
            if self._gpu and not gpus:
                raise AttackUnavailable(f"--unlearndiff-device=cuda needs a GPU: {found}")
            self._share = 1 / max(1, ceil(count / max(1, gpus)))
            return count
        if not self._gpu and self._local:
            why = "there is none here" if self._device == AUTO else f"models run on --unlearndiff-device={self._device}"
            raise AttackUnavailable(
                f"--unlearndiff-workers=auto means one worker a GPU, and {why}: give a number of workers, which run on "
                "the CPU"
            )
        count = min(gpus * self._per_gpu, cpus) if self._gpu else cpus
        if not count:
            needed = "GPU and a CPU" if self._gpu else "CPU"
            raise AttackUnavailable(f"--unlearndiff-workers={self._where}: a worker needs a {needed}, and {found}")
        return count

    def _check_packages(self) -> None:
        """Compare the packages of every machine that may get a worker with those here.

        Raises:
            CannotAttack: they differ, or are missing.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        needed = "GPU" if self._gpu else "CPU"
        nodes = [node["NodeID"] for node in self._ray.nodes() if node["Alive"] and node["Resources"].get(needed)]
        ask = self._ray.remote(asker(PACKAGES))
        there = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
        asked = [ask.options(num_cpus=0, scheduling_strategy=place).remote() for place in there]
        answers = [asker(PACKAGES)(), *self._ray.get(asked)]
        if mistakes := differing(answers):
            raise AttackUnavailable(
                f"--unlearndiff-workers={self._where}: {'; '.join(mistakes[:5])}. Install the same versions everywhere"
            )


def asker(packages: Sequence[str]) -> Callable[[], tuple[str, dict[str, str]]]:
    """A function that says what is installed where it runs, and needs nothing of this project there."""

    def ask() -> tuple[str, dict[str, str]]:
        import platform
        from importlib.metadata import PackageNotFoundError, version

        found = {"Python": platform.python_version().rpartition(".")[0]}
        for package in packages:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                found[package] = ""
        return platform.node(), found

    return ask


def differing(answers: Sequence[tuple[str, dict[str, str]]]) -> list[str]:
    """What is wrong with machines' packages, one text a mistake.

    Args:
        answers: of ``asker``; the first is this process, which may lack what only workers need.
    """
    (_, here), mistakes = answers[0], []
    wanted = {name: version for name, version in here.items() if version}
    for place, found in answers[1:]:
        for name, version in found.items():
            expected = wanted.setdefault(name, version)
            if not version:
                mistakes.append(f"{place} has no {name}")
            elif version != expected:
                mistakes.append(f"{place} has {name} {version}, not {expected}")
    return mistakes


def _why(error: Exception) -> str:
    """What Ray says of a lost worker, without its lists of identifiers."""
    text = one_line(error, 10_000)
    told = re.search(r"(?:The actor is dead because|Worker exit detail:|Memory on the node)(.*)", text)
    return f"its process died: {(told[1] if told else text).strip()[:200]}"
