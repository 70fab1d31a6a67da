"""Workers that the processes of one pytest session share: one process starts them, and tells the others their names."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from threading import Thread
from typing import Any

from ..core.errors import AttackUnavailable, one_line
from .ray_backend import QUIET, RayBackend

MODE = "RAY_AUTH_MODE"
"""Ray sets it in a process that starts Ray, and processes that join have to have it too."""


@dataclass(frozen=True)
class Meeting:
    """Where workers are found.

    Attributes:
        address: of the Ray that they belong to.
        namespace: in which their names are known.
        workers: their names.
        authentication: how Ray asks who comes; empty where its default holds.
    """

    address: str
    namespace: str
    workers: tuple[str, ...]
    authentication: str


class Roster:
    """Starts Ray and its workers when a process of the session first asks for them, and ends them with the session.

    They belong to this process, so that they outlive whoever asked, and never the session.

    Args:
        where: as ``RayBackend``'s.
        device: as ``RayBackend``'s.
    """

    def __init__(self, where: str, device: str) -> None:
        self._namespace = f"pytest-unlearndiff-{secrets.token_hex(8)}"
        self._team = RayBackend(where, device, self._namespace)
        self._successors: dict[str, str] = {}
        self._key = secrets.token_bytes(16)
        self._listener = Listener(authkey=self._key, backlog=64)
        Thread(target=self._serve, name="unlearndiff-roster", daemon=True).start()

    @property
    def door(self) -> tuple[str, str]:
        """What a process has to know to ask: an address on this machine, and a key."""
        return str(self._listener.address), self._key.hex()

    def close(self) -> None:
        """End every worker, and Ray where it was started for them."""
        self._listener.close()
        self._team.close()

    def _serve(self) -> None:
        while True:
            try:
                with self._listener.accept() as asker:
                    asker.send(self._answer(asker.recv()))
            except (AuthenticationError, EOFError, ConnectionError):
                continue
            except OSError:  # the listener is closed
                return

    def _answer(self, lost: str) -> Meeting | str | AttackUnavailable:
        """Where the workers are or, where one is named that is lost, who takes its place."""
        try:
            if lost:
                return self._successor(lost)
            workers = self._team.hire()
            return Meeting(self._team.address, self._namespace, tuple(workers), os.environ.get(MODE, ""))
        except AttackUnavailable as error:
            return error
        except Exception as error:
            return AttackUnavailable(f"Ray's workers cannot be started: {type(error).__name__}: {one_line(error)}")

    def _successor(self, lost: str) -> str:
        """Whoever says first that a worker is lost has it replaced; the others hear by whom, to the last in line."""
        if lost not in self._successors:
            self._successors[lost] = self._team.successor(lost)
        while (new := self._successors[lost]) in self._successors:
            lost = new
        return new


class GuestTeam(RayBackend):
    """Workers of a roster in another process, which also work for others.

    Args:
        where: as ``RayBackend``'s, for errors.
        device: as ``RayBackend``'s.
        door: the roster's.
    """

    def __init__(self, where: str, device: str, door: tuple[str, str]) -> None:
        super().__init__(where, device)
        self._door = door
        self._sender = secrets.token_hex(8)

    def connect(self) -> None:
        """Find the workers, those that others had replaced since the last time too.

        Raises:
            CannotAttack: there are none.
        """
        meeting = self._ask("")
        if self._ray is None:
            if meeting.authentication:
                os.environ.setdefault(MODE, meeting.authentication)  # read when Ray is imported
            self._init({"address": meeting.address, "namespace": meeting.namespace, **QUIET})
        for worker in set(self._actors) - set(meeting.workers):
            del self._actors[worker]
        for worker in meeting.workers:
            if worker not in self._actors:
                self._actors[worker] = self._ray.get_actor(worker, meeting.namespace)

    def _gather(self, most: int) -> int:
        # Everybody begins elsewhere, so that two processes with few prompts do not crowd on the same workers.
        names = list(self._actors)
        first = int(self._sender, 16) % max(1, len(names))
        called = [*names[first:], *names[:first]][:most]
        for worker in called:
            self._call(worker, "ready")
        return len(called)

    def replace(self, worker: str, *, lives: bool) -> None:
        """See ``WorkerBackend``."""
        if lives:
            self._call(worker, "ready")
        else:
            super().replace(worker, lives=lives)

    def successor(self, worker: str) -> str:
        """Have the roster replace a worker, unless it has done so for another process."""
        self._actors.pop(worker, None)
        new = str(self._ask(worker))
        self._actors[new] = self._ray.get_actor(new)
        return new

    def close(self) -> None:
        """Leave; the workers stay."""
        self._actors.clear()
        super().close()

    def _ask(self, lost: str) -> Any:
        with _reached(self._door) as roster:
            roster.send(lost)
            answer = roster.recv()
        if isinstance(answer, AttackUnavailable):
            raise answer
        return answer


@contextmanager
def _reached(door: tuple[str, str]) -> Iterator[Connection[Any, Any]]:
    """A connection to a roster.

    Raises:
        CannotAttack: it is on another machine, or its process has ended.
    """
    address, key = door
    try:
        with Client(address, authkey=bytes.fromhex(key)) as roster:
            yield roster
    except (OSError, EOFError, AuthenticationError) as error:
        raise AttackUnavailable(
            "the process that starts Ray's workers for this session, pytest's own, cannot be reached "
            f"({type(error).__name__}: {one_line(error)}): run pytest's workers on its machine, or leave out -n"
        ) from None
