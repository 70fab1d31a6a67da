"""Headers of models: kinds of files, names and shapes of tensors, a pipeline's class; without torch or numbers.

Collection, the guess of a base, the key and loading read the same header, which is kept until its files change.
"""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from ..core.model_info import FormatInfo
from ..core.registry import registry
from ..core.untrusted import read_json
from ..store.files import is_regular
from ..store.key import stat_signature
from .weight_files import CONFIG, part_folders

INDEX = "model_index.json"
"""File that makes a folder a diffusers pipeline."""

_LIMIT = 100 * 2**20
_KEPT = 64
_PARALLEL = re.compile(r"^((module|_orig_mod)\.)+")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class FileHeader:
    """A checkpoint file without its numbers.

    Attributes:
        kind: ``safetensors`` or ``pickle``.
        shapes: shapes by tensor name; empty if the file is damaged. In a pickle of nested dictionaries, a name is that
            of the innermost one.
        metadata: what the file says about itself.
    """

    kind: str
    shapes: Shapes
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class ModelHeader:
    """A model without its numbers.

    Attributes:
        pipeline: class of a pipeline folder, empty if its index names none; None for anything else.
        files: headers of the checkpoint, or of those in a folder that is no pipeline.
        configured: true for a folder with a configuration of a component or an adapter.
    """

    pipeline: str | None = None
    files: tuple[FileHeader, ...] = ()
    configured: bool = False

    @property
    def needs_base(self) -> bool:
        """True if it certainly is only a part of a pipeline."""
        return self.pipeline is None and (self.configured or any(file.shapes for file in self.files))

    @property
    def is_model(self) -> bool:
        """True if there may be a model."""
        return self.pipeline is not None or bool(self.files) or self.configured


def inspect_model(path: Path) -> ModelHeader:
    """Read the header of a pipeline folder, another folder or a checkpoint file.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_dir():
        header = read_header(path)
        return ModelHeader(files=(header,) if header is not None else ())
    if (path / INDEX).is_file():
        return ModelHeader(_class_name(path / INDEX))
    headers = (read_header(file) for file in sorted(path.iterdir()))
    return ModelHeader(files=tuple(header for header in headers if header is not None), configured=_is_configured(path))


def _is_configured(path: Path) -> bool:
    configs = (CONFIG, *(row.folder_config for row in registry().formats.values() if row.folder_config))
    return any((path / name).is_file() for name in configs) or bool(part_folders(path))


def _class_name(index: Path) -> str:
    try:
        name = read_json(index)["_class_name"]
    except (ValueError, LookupError, TypeError):
        return ""
    return name if isinstance(name, str) else ""


def possible_formats(header: ModelHeader) -> list[FormatInfo]:
    """Return the formats by one of which loading will read a checkpoint: all where its names do not tell."""
    names = {_PARALLEL.sub("", name) for file in header.files for name in file.shapes}
    rows = sorted(registry().formats.values(), key=lambda row: row.name)
    return [row for row in rows if row.matches(names)] or rows


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
    """Message for a file of no known kind, to follow its path."""
    if is_regular(path):
        with path.open("rb") as file:
            if file.read(4) == b"GGUF":
                return "is a GGUF file, whose weights are quantised in a form that is not read: give it as safetensors"
    return "is not a checkpoint file: it begins neither as safetensors nor as what torch.save writes" + (
        "; it is empty" if is_regular(path) and not path.stat().st_size else ""
    )


def token_limit(pipeline: Path) -> int | None:
    """Return the token limit of a pipeline folder's tokenizer, begin and end included; None where it is unknown."""
    try:
        length = read_json(pipeline / "tokenizer" / "tokenizer_config.json")["model_max_length"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return length if isinstance(length, int) and 2 < length < 10_000 else None  # a huge number stands for none


def read_header(path: Path) -> FileHeader | None:
    """Read the header of a checkpoint file; None for anything else. It is read again once the file has changed.

    Raises:
        OSError: it cannot be read.
    """
    return _read(path, stat_signature(path.stat())) if is_regular(path) else None


@lru_cache(maxsize=_KEPT)
def _read(path: Path, signature: tuple[int, ...]) -> FileHeader | None:
    kind = file_kind(path)
    if kind is None:
        return None
    with path.open("rb") as file:
        if kind == "safetensors":
            return _of_safetensors(file)
        zipped = file.read(2) == b"PK"
        file.seek(0)
        shapes: dict[str, tuple[int, ...]] = {}
        for name, shape in _in_zip(file) if zipped else _in_pickles(file, 4):
            shapes.setdefault(name, shape)
    return FileHeader(kind, shapes, {})


def _of_safetensors(file: BinaryIO) -> FileHeader:
    size = int.from_bytes(file.read(8), "little")
    try:
        header = json.loads(file.read(size)) if size < _LIMIT else {}
        metadata = header.pop("__metadata__", {})
        shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
        return FileHeader("safetensors", shapes, metadata if isinstance(metadata, dict) else {})
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return FileHeader("safetensors", {}, {})


def _in_zip(file: BinaryIO) -> Iterator[tuple[str, tuple[int, ...]]]:
    try:
        with zipfile.ZipFile(file) as archive:
            entry = next((e for e in archive.infolist() if e.filename.endswith("data.pkl")), None)
            if entry is None or entry.file_size > _LIMIT or entry.compress_type != zipfile.ZIP_STORED:
                return
            with archive.open(entry) as pickle:
                yield from _in_pickles(pickle, 1)
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # the second for kinds that zipfile does not read
        return


def _in_pickles(file: Any, pickles: int) -> Iterator[tuple[str, tuple[int, ...]]]:
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
