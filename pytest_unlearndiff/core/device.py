"""The machine: its device, precision and environment, checked and predicted without importing torch.

A session that finds every outcome in the store never needs torch, which takes seconds to import. The type of a model's
weights is in the key; how a device multiplies them, and the environment, are not.
"""

from __future__ import annotations

import ast
import difflib
import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NETWORK_BATCH = 4
"""Samples in one call of a network; ``models.device`` says why outcomes depend on it."""
GPU_BATCH = 8
"""The same on CUDA, where BATCH_SIZE prompts are attacked together, so that none in a full batch is a copy.

It was 4 too before the first release. ``ALGORITHM`` did not rise for it: no released version has computed outcomes
on CUDA in batches of 4; device and batch are facts beside the outcomes, not part of the key.
"""

ERROR_BATCH = 8
"""Denoising errors measured in one call, without gradients: on a CPU as many rows as images with guidance have.

A call costs time whatever its rows are; an attack measures multiples of 8 at a time, so that none is a copy.
"""

BATCH_SIZE = 8
"""Prompts attacked together before a GPU's memory is measured, and always on a CPU."""

AUTO = "auto"
"""Device: CUDA where torch finds it, then MPS where it works, else the CPU. Precision: as ``resolve_precision``."""

_FORMS = "auto, cpu, cuda, cuda:N or mps"
_MEANT = {"gpu": "cuda", "nvidia": "cuda", "metal": "mps", "apple": "mps"}


def read_device(text: str) -> str:
    """Parse a device's name.

    Raises:
        ValueError: says which names there are.
    """
    name = text.strip()
    if name in (AUTO, "cpu", "cuda", "mps") or re.fullmatch(r"cuda:(0|[1-9]\d{0,3})", name):
        return name
    near = difflib.get_close_matches(name.lower(), (AUTO, "cpu", "cuda", "cuda:0", "mps"), n=1)
    meant = _MEANT.get(name.lower()) or next(iter(near), "")
    raise ValueError(f"{_FORMS}{f'; did you mean {meant!r}?' if meant else ''}")


def foreseen() -> str | None:
    """Predict the device that ``auto`` selects; None where only torch can tell."""
    gpus = gpus_foreseen()
    return "cpu" if gpus == 0 and not _may_have_mps() else None


def foreseen_gpu_or_cpu() -> str | None:
    """Predict the device that ``auto`` selects, also where torch has to confirm that the GPU works."""
    return "cuda" if gpus_foreseen() else foreseen()


def foreseen_kind(device: str) -> str | None:
    """Predict the kind of device that a name stands for, ``auto`` among them; None where only torch can tell."""
    return foreseen_gpu_or_cpu() if device == AUTO else device.partition(":")[0]


def foreseen_in_words() -> str:
    """Describe the device that ``auto`` will select, before torch is imported."""
    if not _has_torch():
        return "torch is not installed, so that only the store can answer"
    return foreseen_gpu_or_cpu() or "cuda, mps or cpu, as torch finds when models are loaded"


def network_batch(device: str) -> int:
    """Return the samples in one call of a network on a device, where memory does not run out."""
    return GPU_BATCH if device.partition(":")[0] == "cuda" else NETWORK_BATCH


def unused_gpu(device: str) -> str:
    """Explain that models will run on a CPU although a GPU is here, with the remedy; empty where that is not so."""
    if device not in (AUTO, "cpu"):
        return ""
    if _driver_gpus() and not _built_with():
        return "this machine has a GPU, and this torch is built without CUDA: install torch for it"
    if device == "cpu" and (gpus_foreseen() or _may_have_mps()):
        return "a GPU is here and not used: give --unlearndiff-device=auto"
    return ""


def explain_unavailable(device: str) -> str | None:
    """Explain why models cannot run on a device here; empty where they can, None where only torch can tell."""
    kind, _, index = device.partition(":")
    if kind not in ("cuda", "mps") or not _has_torch():  # what cannot attack at all is told when it has to
        return ""
    if kind == "mps":
        return None if _may_have_mps() else no_mps(device)
    gpus = gpus_foreseen()
    return None if gpus is None else no_cuda(device, gpus) if int(index or 0) >= gpus else ""


