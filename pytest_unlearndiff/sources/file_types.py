"""Types of a model's files, by their first bytes and their configuration, without torch."""

from __future__ import annotations

from pathlib import Path

from ..core.untrusted import read_json
from ..store.files import is_regular

INDEX = "model_index.json"
"""What makes a folder a diffusers pipeline."""

_DESCRIBED = (
    INDEX, "config.json", "adapter_config.json", "eraser_config.json", "unet/config.json", "text_encoder/config.json",
    "text_encoder_2/config.json",
)  # fmt: skip


def holds_model(folder: Path) -> bool:
    """Tell whether a folder may be a model: it has a configuration, or there is a checkpoint in it.

    Raises:
        OSError: it cannot be read.
    """
    if any((folder / name).is_file() for name in _DESCRIBED):
        return True
    return any(file_kind(file) is not None for file in folder.iterdir())


def file_kind(path: Path) -> str | None:
    """``safetensors`` or ``pickle``, as a regular file begins; None for anything else.

    Raises:
        OSError: it cannot be read.
    """
    if not is_regular(path):
        return None
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:9] == b"{":
        return "safetensors"
    return "pickle" if start.startswith((b"PK\x03\x04", b"\x80")) else None


def no_checkpoint(path: Path) -> str:
    """Message for a file of no known type, to follow its path."""
    return "is not a checkpoint file: it begins neither as safetensors nor as what torch.save writes" + (
        "; it is empty" if is_regular(path) and not path.stat().st_size else ""
    )


def text_positions(pipeline: Path) -> int | None:
    """Return the token limit of a pipeline folder's tokenizer, begin and end included; None where it is unknown."""
    try:
        length = read_json(pipeline / "tokenizer" / "tokenizer_config.json")["model_max_length"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return length if isinstance(length, int) and 2 < length < 10_000 else None  # a huge number stands for none
