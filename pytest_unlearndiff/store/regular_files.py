"""Bounded reading of the store's own files: whatever stands in their place is one error, never a hang."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

METADATA = 2**20
"""Bytes of a file that describes a campaign at most; more is none that this project wrote."""

_DEEPEST = 20


def is_regular(path: Path) -> bool:
    """Tell a regular file from folders, pipes and devices, which may never end."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def read_regular(path: Path, limit: int) -> bytes:
    """Read a file, unless it is a folder, a pipe, a socket or a device, or has more than ``limit`` bytes.

    Raises:
        FileNotFoundError: nothing is there.
        OSError: something else is there, or it cannot be read; the message names the path.
    """
    path.stat()
    if not is_regular(path):
        raise OSError(f"{path} is not a regular file: remove it")
    # It may have been replaced since; a pipe that is opened so does not wait for its writer.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is not a regular file: remove it")
        content = file.read(limit + 1) if found.st_size <= limit else None
    if content is None or len(content) > limit:
        raise OSError(f"{path} is larger than {limit:,} bytes, so this project did not write it: remove it")
    return content


def json_object(content: bytes) -> dict[str, Any] | None:
    """The JSON object that these bytes are; None where they are none, or one that is nested without end."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and _shallow(found, _DEEPEST) else None


def read_object(path: Path, limit: int = METADATA) -> dict[str, Any] | None:
    """The JSON object in a file; None where the file is not there, cannot be read or holds none."""
    try:
        return json_object(read_regular(path, limit))
    except OSError:
        return None


def _shallow(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return not isinstance(value, list) or (levels > 0 and all(_shallow(part, levels - 1) for part in value))
