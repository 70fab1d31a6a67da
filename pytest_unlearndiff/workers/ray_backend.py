"""Workers as Ray actors: on this machine, or on a cluster that runs already."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any

from ..core.concept import Prompt
from ..core.device import AUTO
from ..core.errors import AttackUnavailable, one_line, typed_line
from .distributed_engine import WorkerEvent
from .worker import JobSpec, Worker

_STORE_BYTES = 100 * 2**20
"""For Ray's object store on this machine, which holds the job."""

_WAIT = "RAY_gcs_server_port_wait_time_s"


class RayBackend:
    """One Ray actor per worker; Ray is started or found when workers are first called.

    Ray itself restarts an actor whose process died; the engine tries its prompts again.

    Args:
        where: ``auto``, one worker for each GPU of this machine; a number of workers on this machine, which share its
            GPUs; ``ray`` or ``ray://HOST:PORT``, one worker for each GPU (or CPU, where models run there) of a cluster
            that runs. All but a number may end in ``/N``: N workers share a GPU.
        device: where the models run; ``auto`` for GPUs where Ray finds any, else CPUs.
    """

    def __init__(self, where: str, device: str) -> None:
        self._where, _, per_gpu = where.rpartition("/") if re.search(r"\w/\d+$", where) else (where, "", "1")
        self._device = device
        self._per_gpu = int(per_gpu)
        self._share = 1 / self._per_gpu
        self._ray: Any = None
        self._started = False
        self._job: Any = None
        self._actors: dict[str, Any] = {}
        self._calls: dict[Any, str] = {}

    def start(self, job: JobSpec, most: int) -> Sequence[str]:
        """See ``WorkerBackend``.

        Raises:
            AttackUnavailable: Ray or a cluster is missing, or has no resources.
        """
        self.connect()
        self._job = self._ray.put(job)
        self._calls.clear()
        count = min(self._count(), most)
        options: dict[str, Any] = {"num_gpus": self._share} if self._uses_gpu else {}
        actor = self._ray.remote(Worker).options(num_cpus=1, max_restarts=-1, max_task_retries=0, **options)
        for number in range(len(self._actors), count):
            self._actors[f"worker {number}"] = actor.remote()
        for worker in list(self._actors)[:count]:
            self._call(worker, "load", self._job)
        return list(self._actors)[:count]

    def step(self, worker: str, prompts: Sequence[Prompt], checkpoints: Mapping[str, bytes]) -> None:
        """See ``WorkerBackend``."""
        self._call(worker, "step", list(prompts), dict(checkpoints))

    def restart(self, worker: str, *, alive: bool) -> None:
        """See ``WorkerBackend``."""
        self._calls = {call: other for call, other in self._calls.items() if other != worker}
        if alive:
            self._ray.kill(self._actors[worker], no_restart=False)
        self._call(worker, "load", self._job)

    def events(self, seconds: float) -> list[WorkerEvent]:
        """See ``WorkerBackend``."""
        if not self._calls:
            time.sleep(seconds)
            return []
        calls = list(self._calls)
        ended, _ = self._ray.wait(calls, num_returns=1, timeout=seconds)
        if ended:
            ended, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        return [self._event(call, self._calls.pop(call)) for call in ended]

    def close(self) -> None:
        """End every worker, and Ray where it was started for them."""
        if self._ray is None:
            return
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        self._calls.clear()
        if self._started:
            self._ray.shutdown()
        self._ray = None

    def connect(self) -> None:
        """Import Ray, start it or find the cluster, and check its resources; once.

        Raises:
            AttackUnavailable: as ``start``.
        """
        if self._ray is not None:
            return
        try:
            import ray
        except ModuleNotFoundError as error:
            raise AttackUnavailable(
                f"--unlearndiff-workers={self._where} needs Ray, and {error.name} is not installed: "
                'pip install "pytest-unlearndiff[ray]"'
            ) from None
        if not ray.is_initialized():
            self._init(ray)
            self._started = True
        self._ray = ray
        try:
            self._count()
        except BaseException:
            self.close()
            raise

    @property
    def _is_local(self) -> bool:
        return not self._where.startswith("ray")

    @property
    def _uses_gpu(self) -> bool:
        """True if a worker needs a GPU; Ray resolves ``auto``, since this machine may have none."""
        if self._device == AUTO:
            return bool(self._ray.cluster_resources().get("GPU"))
        return self._device.startswith("cuda")

    def _init(self, ray: Any) -> None:
        """Start or find Ray, without its warnings about itself.

        Raises:
            AttackUnavailable: that failed.
        """
        try:
            with _ray_environment(local=self._is_local), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ray.init(**self._arguments(), log_to_driver=False, logging_level="ERROR")
        except Exception as error:
            remedy = ""
            if self._where.startswith("ray://") and isinstance(error, ConnectionAbortedError):
                # Its process for a client is forked by a server of many threads, which some versions of gRPC die of.
                remedy = ". Where that log is empty, start the cluster's head with GRPC_ENABLE_FORK_SUPPORT=0"
            elif self._where.startswith("ray://") and isinstance(error, ConnectionError):
                remedy = (
                    ". A cluster that asks for a token is silent without it: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
                )
            raise AttackUnavailable(
                f"--unlearndiff-workers={self._where}: Ray cannot be started or found: {typed_line(error)}{remedy}"
            ) from None

    def _arguments(self) -> dict[str, Any]:
        if not self._is_local:
            return {"address": "auto" if self._where == "ray" else self._where}
        # Nothing is told to anybody about this machine, and nothing listens but Ray itself.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        cpus = None if self._where == "auto" else int(self._where)
        return {
            "address": "local",
            "num_cpus": cpus,
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
        }

    def _call(self, worker: str, method: str, *arguments: Any) -> None:
        self._calls[getattr(self._actors[worker], method).remote(*arguments)] = worker

    def _event(self, call: Any, worker: str) -> WorkerEvent:
        errors = self._ray.exceptions
        try:
            return WorkerEvent(worker, self._ray.get(call))
        except errors.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else RuntimeError(str(error))
            return WorkerEvent(worker, error=cause, alive=True)
        except errors.RayError as error:
            return WorkerEvent(worker, error=RuntimeError(_describe_death(error)))

    def _count(self) -> int:
        """Count the workers that fit the resources.

        Raises:
            AttackUnavailable: none.
        """
        resources = self._ray.cluster_resources()
        cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        owner = "this machine" if self._is_local else f"the cluster at {self._where}"
        resources_text = f"{owner} has {gpus} GPUs and {cpus} CPUs"
        if self._is_local and self._where != "auto":
            count = int(self._where)
            if self._uses_gpu and not gpus:
                raise AttackUnavailable(f"--unlearndiff-device=cuda needs a GPU: {resources_text}")
            self._share = 1 / max(1, ceil(count / max(1, gpus)))
            return count
        if not self._uses_gpu and self._is_local:
            why = "there is none here" if self._device == AUTO else f"models run on --unlearndiff-device={self._device}"
            raise AttackUnavailable(
                f"--unlearndiff-workers=auto means one worker for each GPU, and {why}: give a number of workers, which "
                "run on the CPU"
            )
        count = min(gpus * self._per_gpu, cpus) if self._uses_gpu else cpus
        if not count:
            needed = "GPU and a CPU" if self._uses_gpu else "CPU"
            raise AttackUnavailable(
                f"--unlearndiff-workers={self._where}: a worker needs a {needed}, and {resources_text}"
            )
        return count


@contextmanager
def _ray_environment(*, local: bool) -> Iterator[None]:
    """Have Ray wait half a minute, not ten, for a cluster that is gone, and keep this process's SIGTERM handler.

    A Ray that is started here waits for its own head as long as ever.
    """
    hurried = not local and _WAIT not in os.environ
    if hurried:
        os.environ[_WAIT] = "1"
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if hurried:
            del os.environ[_WAIT]
        if in_main_thread:
            signal.signal(signal.SIGTERM, handler)


def _describe_death(error: Exception) -> str:
    """Ray's reason for a lost worker, without its lists of identifiers."""
    text = one_line(error, 10_000)
    reason = re.search(r"(?:The actor is dead because|Worker exit detail:|Memory on the node)(.*)", text)
    return f"its process died: {(reason[1] if reason else text).strip()[:200]}"
