"""Which pipelines are on a device, where it has no room for all that are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from .device import to_device
from .families.lookup import components_of
from .pipeline_folders import CHECKER

ROOM = 0.7
"""Share of a device's memory that weights may take; an attack's activations and gradients need the rest."""


def memory_of(device: str) -> int | None:
    """Return the bytes of memory of a GPU; None for other devices, which are never short here."""
    place = torch.device(device)
    return int(torch.cuda.get_device_properties(place).total_memory) if place.type == "cuda" else None


def bring(wanted: Iterable[Any], loaded: Iterable[Any], device: str) -> None:
    """Move pipelines onto a device, and what only others have off it, to the CPU.

    Numbers do not change by it. Components that several pipelines share stay where one of the wanted has them.

    Args:
        wanted: pipelines that are needed now.
        loaded: all pipelines, those among them.
        device: such as ``cuda:0``.
    """
    wanted = list(wanted)
    kept = {id(module) for pipe in wanted for module in _modules(pipe)}
    others = {id(module): module for pipe in loaded for module in _modules(pipe) if id(module) not in kept}
    for module in others.values():
        take_off(module)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    for pipe in wanted:
        to_device(pipe, device)


def take_off(module: Any) -> None:
    """Move a component to the CPU."""
    module.to("cpu")


def _modules(pipe: Any) -> Iterator[Any]:
    for name in (*components_of(pipe), CHECKER):
        if (module := getattr(pipe, name, None)) is not None:
            yield module
