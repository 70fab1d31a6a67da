"""Workers that several processes share: what one does to them must not be felt by the others."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_unlearndiff.campaign.roster import GuestTeam, Roster

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
