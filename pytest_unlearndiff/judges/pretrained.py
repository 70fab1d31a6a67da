"""Parts of judge models, from this machine where they are on it, else from the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download


def pretrained(kind: Any, model: str, **options: Any) -> Any:
    """A part of a model, as one of transformers' classes loads it.

    Where the Hub cannot be reached, its client asks for minutes before it looks at what was downloaded before.

    Args:
        kind: the class.
        model: folder or Hub id.
        **options: of its ``from_pretrained``.

    Raises:
        OSError: it is nowhere, or no such part.
        ValueError: it cannot be made from what is there.
        ImportError: it needs a package that is not installed.
    """
    try:
        return kind.from_pretrained(model, local_files_only=True, **options)
    except OSError:
        if Path(model).exists():
            raise
    hf_hub_download(model, "config.json")  # every model has it, and it fails sooner than all that transformers tries
    return kind.from_pretrained(model, **options)
