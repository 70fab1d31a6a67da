"""Content hashes of weights, judges and folders, without reading a file twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import StoreError

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


class Fingerprints:
    """Content hashes of files and folders.

    A file's hash is remembered by (path, size, modification time, inode), so that a warm session does not read
    gigabytes of weights to learn that nothing changed.

    Args:
        memo: JSON file that remembers between sessions; None to remember nothing on disk.
    """

    def __init__(self, memo: Path | None = None) -> None:
        self._memo = memo
        self._known: dict[str, str] = {}
        if memo is not None:
            try:
                known = json.loads(memo.read_text())
                self._known = {str(k): str(v) for k, v in known.items()}
            except (OSError, ValueError, AttributeError):
                self._known = {}

    def of(self, path: Path) -> str:
        """Hash of a file's bytes, or of a folder's relative names and bytes, in 16 hex digits.

        The path itself, dot-files and documentation do not count.

        Raises:
            StoreError: there is nothing at ``path``, or it cannot be read.
        """
        try:
            if path.is_dir():
                return digest({str(p.relative_to(path)): self._file(p) for p in contents(path)})
            return self._file(path)[:16]
        except OSError as error:
            raise StoreError(f"{path} cannot be fingerprinted: {error}") from None

    def _file(self, path: Path) -> str:
        entry = _stamp(path)
        if entry not in self._known:
            with path.open("rb") as file:
                self._known[entry] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._known[entry]

    def save(self) -> None:
        """Remember the hashes for the next session; a folder that cannot be written is no error."""
        if self._memo is not None:
            try:
                write_atomically(self._memo, json.dumps(self._known, indent=0, sort_keys=True))
            except OSError:
                return


def stamp(*paths: Path | str | None) -> str:
    """What tells files and folders from what lay at these paths at another time, without reading them.

    What is not there is as nothing.
    """
    there = [where for path in paths if path is not None and (where := Path(path)).exists()]
    return "\n".join(_stamp(file) for path in there for file in (contents(path) if path.is_dir() else [path]))


def _stamp(file: Path) -> str:
    stat = file.stat()
    return f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"


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
    """Write a file so that a reader sees the old content or the new, never a part."""
    import os
    import tempfile

    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
