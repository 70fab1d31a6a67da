"""How many lanes fit is arithmetic on what a GPU says; on a CPU the default stays."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_unlearndiff.models.device import MOST, SPARED, START, MemoryMeter, fitting

GIB = 2**30


@pytest.mark.parametrize(
    ("free", "per_prompt", "batch_size", "wanted"),
    [
        (0, GIB, 8, 8),
        (-GIB, GIB, 8, 8),
        (10 * GIB, GIB, 8, 16),
        (10 * GIB, 3 * GIB, 1, 3),
        (10 * GIB, 0, 8, MOST),
        (1000 * GIB, GIB, 8, MOST),
        (10 * GIB, GIB, 100, 100),
    ],
)
def test_what_fits(free: int, per_prompt: int, batch_size: int, wanted: int) -> None:
    assert fitting(free, per_prompt, batch_size) == wanted


@given(st.integers(-(2**40), 2**40), st.integers(0, 2**36), st.integers(1, 200))
def test_never_fewer_than_there_are_and_never_more_than_there_is_room_for(
    free: int, per_prompt: int, batch_size: int
) -> None:
    found = fitting(free, per_prompt, batch_size)
    assert batch_size <= found <= max(MOST, batch_size)
    assert (found - batch_size) * per_prompt <= max(free, 0) * (1 - SPARED) + per_prompt * 1e-9


def test_on_a_cpu_the_default_stays() -> None:
    assert MemoryMeter(torch.device("cpu")).fitting(8, START) == START


def test_a_gpu_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 4 GiB, at the peak 12 with 8 lanes: a GiB each. 16 reserved, 36 beyond that: 40 free, 32 of them used."""
    said = {"memory_allocated": 4, "max_memory_allocated": 12, "memory_reserved": 16}
    for name, gib in said.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, gib=gib: gib * GIB)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (36 * GIB, 80 * GIB))
    assert MemoryMeter(torch.device("cuda")).fitting(8, 8) == 8 + 32
    # With 2 lanes that took the same, each takes 4 GiB, and the other 6 have not been paid for.
    assert MemoryMeter(torch.device("cuda")).fitting(2, 8) == 2 + 8
    assert MemoryMeter(torch.device("cuda")).fitting(2, 16) == 16
