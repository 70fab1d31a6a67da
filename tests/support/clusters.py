"""A real Ray cluster on this machine, in processes of its own, as an administrator would start one."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Ray's workers read this at their start; their engine is then a script, which notes who attacks what. TROUBLE names a
# seed, and what happens to a worker that is handed it: it is killed as by the kernel where memory runs out, each time;
# or the first time only it hangs, or is refused memory. While BEGUN.crowd names a number, no prompt ends before that
# many processes have begun one.
SCRIPTED = """
import sys

if any("default_worker" in word for word in sys.orig_argv):
    import os, signal, time
    from pytest_unlearndiff.runs.local_backend import LocalBackend
    from pytest_unlearndiff.core.outcome import Outcome, Status
    from pytest_unlearndiff.runs.engine_state import EngineState

    def crowded():
        try:
            with open(os.environ["BEGUN"] + ".crowd") as wanted, open(os.environ["BEGUN"]) as log:
                return len({line.split()[0] for line in log}) < int(wanted.read())
        except FileNotFoundError:
            return False

    class Engine:
        batch_size = 2
        state = EngineState()

        def __init__(self, campaign, control):
            self.control = control if campaign.attack.draws_targets else None

        def take_checkpoints(self):
            return {}

        def add(self, prompts, checkpoints):
            self.waiting = getattr(self, "waiting", []) + list(prompts)

        def step(self):
            ended = []
            while self.waiting:
                prompt = self.waiting.pop(0)
                with open(os.environ["BEGUN"], "a") as log:
                    log.write(f"{os.getpid()} {prompt.digest}\\n")
                trouble, _, seed = os.environ.get("TROUBLE", "").partition(" ")
                if trouble and prompt.seed == int(seed):
                    if trouble == "kill":
                        os.kill(os.getpid(), signal.SIGKILL)
                    if not os.path.exists(os.environ["BEGUN"] + ".trouble"):
                        open(os.environ["BEGUN"] + ".trouble", "w").close()
                        time.sleep(3600 if trouble == "hang" else 0)
                        bytearray(2**62)
                time.sleep(0.1)
                while crowded():
                    time.sleep(0.02)
                if self.control is not None:
                    self.control.add([Outcome(prompt.digest, Status.HIT_WITHOUT_ATTACK)])
                status = Status.HIT_WITHOUT_ATTACK if prompt.seed % 5 == 1 else Status.RESISTED
                ended.append(Outcome(prompt.digest, status))
            return ended

    LocalBackend.build = lambda self, request: (Engine(request.campaign, request.control), {"format": "script"})
"""

_STORE_BYTES = "80000000"  # Ray asks for at least 75 MiB

# A client's process is forked by a head of many threads: with gRPC's own handlers of forks it dies of that every other
# time, as the kernel's log says.
_STEADY = {"GRPC_ENABLE_FORK_SUPPORT": "0"}


class Cluster:
    """A head with a client server, and further nodes; ``stop`` ends what was started here, and nothing else.

    Args:
        environment: of every node's processes, and so of workers.
        cpus: of the head.
    """

    def __init__(self, environment: Mapping[str, str], cpus: int) -> None:
        self._environment = {**_STEADY, **environment}
        # Sockets lie in it, and their paths may have 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="ud"))
        self._nodes: list[subprocess.Popen[bytes]] = []
        self.address, client = f"127.0.0.1:{_free_port()}", _free_port()
        self.client = f"ray://127.0.0.1:{client}"
        port = self.address.rpartition(":")[2]
        self._start(
            [
                "--head",
                "--node-ip-address=127.0.0.1",
                f"--port={port}",
                f"--ray-client-server-port={client}",
                f"--temp-dir={self._folder}",
                "--include-dashboard=false",
            ],
            cpus,
        )
        _until(self._nodes[0], lambda: _is_open(int(port)) and _is_open(client))

    def join(self, cpus: int, before: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        """Add a node.

        Args:
            cpus: of the node.
            before: words before the command that starts it, such as ``unshare -m``.
            environment: what its processes have beside the cluster's own.
        """
        self._start([f"--address={self.address}", f"--temp-dir={self._folder}"], cpus, before, environment or {})
        _until(self._nodes[-1], lambda: b"Ray runtime started" in self._log(-1).read_bytes())

    def _log(self, node: int) -> Path:
        return self._folder / f"node{node % len(self._nodes)}.log"

    def _start(
        self, words: list[str], cpus: int, before: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        ray = str(Path(sys.executable).with_name("ray"))
        common = [f"--num-cpus={cpus}", f"--object-store-memory={_STORE_BYTES}", "--disable-usage-stats", "--block"]
        log = (self._folder / f"node{len(self._nodes)}.log").open("wb")
        with log:
            self._nodes.append(
                subprocess.Popen(
                    [*before, ray, "start", *words, *common],
                    env={**self._environment, **(environment or {})},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )

    def stop(self) -> None:
        """End every node, the last first."""
        for node in reversed(self._nodes):
            node.send_signal(signal.SIGTERM)
            try:
                node.wait(timeout=30)
            except subprocess.TimeoutExpired:
                node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _until(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert process.poll() is None, "a node of Ray's ended"
        assert time.monotonic() < deadline, "a node of Ray's does not answer"
        time.sleep(0.1)


def _is_open(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
