"""Where the models are that commands are given."""

from __future__ import annotations

from pathlib import Path

from ..campaign.fetching import fetched
from ..core.errors import ModelError
from ..core.maker import is_maker
from ..store.hub import hub_folder, hub_mend

BASE = "the un-erased pipeline: a folder, a URL, or a Hub id that is on this machine"
"""Help on ``--base``."""


def place_of_model(text: str, *, maker: bool = False) -> Path:
    """The path of a model, found before torch is imported, which takes seconds.

    Args:
        text: a path, a URL, which is copied to this machine, or the id of a Hub repository that is on it.
        maker: whether it may also be ``pkg.mod:callable``, which is returned as it is.

    Raises:
        ModelError: there is nothing.
    """
    if "://" in text:
        return fetched(text, print)
    path = Path(text).expanduser()
    if path.exists() or (maker and is_maker(text)):
        return path
    if (found := hub_folder(text)) is not None:
        return found
    mend = hub_mend(text) or "give a pipeline folder, a component folder, a checkpoint file, a URL or a Hub id"
    raise ModelError(f"there is nothing at {path}: {mend}")
