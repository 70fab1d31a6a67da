"""Types of model files, and the base of a bare checkpoint, by headers and shapes, without torch."""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..core.model_info import KnownBase
from ..core.registry import registry
from ..core.untrusted import read_json
from ..store.files import is_regular
from .resolve import hub_folder

_HEADER_LIMIT = 100 * 2**20
Shapes = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class BaseGuess:
    """The likely base of a checkpoint.

    Attributes:
        name: of the models with its shapes, for people; the base's id where only that is known.
        base: Hub id.
        why: the reason, and how sure it is.
    """

    name: str
    base: str
    why: str

    def folder(self) -> Path | None:
        """Return the base on this machine, if it is there."""
        return hub_folder(self.base)

    def __str__(self) -> str:
        """``Stable Diffusion 1.x, base CompVis/stable-diffusion-v1-4 (...)``."""
        return f"{self.name}, base {self.base} ({self.why})"


def guess_base(path: Path) -> BaseGuess | None:
    """Guess a checkpoint's base; None for whole pipelines, and where nothing tells."""
    try:
        if (path / "model_index.json").is_file():
            return None
        files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else []
        return next((guess for file in files if (guess := _of_file(file)) is not None), None)
    except OSError:
        return None


def _of_file(path: Path) -> BaseGuess | None:
    with path.open("rb") as file:
        start = file.read(9)
        if start[8:9] == b"{":
            return _of_safetensors(file, int.from_bytes(start[:8], "little"))
        file.seek(0)
        if start.startswith(b"PK\x03\x04"):
            return _of_zip(file)
        return _of_shapes(_pickled(file, 4)) if start.startswith(b"\x80") else None


def _of_safetensors(file: BinaryIO, size: int) -> BaseGuess | None:
    file.seek(8)
    try:
        header = json.loads(file.read(size)) if size < _HEADER_LIMIT else {}
        hub_id = header.pop("__metadata__", {}).get("base_model_id")
        if isinstance(hub_id, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id):
            return BaseGuess(hub_id, hub_id, "as its metadata says")
        return _of_shapes((key, tuple(value["shape"])) for key, value in header.items())
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None


def _of_zip(file: BinaryIO) -> BaseGuess | None:
    try:
        with zipfile.ZipFile(file) as archive:
            entry = next((e for e in archive.infolist() if e.filename.endswith("data.pkl")), None)
            if entry is None or entry.file_size > _HEADER_LIMIT or entry.compress_type != zipfile.ZIP_STORED:
                return None
            with archive.open(entry) as pickle:
                return _of_shapes(_pickled(pickle, 1))
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # the second for kinds that zipfile does not read
        return None


def _of_shapes(shapes: Shapes) -> BaseGuess | None:
    families, guess = list(registry().families.values()), None
    for key, shape in shapes:
        if own := next((row for row in families if row.bases and row.own_name and re.search(row.own_name, key)), None):
            return _guess(own.bases[0], f"it holds {key}")
        if guess is None:
            rules = ((base, rule) for row in families for base in row.bases for rule in base.shapes)
            guess = next((_guess(base, str(rule)) for base, rule in rules if rule.holds(key, shape)), None)
    return guess


def _guess(base: KnownBase, reason: str) -> BaseGuess:
    return BaseGuess(base.title, base.hub_id, f"{reason}; {base.remark}")


def _pickled(file: Any, pickles: int) -> Shapes:
    """Yield names and shapes of tensors in what ``torch.save`` wrote, by disassembling it.

    A tensor is a call with a storage, an offset, and then a tuple of its sizes.
    """
    name, inside = "", False
    sizes: list[int] = []
    try:
        for _ in range(pickles):
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "BINPERSID":
                    sizes, inside = [], True
                elif isinstance(argument, str) and opcode.name == "BINUNICODE" and "." in argument:
                    name = argument
                elif inside and isinstance(argument, int) and opcode.name.startswith("BININT"):
                    sizes.append(argument)
                elif inside and opcode.name.startswith("TUPLE"):
                    inside = False
                    yield name, tuple(sizes[1:])
    except (ValueError, EOFError):  # torn, or no pickle: what came before counts
        return


INDEX = "model_index.json"
"""File that makes a folder a diffusers pipeline."""

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
