"""Devices: read and refused before anything is loaded, and told without torch as far as that is possible."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.core import device
from pytest_unlearndiff.models import device as devices
from pytest_unlearndiff.runs.model_cache import ModelSpec, located

CACHED = (device.gpus_foreseen, device._built_with, devices.best_device, devices.mps_fault)


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for function in CACHED:
        function.cache_clear()
    yield
    monkeypatch.undo()
    for function in CACHED:
        function.cache_clear()


@given(st.text(max_size=20))
def test_no_text_is_taken_for_a_device_that_is_none(text: str) -> None:
    with suppress(ValueError):
        name = device.read_device(text)
        assert name == "auto" or torch.device(name).type in ("cpu", "cuda", "mps")


class Machine:
    """What torch and the driver find."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        patch.setattr(device, "_may_have_mps", lambda: False)
        self.torch(0)

    def built(self, with_: str) -> None:
        self.patch.setattr(device, "_built_with", lambda: with_)

    def driver(self, gpus: int | None) -> None:
        self.patch.setattr(device, "_gpus_of_driver", lambda: gpus)

    def torch(self, gpus: int) -> None:
        self.patch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        self.patch.setattr(torch.cuda, "device_count", lambda: gpus)

    def mps(self, computes: Any) -> None:
        self.patch.setattr(device, "_may_have_mps", lambda: True)
        self.patch.setattr(torch.backends, "mps", SimpleNamespace(is_available=lambda: True))
        # Of the probe, only where it runs is not real.
        self.patch.setattr(torch, "ones", lambda *shape, device: torch.full(shape, 1.0))
        self.patch.setattr(torch.nn.functional, "conv2d", computes)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


CONVOLUTION = torch.nn.functional.conv2d


def failing(*_: Any) -> Any:
    raise RuntimeError("MPS backend out of\nmemory")


def test_auto_is_cuda_then_mps_where_it_works_then_the_cpu(machine: Machine) -> None:
    def best() -> str:
        for function in CACHED:
            getattr(function, "cache_clear", lambda: None)()
        return located(ModelSpec(device="auto", dtype="auto")).device

    machine.built("")
    assert best() == "cpu"
    machine.mps(CONVOLUTION)
    assert best() == "mps"
    machine.mps(failing)
    assert best() == "cpu"
    machine.mps(lambda *_: torch.zeros(1))
    assert best() == "cpu", "a device that computes nonsense does not work"
    machine.built("cuda")
    machine.driver(2)
    machine.torch(2)
    assert best() == "cuda"
    machine.torch(0)
    assert best() == "cpu", "torch has the last word: its CUDA may be newer than the driver"


def test_the_arithmetic_follows_the_device(machine: Machine) -> None:
    machine.built("cuda")
    machine.driver(1)
    machine.torch(1)
    source = ModelSpec(device="auto", dtype="auto")
    assert located(source) == ModelSpec(device="cuda", dtype="tf32")
    assert located(ModelSpec(device="auto", dtype="float16")) == ModelSpec(device="cuda", dtype="float16")
    assert source.on("cpu") == ModelSpec(device="cpu", dtype="float32")
    assert located(source.on("cpu")) == source.on("cpu")


@pytest.mark.parametrize(
    ("name", "built", "driver", "said"),
    [
        ("cuda", "", None, "there is no CUDA device here, and this torch is built without CUDA: give auto"),
        ("cuda", "cuda", 1, ""),
        ("cuda:1", "cuda", 2, ""),
        ("cuda:7", "cuda", 1, "cuda:7 is not here: the CUDA device here is cuda:0: give one that is, or auto"),
        (
            "cuda:7",
            "cuda",
            2,
            "cuda:7 is not here: the CUDA devices here are cuda:0 to cuda:1: give one that is, or auto",
        ),
        ("cuda", "cuda", None, None),
        ("cuda", "hip", 0, None),
        ("cuda", "unknown", 0, None),
        ("mps", "cuda", 0, "mps does not work here: give auto"),
        ("cpu", "cuda", 0, ""),
        ("auto", "cuda", 0, ""),
    ],
)
def test_what_is_not_here_is_told_without_torch_where_that_can_be(
    machine: Machine, name: str, built: str, driver: int | None, said: str | None
) -> None:
    machine.built(built)
    machine.driver(driver)
    found = device.refused(name)
    assert found == said if not said else (found or "").startswith(said)


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [("0", 1), ("0, 1", 2), ("1,0", 2), ("", 0), ("-1", 0), ("0,7", None), ("GPU-5", None), ("MIG-1", None)],
)
def test_what_the_environment_hides_is_not_counted(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, visible: str, gpus: int | None
) -> None:
    machine.built("cuda")
    machine.driver(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.gpus_foreseen() == gpus


def test_torch_tells_what_only_it_can(machine: Machine) -> None:
    assert devices.device_problem("cuda").startswith("there is no CUDA device here")
    machine.torch(1)
    assert devices.device_problem("cuda") == devices.device_problem("cuda:0") == devices.device_problem("cpu") == ""
    assert devices.device_problem("cuda:1").startswith("cuda:1 is not here: the CUDA device here is cuda:0")
    assert devices.device_problem("mps").startswith("mps does not work here (torch finds no Apple GPU)")
    machine.mps(failing)
    devices.mps_fault.cache_clear()
    assert devices.device_problem("mps").startswith("mps does not work here (RuntimeError: MPS backend out of memory)")


def test_what_torch_is_built_with_is_read_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def built(text: str) -> str:
        (tmp_path / "version.py").write_text(text)
        spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
        monkeypatch.setattr(device, "find_spec", lambda name: spec)
        device._built_with.cache_clear()
        return device._built_with()

    assert built("from typing import Optional\ncuda: Optional[str] = '12.6'\nhip: Optional[str] = None\n") == "cuda"
    assert built("cuda = None\nhip = '6.2'\n") == "hip"
    assert built("cuda: str | None = None\n") == ""
    assert built("__version__ = '2.6'\n") == "unknown"
    assert built("cuda = (\n") == "unknown"


def test_this_torch_is_read_as_it_says_itself() -> None:
    wanted = "cuda" if torch.version.cuda else "hip" if torch.version.hip else ""
    assert device._built_with() == wanted
    if (gpus := device.gpus_foreseen()) is not None:
        assert gpus == torch.cuda.device_count()


def test_where_torch_is_missing_only_the_store_can_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert device.foreseen_in_words() == "torch is not installed, so that only the store can answer"
    assert device.refused("cuda") == "", "what it cannot do is told when it would have to"


def test_calibrate_refuses_it_before_it_looks_for_a_model(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.built("")
    assert main(["calibrate", "church", "--base", "base", "--device=cuda"]) == 1
    assert "--device=cuda: there is no CUDA device here" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", "church", "--base", "base", "--device=gpu"])
    assert ended.value.code == 2
    assert "'gpu' must be auto, cpu, cuda, cuda:N or mps; did you mean 'cuda'?" in capsys.readouterr().err
