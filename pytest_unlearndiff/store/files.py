"""Bounded reads and atomic writes of the store's own files: anything else in their place is an error, never a hang."""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any

METADATA_BYTES = 2**20
"""Largest file that describes a campaign; this project writes none that is larger."""

_MAX_DEPTH = 20

_CACHE_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# Finished outcomes of pytest-unlearndiff; deleting this folder costs their GPU time.\n"
)


def is_regular(path: Path) -> bool:
    """Tell a regular file from folders, pipes and devices, which may never end."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def read_regular(path: Path, limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes.

    Raises:
        FileNotFoundError: nothing is there.
        OSError: something else is there, it is larger, or it cannot be read; the message names the path.
    """
    path.stat()
    if not is_regular(path):
        raise OSError(f"{path} is not a regular file: remove it")
    # It may have been replaced since; opening a pipe this way does not wait for its writer.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a regular file: remove it")
        content = file.read(limit + 1) if status.st_size <= limit else None
    if content is None or len(content) > limit:
        raise OSError(f"{path} is larger than {limit:,} bytes, so this project did not write it: remove it")
    return content


def parse_json_object(content: bytes) -> dict[str, Any] | None:
    """Parse a JSON object; None for anything else, and for one nested more than 20 levels deep."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and _is_shallow(value, _MAX_DEPTH) else None


def read_json_object(path: Path, limit: int = METADATA_BYTES) -> dict[str, Any] | None:
    """Read a file's JSON object; None if the file is missing, unreadable or holds none."""
    try:
        return parse_json_object(read_regular(path, limit))
    except OSError:
        return None


def _is_shallow(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return not isinstance(value, list) or (levels > 0 and all(_is_shallow(part, levels - 1) for part in value))


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file so that a reader sees the old content or the new, never a part; the file keeps its mode."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            if is_regular(path):
                os.fchmod(handle, stat.S_IMODE(path.stat().st_mode))
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def mark_as_cache(root: Path) -> None:
    """Tell backup programs (CACHEDIR.TAG) and Git to ignore an existing store folder."""
    if not (tag := root / "CACHEDIR.TAG").exists():
        write_atomically(tag, _CACHE_TAG)
        write_atomically(root / ".gitignore", "*\n")
