"""Workers that several processes share: what one does to them must not be felt by the others."""

from __future__ import annotations

from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from typing import Any

import pytest

from pytest_unlearndiff.core.errors import AttackUnavailable
from pytest_unlearndiff.workers.roster import GuestTeam, Meeting, Roster

NAMES = [f"worker {n}" for n in range(1, 9)]


class Guest(GuestTeam):
    """A guest whose calls are noted."""

    def __init__(self, sender: str = "0") -> None:
        super().__init__("8", "cpu", ("nowhere", "00"))
        self._sender = sender
        self._actors = dict.fromkeys(NAMES)
        self.called: list[tuple[str, str]] = []
        self.lost: list[str] = []

    def _call(self, worker: str, method: str, *arguments: Any) -> None:
        self.called.append((worker, method))

    def successor(self, worker: str) -> str:
        self.lost.append(worker)
        return "worker 9"


@pytest.fixture
def roster() -> Any:
    found = Roster("8", "cpu")
    yield found
    found.close()


def test_a_successor_that_is_lost_too_is_not_named(roster: Roster, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["w5", "w9"])
    monkeypatch.setattr(roster._team, "successor", lambda lost: next(names))
    assert [roster._successor(lost) for lost in ("w1", "w5", "w1")] == ["w5", "w9", "w9"]


def test_a_worker_that_lives_is_called_again_and_not_ended() -> None:
    """It works for others too, whose prompts a failure of this process's must not cost."""
    guest = Guest()
    guest.replace("worker 3", lives=True)
    assert (guest.called, guest.lost) == ([("worker 3", "ready")], [])
    guest.replace("worker 4", lives=False)
    assert (guest.called[1:], guest.lost) == ([("worker 9", "ready")], ["worker 4"])


def test_processes_with_few_prompts_do_not_crowd_on_the_same_workers() -> None:
    found = []
    for sender in ("0", "6", "f"):
        guest = Guest(sender)
        assert guest._gather(2) == 2
        found.append([worker for worker, _ in guest.called])
    assert found == [NAMES[:2], NAMES[6:], [NAMES[7], NAMES[0]]]


def test_who_does_not_know_the_key_gets_nothing_and_others_do(roster: Roster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "_answer", lambda lost: f"instead of {lost}")
    address, key = roster.door
    with pytest.raises(AuthenticationError):
        Client(address, authkey=b"guessed")
    with Client(address, authkey=bytes.fromhex(key)) as known:
        known.send("w1")
        assert known.recv() == "instead of w1"


def test_once_it_is_closed_nobody_is_served(roster: Roster) -> None:
    door = roster.door
    roster.close()
    roster._serve()  # returns
    with pytest.raises(AttackUnavailable, match="pytest's own, cannot be reached"):
        GuestTeam("8", "cpu", door).connect()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AttackUnavailable("the cluster has 0 GPUs"), "^the cluster has 0 GPUs$"),
        (RuntimeError("no such\nfolder"), "^Ray's workers cannot be started: RuntimeError: no such folder$"),
    ],
)
def test_why_there_are_no_workers_travels(
    roster: Roster, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def hire() -> list[str]:
        raise error

    monkeypatch.setattr(roster._team, "hire", hire)
    with pytest.raises(AttackUnavailable, match=said):
        GuestTeam("8", "cpu", roster.door).connect()


class Actors:
    """Ray, as far as it finds actors by name."""

    def get_actor(self, name: str, namespace: str = "") -> str:
        return f"actor of {name} in {namespace}"


def test_a_guest_forgets_workers_that_others_had_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    guest, joined = GuestTeam("2", "cpu", ("nowhere", "00")), list[Any]()
    meetings = iter([["w1", "w2"], ["w2", "w3"]])
    monkeypatch.setattr(guest, "_ask", lambda lost: Meeting("here", "ours", tuple(next(meetings)), ""))

    def init(arguments: Any) -> None:
        joined.append(arguments)
        guest._ray = Actors()

    monkeypatch.setattr(guest, "_init", init)
    guest.connect()
    first = guest._actors["w2"]
    guest.connect()
    assert list(guest._actors) == ["w2", "w3"]
    assert guest._actors["w2"] is first
    assert [(found["address"], found["namespace"]) for found in joined] == [("here", "ours")], "it joins once"
