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
from pytest_unlearndiff.runs.model_spec import ModelSpec, located

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
def test_any_text_is_a_device_or_refused(text: str) -> None:
    with suppress(ValueError):
        name = device.read_device(text)
        assert name == "auto" or torch.device(name).type in ("cpu", "cuda", "mps")


class Machine:
    """A computer whose torch and driver find what a test says."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        patch.setattr(device, "_may_have_mps", lambda: False)
        self.torch(0)

    def built(self, backend: str, gpus: int | None = None) -> None:
        """Set what torch is built with, and how many GPUs the driver counts."""
        self.patch.setattr(device, "_built_with", lambda: backend)
        self.patch.setattr(device, "_driver_gpus", lambda: gpus)

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
        return located(AUTO).device

    machine.built("")
    assert best() == "cpu"
    # A device that computes nonsense does not work.
    for computes, name in ((CONVOLUTION, "mps"), (failing, "cpu"), (lambda *_: torch.zeros(1), "cpu")):
        machine.mps(computes)
        assert best() == name
    machine.built("cuda", 2)
    machine.torch(2)
    assert best() == "cuda"
    machine.torch(0)
    assert best() == "cpu", "torch has the last word: its CUDA may be newer than the driver"


AUTO = ModelSpec(device="auto", dtype="auto")


def test_precision_follows_the_device(machine: Machine) -> None:
    machine.built("cuda", 1)
    machine.torch(1)
    assert located(AUTO) == ModelSpec(device="cuda", dtype="tf32")
    assert located(ModelSpec(device="auto", dtype="float16")) == ModelSpec(device="cuda", dtype="float16")
    assert AUTO.on("cpu") == located(AUTO.on("cpu")) == ModelSpec(device="cpu", dtype="float32")


@pytest.mark.parametrize(
    ("backend", "gpus", "told"),
    [
        ("", None, {}),
        ("", 1, {"auto": "built without CUDA", "cpu": "built without CUDA"}),
        ("cuda", 1, {"cpu": "--unlearndiff-device=auto"}),
    ],
)
def test_gpu_that_will_not_be_used_is_told(
    backend: str, gpus: int | None, told: dict[str, str], machine: Machine
) -> None:
    machine.built(backend, gpus)
    for name in ("auto", "cpu", "cuda"):
        assert told.get(name, "") in device.unused_gpu(name)
        assert bool(device.unused_gpu(name)) == (name in told)


ONE = "cuda:7 is not here: the CUDA device here is cuda:0: give one that is, or auto"
TWO = "cuda:7 is not here: the CUDA devices here are cuda:0 to cuda:1: give one that is, or auto"


@pytest.mark.parametrize(
    ("name", "built", "gpus", "refusal"),
    [
        ("cuda", "", None, "there is no CUDA device here, and this torch is built without CUDA: give auto"),
        ("cuda", "cuda", 1, ""),
        ("cuda:1", "cuda", 2, ""),
        ("cuda:7", "cuda", 1, ONE),
        ("cuda:7", "cuda", 2, TWO),
        *[("cuda", built, gpus, None) for built, gpus in (("cuda", None), ("hip", 0), ("unknown", 0))],
        ("mps", "cuda", 0, "mps does not work here: give auto"),
        *[(name, "cuda", 0, "") for name in ("cpu", "auto")],
    ],
)
def test_refusal_without_torch(machine: Machine, name: str, built: str, gpus: int | None, refusal: str | None) -> None:
    machine.built(built, gpus)
    found = device.explain_unavailable(name)
    assert found == refusal if not refusal else (found or "").startswith(refusal)


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [("0", 1), ("0, 1", 2), ("1,0", 2), ("", 0), ("-1", 0), ("0,7", None), ("GPU-5", None), ("MIG-1", None)],
)
def test_hidden_gpus_are_not_counted(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, visible: str, gpus: int | None
) -> None:
    machine.built("cuda", 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.gpus_foreseen() == gpus


def test_refusal_with_torch(machine: Machine) -> None:
    assert devices.device_problem("cuda").startswith("there is no CUDA device here")
    machine.torch(1)
    assert devices.device_problem("cuda") == devices.device_problem("cuda:0") == devices.device_problem("cpu") == ""
    assert devices.device_problem("cuda:1").startswith("cuda:1 is not here: the CUDA device here is cuda:0")
    assert devices.device_problem("mps").startswith("mps does not work here (torch finds no Apple GPU)")
    machine.mps(failing)
    devices.mps_fault.cache_clear()
    assert devices.device_problem("mps").startswith("mps does not work here (RuntimeError: MPS backend out of memory)")


VERSION_FILES = {
    "from typing import Optional\ncuda: Optional[str] = '12.6'\nhip: Optional[str] = None\n": "cuda",
    "cuda = None\nhip = '6.2'\n": "hip",
    "cuda: str | None = None\n": "",
    "__version__ = '2.6'\n": "unknown",
    "cuda = (\n": "unknown",
}


@pytest.mark.parametrize("text", VERSION_FILES)
def test_backend_of_torch_is_read_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "version.py").write_text(text)
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(device, "find_spec", lambda name: spec)
    assert device._built_with() == VERSION_FILES[text]


def test_backend_of_this_torch() -> None:
    assert device._built_with() == ("cuda" if torch.version.cuda else "hip" if torch.version.hip else "")
    if (gpus := device.gpus_foreseen()) is not None:
        assert gpus == torch.cuda.device_count()


def test_missing_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert device.foreseen_in_words() == "torch is not installed, so that only the store can answer"
    assert device.explain_unavailable("cuda") == "", "what it cannot do is told when it would have to"


def test_calibrate_refuses_a_device_first(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.built("")
    assert main(["calibrate", "church", "--base", "base", "--device=cuda"]) == 1
    assert "--device=cuda: there is no CUDA device here" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", "church", "--base", "base", "--device=gpu"])
    assert ended.value.code == 2
    assert "'gpu' must be auto, cpu, cuda, cuda:N or mps; did you mean 'cuda'?" in capsys.readouterr().err
