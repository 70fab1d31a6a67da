"""Where commands run models."""

from __future__ import annotations

import argparse

from ..core import device
from ..core.errors import ModelError


def add_device(parser: argparse.ArgumentParser) -> None:
    """The device of a command that runs models."""
    known = "cpu, cuda, cuda:N, mps, or auto: CUDA, else MPS where it works, else the CPU"
    parser.add_argument(
        "--device", type=_read, default=device.AUTO, help=f"where the models run: {known} (default: %(default)s)"
    )


def check_device(name: str) -> None:
    """Refuse a device that is not here, before anything is loaded.

    Raises:
        ModelError: names it and the remedy.
    """
    if (why := device.refused(name)) is None:
        from ..models import devices

        why = devices.refused(name)
    if why:
        raise ModelError(f"--device={name}: {why}")


def _read(text: str) -> str:
    try:
        return device.read_device(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} must be {error}") from None
