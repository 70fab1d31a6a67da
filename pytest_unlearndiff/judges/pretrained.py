"""Loading of judges' models with transformers, from this machine where they are on it, else from the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError

from ..core.errors import JudgeError


def load_pretrained(kind: Any, model: str, **options: Any) -> Any:
    """Load a part of a model.

    Where the Hub cannot be reached, its client asks for minutes before it looks at what was downloaded before; hence
    this machine first.

    Args:
        kind: a class of transformers.
        model: folder or Hub id.
        **options: of its ``from_pretrained``.

    Raises:
        OSError: it is nowhere, or no such part.
        ValueError: it cannot be made from the files.
        ImportError: it needs a package that is not installed.
    """
    try:
        return kind.from_pretrained(model, local_files_only=True, **options)
    except OSError:
        if Path(model).exists():
            raise
    try:  # every model has a configuration, and asking for it fails sooner than what transformers tries
        hf_hub_download(model, "config.json")
    except LocalEntryNotFoundError:
        absent = "it is not on this machine, and the Hub cannot be reached from here"
        raise OSError(f"{absent}: hf download {model}") from None
    return kind.from_pretrained(model, **options)


def check_complete(title: str, loaded: Mapping[str, Any]) -> None:
    """Refuse a model some of whose weights transformers made up.

    Args:
        title: of the model, for the message.
        loaded: ``output_loading_info`` of its ``from_pretrained``.

    Raises:
        JudgeError: tensors are missing.
    """
    if missing := sorted(loaded["missing_keys"]):
        raise JudgeError(f"{title}: {len(missing)} tensors are not in its files, such as {missing[0]}")
