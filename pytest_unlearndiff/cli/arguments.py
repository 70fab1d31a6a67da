"""Types of a command's arguments, for argparse, which tells what cannot be meant."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..core import untrusted


def count(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: it is none, or absurd.
    """
    try:
        return untrusted.whole_number(text, 1, untrusted.MOST_COUNT)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{untrusted.shown(text)} must be {error}") from None


def days(text: str) -> float:
    """A number of days above zero.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        return untrusted.days(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{untrusted.shown(text)} must be {error}") from None


def path_of(text: str) -> Path:
    """A file or folder, which need not be there.

    Raises:
        argparse.ArgumentTypeError: none can be called so, or a pipe or a device is.
    """
    try:
        untrusted.existing(text, Path())
        return untrusted.path_from(text, Path())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{untrusted.shown(text)} {error}") from None
