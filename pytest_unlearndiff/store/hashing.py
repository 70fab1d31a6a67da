"""Content hashes of weights, judges and folders, without reading a file twice."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import StoreError
from .regular_files import is_regular, read_object

# Files that describe a folder to people and cannot change what it computes.
_IGNORED = {"README.md", "LICENSE", "LICENSES.md", ".gitattributes"}

_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# Finished outcomes of pytest-unlearndiff; deleting this folder costs their GPU time.\n"
)


def digest(value: Any) -> str:
    """Hash of a JSON value, in 16 hex digits."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Error texts may quote file names that are not UTF-8, which Python spells with lone surrogates.
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]


MARGIN = 2 * 10**9
"""Nanoseconds that a file has to be older than its hash, as file systems may round times to two seconds (FAT)."""

_MEMO = 16 * 2**20
_MOST = 10_000
_SECOND = 10**9


@dataclass(frozen=True)
class _Hashed:
    """A file as it was when it was hashed.

    Attributes:
        state: device, inode, size, and the times of the last change of content and of inode, in nanoseconds.
        sha256: of its content.
        at: when reading it began, in nanoseconds since the epoch.
    """

    state: tuple[int, ...]
    sha256: str
    at: int

    def answers(self, file: os.stat_result) -> bool:
        """Whether the file that is there now is surely this one; else it has to be hashed again.

        Times alone cannot tell a file from another one that replaces it within what the file system rounds them to,
        which is Git's rule for racy entries; nor can a time of change in whole seconds, which images that are mounted
        and old file systems keep whatever happens.
        """
        changed = max(file.st_mtime_ns, file.st_ctime_ns)
        settled = changed + MARGIN <= self.at <= time.time_ns()
        return self.state == _state(file) and settled and file.st_ctime_ns % _SECOND != 0

    def to_dict(self) -> dict[str, Any]:
        """Builtin types only."""
        return {"state": list(self.state), "sha256": self.sha256, "at": self.at}

    @classmethod
    def from_dict(cls, data: object) -> _Hashed | None:
        """Read what ``to_dict`` wrote; None for anything else."""
        if not isinstance(data, dict) or set(data) != {"state", "sha256", "at"}:
            return None
        state, sha256, at = data["state"], data["sha256"], data["at"]
        numbers = isinstance(state, list) and len(state) == 5 and all(type(each) is int for each in [*state, at])
        if not numbers or not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
            return None
        return cls(tuple(state), sha256, at)


def _state(file: os.stat_result) -> tuple[int, ...]:
    return file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns


class Fingerprints:
    """Content hashes of files and folders.

    A file's hash is remembered with its device, inode, size and times, so that a warm session does not read gigabytes
    of weights to learn that nothing changed.

    Attributes:
        unsaved: whether a hash is new that a later session could rely on.

    Args:
        memo: JSON file that remembers between sessions; None to remember nothing on disk.
    """

    def __init__(self, memo: Path | None = None) -> None:
        self._memo = memo
        self._known: dict[str, _Hashed] = {}
        self.unsaved = False
        files = (read_object(memo, _MEMO) or {}).get("files") if memo is not None else None
        if isinstance(files, dict):
            read = ((path, _Hashed.from_dict(data)) for path, data in files.items())
            self._known = {path: hashed for path, hashed in read if hashed is not None}

    def of(self, path: Path) -> str:
        """Hash of a file's bytes, or of a folder's relative names and bytes, in 16 hex digits.

        The path itself, dot-files and documentation do not count.

        Raises:
            StoreError: there is nothing at ``path``, or it cannot be read, or changes as it is read.
        """
        try:
            if path.is_dir():
                return digest({str(p.relative_to(path)): self._file(p) for p in contents(path)})
            return self._file(path)[:16]
        except OSError as error:
            raise StoreError(f"{path} cannot be fingerprinted: {error}") from None

    def of_all(self, *paths: Path | str | None) -> str:
        """One text for the content of several paths; what is not there is as nothing."""
        there = [path for each in paths if each is not None and (path := Path(each)).exists()]
        return "\n".join(f"{path}:{self.of(path)}" for path in there)

    def _file(self, path: Path) -> str:
        name, found = str(path.resolve()), path.stat()
        if not is_regular(path):
            raise OSError(f"{path} is not a regular file")
        known = self._known.get(name)
        if known is None or not known.answers(found):
            known = self._known[name] = _hashed(path)
            self.unsaved |= known.answers(found)
        return known.sha256

    def save(self) -> None:
        """Remember the hashes for the next session; a folder that cannot be written is no error."""
        if self._memo is not None:
            last = sorted(self._known.items(), key=lambda each: each[1].at)[-_MOST:]
            files = {path: hashed.to_dict() for path, hashed in sorted(last)}
            with suppress(OSError):
                write_atomically(self._memo, json.dumps({"files": files}, indent=0))
                self.unsaved = False


def _hashed(path: Path) -> _Hashed:
    """Read a file.

    Raises:
        OSError: it cannot be read, or somebody writes it at the same time.
    """
    for _ in range(3):
        at = time.time_ns()
        with path.open("rb") as file:
            before = _state(os.fstat(file.fileno()))
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if before == _state(os.fstat(file.fileno())) == _state(path.stat()):
                return _Hashed(before, sha256, at)
    raise OSError("it changes as it is read: try again when nobody writes it")


def contents(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """The files of a folder that can change what it computes; links count as what they lead to.

    Args:
        folder: where to look, at any depth.
        above: the real folders around it; a link that leads back to one of them is not followed.
    """
    around = above | {folder.resolve()}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if path.resolve() not in around:
                yield from contents(path, around)
        elif path.is_file() and path.name not in _IGNORED:
            yield path


def mark_as_cache(root: Path) -> None:
    """Have backups and Git leave a store's folder, which exists, alone."""
    if not (tag := root / "CACHEDIR.TAG").exists():
        write_atomically(tag, _TAG)
        write_atomically(root / ".gitignore", "*\n")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part; it keeps the old one's mode."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            if is_regular(path):
                os.fchmod(handle, stat.S_IMODE(path.stat().st_mode))
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
