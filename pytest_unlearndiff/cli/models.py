"""Where the models are that commands are given: told before torch is imported, which takes seconds."""

from __future__ import annotations

from pathlib import Path

from ..sources.download import resolve_model_path

BASE = "the un-erased pipeline: a folder, a URL, or a Hub id that is on this machine"
"""Help on ``--base``."""


def model_at(text: str, *, maker: bool = False) -> Path:
    """The path of a model.

    Args:
        text: a path, a URL, or the id of a Hub repository that is on this machine.
        maker: whether it may also be ``pkg.mod:callable``.

    Raises:
        ModelError: there is nothing.
    """
    mend = "Give a pipeline folder, a component folder, a checkpoint file, a URL or a downloaded Hub id"
    return resolve_model_path(text, Path(), mend, maker=maker, say=print)
