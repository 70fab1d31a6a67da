"""Read what ``torch.save`` wrote without executing any of it."""

from __future__ import annotations

import pickle
import pickletools
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ..core.errors import ModelError
from ..core.untrusted import printable, short_repr

_PICKLE_LIMIT = 64 * 2**20
"""Bytes of the pickle that names a checkpoint's tensors; that of Stable Diffusion 1.x has 200 kB."""

_CHUNK = 2**20

_PLAIN = ("torch.", "torch.storage.", "torch._utils.", "collections.OrderedDict")


class Stub:
    """Stands for what a pickle names that is no tensor: takes anything, does nothing, keeps the state it is given."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.kept: Any = None

    def __new__(cls, *_: Any, **__: Any) -> Stub:
        """Take the arguments a pickle has for the real thing."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Keep what would have become the object's attributes."""
        self.kept = state


def read_pickle(path: Path, *, trust: bool) -> tuple[Any, list[str]]:
    """Read what ``torch.save`` wrote, always with ``weights_only=True``.

    Args:
        path: a zip file or an older pickle.
        trust: whether to go on where the file names classes or functions that are no tensors. They are still not
            imported: each is replaced by a ``Stub``.

    Returns:
        The object, and the names that were replaced.

    Raises:
        ModelError: it is torn or damaged (see ``check_archive``), it unpacks to more than it holds, or it names code
            and ``trust`` is false.
    """
    if zipfile.is_zipfile(path):
        check_archive(path)
    try:
        return _load(path), []
    except Exception as error:
        reason = first_line(error)
    named = _foreign_globals(path)
    if not named:
        raise ModelError(f"cannot be read as tensors: {reason}. It may be truncated: fetch or save it again")
    listed = ", ".join(map(printable, named[:6])) + (f" and {len(named) - 6} more" if len(named) > 6 else "")
    if not trust:
        raise ModelError(
            f"names what is no tensor: {listed}. Nothing of it was executed. Save it again as safetensors, or, if you "
            "know where it comes from, read the tensors beside it with --unlearndiff-trust-pickle (still without "
            "executing anything)"
        )
    try:
        with torch.serialization.safe_globals([(_stub(name), name) for name in named]):
            return _load(path), named
    except Exception as error:
        raise ModelError(
            f"names {listed}, and cannot be read without them: {first_line(error)}. Save it again as safetensors"
        ) from None


def _load(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on protocols and storages; what matters is an error
        return torch.load(path, map_location="cpu", weights_only=True)


def _stub(name: str) -> Any:
    """Return a type of its own, since torch keeps one name per type; a dict for kinds of dict, which torch fills."""
    return OrderedDict if name.lower().endswith("dict") else type("Stub", (Stub,), {})


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return printable(str(error).splitlines()[0]) if str(error) else type(error).__name__


def unpickled_module(stub: Stub) -> Mapping[str, Any] | None:
    """Return the state dict of a pickled ``torch.nn.Module`` that was read as stubs; None for anything else."""
    state = stub.kept
    if not isinstance(state, dict) or not isinstance(state.get("_modules"), dict):
        return None
    return dict(_module_tensors(stub, "", 0))


def _module_tensors(stub: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    state = stub.kept if isinstance(stub, Stub) else None
    if not isinstance(state, dict) or depth > 64:
        return
    for part in ("_parameters", "_buffers"):
        for name, value in dict(state.get(part) or {}).items():
            if isinstance(value, torch.Tensor):
                yield f"{prefix}{name}", value.detach()
    for name, child in dict(state.get("_modules") or {}).items():
        yield from _module_tensors(child, f"{prefix}{name}.", depth + 1)


def check_archive(path: Path) -> None:
    """Refuse a zip file of ``torch.save`` that is damaged, or that unpacks to more than it holds.

    ``torch.load`` compares no checksum, so that a flipped bit in a weight is loaded as another weight. Every entry is
    read once more here, in pieces, and held against its CRC-32 in the archive's directory. Where all of them are zero
    (``torch.serialization.set_crc32_options(False)``, measured with torch 2.13) the archive is read as it is; one zero
    among others is compared like any number. Older pickles and safetensors have no checksum.

    Raises:
        ModelError: says which entry.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_sizes(entries, path.stat().st_size)
            for entry in entries if any(entry.CRC for entry in entries) else ():
                _check_entry(archive, entry)
    except ModelError:
        raise
    # zipfile raises NotImplementedError for archives of a kind that it does not read, RuntimeError for encrypted ones.
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"is a damaged zip file: {first_line(error)}. Fetch or save it again") from None


def _check_sizes(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse archives that unpack to more than they hold: torch itself stores without compression."""
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ModelError(f"its entry {short_repr(entry.filename)} is compressed, which torch.save never does")
        if entry.filename.endswith("data.pkl") and entry.file_size > _PICKLE_LIMIT:
            raise ModelError(f"its pickle has {entry.file_size} bytes, far more than names of tensors take")
    if sum(entry.file_size for entry in entries) > size:
        raise ModelError("its entries claim more bytes than the file has")


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Read an entry, whose checksum zipfile compares at its end."""
    try:
        with archive.open(entry) as content:
            while content.read(_CHUNK):
                pass
    except zipfile.BadZipFile as error:
        raise ModelError(
            f"is damaged: its entry {short_repr(entry.filename)} is not what was saved ({first_line(error)}). Fetch or "
            "save it again"
        ) from None


def _foreign_globals(path: Path) -> list[str]:
    """List classes and functions that a pickle would import, without those that tensors are made of."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # an older file, or opcodes torch does not list
        return sorted(name for name in _all_globals(path) if not name.startswith(_PLAIN))


def _all_globals(path: Path) -> set[str]:
    """Return every global that the pickles of a file name, by disassembling them."""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                return set(_globals(file, 4))  # magic number, protocol, system, then the object
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("data.pkl")]
            return {text for name in names for text in _globals(archive.open(name), 1)}
    except Exception:
        return set()


def _globals(file: Any, pickles: int) -> Iterator[str]:
    """Yield globals in so many pickles of a stream, up to where it is torn."""
    texts: list[str] = []
    with suppress(ValueError, pickle.UnpicklingError, EOFError):
        for _ in range(pickles):
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "GLOBAL":
                    yield str(argument).replace(" ", ".")
                elif opcode.name == "STACK_GLOBAL":
                    yield ".".join(texts[-2:])
                elif isinstance(argument, str):
                    texts.append(argument)