def no_cuda(device: str, gpus: int) -> str:
    """Message for a CUDA device that is not here."""
    if gpus:
        devices = "device here is cuda:0" if gpus == 1 else f"devices here are cuda:0 to cuda:{gpus - 1}"
        return f"{device} is not here: the CUDA {devices}: give one that is, or auto, which takes what there is"
    built = "" if _built_with() else ", and this torch is built without CUDA"
    return f"there is no CUDA device here{built}: give auto, which takes what there is, or cpu"


def no_mps(device: str, why: str = "") -> str:
    """Message for Apple's GPUs where they cannot be used."""
    return f"{device} does not work here{f' ({why})' if why else ''}: give auto, which takes what there is, or cpu"


@cache
def gpus_foreseen() -> int | None:
    """Count the CUDA devices that this process sees; None where only torch can tell."""
    if not _built_with():
        return 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None and named.strip() in ("", "-1"):
        return 0
    present = _driver_gpus() if _built_with() == "cuda" and sys.platform == "linux" else None
    if present is None or named is None:
        return present
    numbers = [part.strip() for part in named.split(",")]
    # Names such as GPU-... and MIG-..., and what comes after a number that is not there, are torch's to read.
    return len(numbers) if all(n.isdigit() and int(n) < present for n in numbers) else None


def _driver_gpus() -> int | None:
    """Count the GPUs of NVIDIA's driver; None where it cannot be asked."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return None
    import ctypes

    try:
        driver, count = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_uint()
        if driver.nvmlInit_v2() or driver.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return None
        driver.nvmlShutdown()
    except (OSError, AttributeError):
        return None
    return count.value or None


def _has_torch() -> bool:
    try:
        return find_spec("torch") is not None
    except ValueError:  # something of that name was imported that says nothing of itself
        return True


@cache
def _built_with() -> str:
    """``cuda`` or ``hip``, which torch calls CUDA too; empty for a torch that has neither, or is not there."""
    try:
        spec = find_spec("torch")
        folder = next(iter(spec.submodule_search_locations or ())) if spec is not None else None
        tree = ast.parse((Path(folder) / "version.py").read_text(encoding="utf-8")) if folder else None
    except (OSError, ValueError, SyntaxError, StopIteration):
        return "unknown"
    if tree is None:
        return ""
    values: dict[str, object] = {}
    for line in tree.body:
        if isinstance(line, ast.AnnAssign | ast.Assign) and isinstance(line.value, ast.Constant):
            targets = line.targets if isinstance(line, ast.Assign) else [line.target]
            values |= {target.id: line.value.value for target in targets if isinstance(target, ast.Name)}
    if "cuda" not in values:
        return "unknown"
    return "cuda" if values["cuda"] else "hip" if values.get("hip") else ""


def _may_have_mps() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"


@dataclass(frozen=True)
class Probe:
    """Measurement of a loaded model.

    Attributes:
        device: such as ``cpu`` or ``cuda:0``.
        seconds: of a forward pass on one latent, in a full batch.
        memory: bytes taken at most so far, of the GPU or of this process; 0 where that is not known.
        image_forwards: forward passes that an image costs; 0 where that is not known.
    """

    device: str
    seconds: float
    memory: int
    image_forwards: int = 0


WEIGHTS: Mapping[str, str] = {
    AUTO: "float32",
    "float32": "float32",
    "tf32": "float32",
    "float16": "float16",
    "bfloat16": "bfloat16",
}
"""The floating-point type of the weights, by the arithmetic's name; tf32 multiplies float32 in TensorFloat-32."""
PRECISIONS = tuple(WEIGHTS)


def resolve_precision(precision: str, device: str) -> str:
    """Replace ``auto`` by tf32 on CUDA and float32 elsewhere; on a device that is not known yet it stays ``auto``.

    Half precision is faster and smaller, but coarser gradients may find less, and a default must not look safer than
    the model is: bfloat16 broke one of 30 emoji prompts less on a CPU (``examples/emoji/README.md``).

    It is told by the device's name alone: a session that finds everything in the store loads no torch and may have no
    GPU. All have float32 weights, so it asks for the same key as the one that computed it.

    Args:
        precision: one of PRECISIONS.
        device: such as ``cpu`` or ``cuda:1``.
    """
    if precision != AUTO or device == AUTO:
        return precision
    return "tf32" if device.partition(":")[0] == "cuda" else "float32"


def environment_info(*packages: str) -> dict[str, Any]:
    """Collect Python, machine and the versions of packages, as builtin types."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {name: _version(name) for name in packages},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed as a package"
