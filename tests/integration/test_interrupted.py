"""Ctrl-C in a campaign: the section says where it stopped and what is kept, in words that are true of the store."""

from __future__ import annotations

import pytest
from worlds import World, section

INTERRUPT = """
import pytest
from pytest_unlearndiff.campaign.campaign import Campaign
from pytest_unlearndiff.campaign.progress import Snapshot
from pytest_unlearndiff.core.outcome import Tally

@pytest.fixture(autouse=True)
def ctrl_c(monkeypatch):
    def run(self, store, provide, parts, *, progress, **options):
        progress(Snapshot("church", "unlearndiff/fast", Tally(10, broken=1, resisted=3), 2, 0, 1.0))
        raise KeyboardInterrupt
    monkeypatch.setattr(Campaign, "run", run)
"""


@pytest.fixture
def interrupted(world: World) -> World:
    """A gate whose campaign is interrupted after four of ten prompts."""
    world.concept()
    world.gate("max_asr='10%'")
    world.file("conftest.py", INTERRUPT)
    return world


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        ("rw", "4 of 10 prompts are kept, the same command goes on"),
        ("refresh", "4 of 10 prompts are kept, go on without --unlearndiff-cache=refresh"),
        ("off", "nothing new is kept"),
        ("ro", "nothing new is kept"),
    ],
)
def test_what_is_kept(interrupted: World, mode: str, kept: str) -> None:
    result = interrupted.run(f"--unlearndiff-cache={mode}")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert section(result)[0] == f"interrupted in test_gate.py::test_gate: {kept}"
