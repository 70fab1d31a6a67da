"""What all processes of a user on one machine share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def user_temp_path() -> Path:
    """Where the folder of ``user_temp_folder`` is, or would be."""
    return Path(tempfile.gettempdir()) / f"pytest-unlearndiff-{os.getuid()}"


def user_temp_folder() -> Path:
    """A folder among the temporary files that only this user can write.

    Raises:
        OSError: it cannot be made, or somebody else has made it or may write it.
    """
    folder = user_temp_path()
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid():
        raise OSError(f"somebody else has made {folder}")
    if found.st_mode & 0o077:
        raise OSError(f"{folder} is open to others: remove it")
    return folder
