"""Keys of campaigns: hashes of files, and of everything else that can change an outcome."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.errors import StoreError
from .files import is_regular, read_json_object, write_atomically

_MAX_VALUE_LENGTH = 60
_SCHEDULE = "params.schedule."
_CODE = re.compile(r" with (family|format) [\w-]+ of version ('[^']*'|\"[^\"]*\")")

_LABELS = {
    _SCHEDULE: "the schedule",
    "victim": "the victim's weights",
    "target": "the base's weights",
    "judge.weights": "the judge's weights",
    "params.known": "the known adversarial prompts",
    "params.images_per_prompt": "the number of images per prompt",
}


@dataclass(frozen=True)
class AttackKey:
    """Everything that decides the outcome of a prompt, beside the prompt itself.

    The prompt set is not part of it: an outcome belongs to one prompt, so twenty prompts of a set and fifty of it
    share their common part. Limits, paths, devices and package versions are not part of it either.

    Attributes:
        algorithm: version of the attack's mathematics; raised when a change may change outcomes.
        attack: the attack's name.
        params: its settings, slots and schedule among them.
        victim: fingerprint of the victim's weights.
        target: fingerprint of what target images are made from; empty if the attack needs none.
        judge: kind, options and fingerprint of the judge.
        sampling: settings that evaluation images are generated with.
        seed: run seed of the attack's own generators.
    """

    algorithm: int
    attack: str
    params: Mapping[str, Any]
    victim: str
    target: str
    judge: Mapping[str, Any]
    sampling: Mapping[str, Any]
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Convert to builtin types."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """Hash of the key in 16 hex digits."""
        return digest(self.to_dict())


def key_differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Name the parts in which two keys differ, such as ``the victim's weights`` or ``params.slots (5 here, 3 there)``.

    Args:
        here: a key's ``to_dict``.
        there: another's, perhaps read from a file that somebody changed.
    """
    left, right = dict(_flatten(here)), dict(_flatten(there))
    names = [name for name in dict.fromkeys([*left, *right]) if left.get(name) != right.get(name)]
    if "attack" in names:  # with which its settings differ anyhow, and the base too unless both keys have one
        both_have_base = bool(left.get("target") and right.get("target"))
        names = [name for name in names if not name.startswith("params.") and (name != "target" or both_have_base)]
    schedule = [name for name in names if name.startswith(_SCHEDULE)]
    if len(schedule) > 1:
        names = [name for name in names if name not in schedule[1:]]
        names[names.index(schedule[0])] = _SCHEDULE
    return [_describe_difference(name, left.get(name), right.get(name)) for name in names]


def _flatten(key: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in key.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _describe_difference(name: str, here: object, there: object) -> str:
    """Describe a difference for people, to whom fingerprints say nothing."""
    if name in ("victim", "target") and _CODE.sub("", str(here)) == _CODE.sub("", str(there)):
        return "the version of a model family or checkpoint format"
    if name == "victim" and _weights(here) == _weights(there):
        return "the victim's version, or what acts on its images beside its weights"
    return _LABELS.get(name) or f"{name} ({_shorten(here)} here, {_shorten(there)} there)"


def _weights(victim: object) -> str:
    """Weights' part of a victim's fingerprint, which comes first."""
    return re.split(" and | in version | with ", str(victim), maxsplit=1)[0]


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[: _MAX_VALUE_LENGTH - 3]}..."


# Files that describe a folder to people and cannot change what it computes.
_IGNORED = {"README.md", "LICENSE", "LICENSES.md", ".gitattributes"}

SETTLE_NS = 2 * 10**9
"""Nanoseconds a file must be older than its hash, because file systems round times to as much as two seconds (FAT)."""

_MEMO_BYTES = 16 * 2**20
_MEMO_ENTRIES = 10_000
_NS_PER_SECOND = 10**9


def digest(value: Any) -> str:
    """Hash a JSON value to 16 hex digits."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Error texts may quote file names that are not UTF-8, which Python spells with lone surrogates.
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True)
class FileHash:
    """A file's hash, and the file's state when it was hashed.

    Attributes:
        signature: device, inode, size, and the last changes of content and of inode in nanoseconds.
        sha256: hash of the content, in hex digits.
        hashed_at: start of the read, in nanoseconds since the epoch.
    """

    signature: tuple[int, ...]
    sha256: str
    hashed_at: int

    def is_current(self, status: os.stat_result) -> bool:
        """Tell whether the hash certainly describes the file with this status; otherwise hash again.

        Times alone cannot tell a file from one that replaced it within their resolution (Git's rule for racy index
        entries), nor can a change time in whole seconds, which mounted images and old file systems never update.
        """
        changed = max(status.st_mtime_ns, status.st_ctime_ns)
        settled = changed + SETTLE_NS <= self.hashed_at <= time.time_ns()
        return self.signature == stat_signature(status) and settled and status.st_ctime_ns % _NS_PER_SECOND != 0

    def to_dict(self) -> dict[str, Any]:
        """Convert to builtin types."""
        return {"state": list(self.signature), "sha256": self.sha256, "at": self.hashed_at}

    @classmethod
    def from_dict(cls, data: object) -> FileHash | None:
        """Read what ``to_dict`` wrote; None for anything else."""
        if not isinstance(data, dict) or set(data) != {"state", "sha256", "at"}:
            return None
        signature, sha256, hashed_at = data["state"], data["sha256"], data["at"]
        if not isinstance(signature, list) or len(signature) != 5:
            return None
        if not all(type(number) is int for number in [*signature, hashed_at]):
            return None
        if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
            return None
        return cls(tuple(signature), sha256, hashed_at)


def stat_signature(status: os.stat_result) -> tuple[int, ...]:
    """Device, inode, size and times of a file, which change when the file does."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Fingerprints:
    """Content hashes of files and folders.

    A file's hash is remembered with its device, inode, size and times, so a warm session does not read gigabytes of
    weights to learn that nothing changed.

    Attributes:
        unsaved: whether there is a new hash that a later session could rely on.

    Args:
        memo: JSON file that remembers between sessions; None to remember nothing on disk.
    """

    def __init__(self, memo: Path | None = None) -> None:
        self._memo = memo
        self.unsaved = False
        files = (read_json_object(memo, _MEMO_BYTES) or {}).get("files") if memo is not None else None
        hashes = {path: FileHash.from_dict(data) for path, data in files.items()} if isinstance(files, dict) else {}
        self._hashes = {path: file_hash for path, file_hash in hashes.items() if file_hash is not None}

    def of(self, path: Path) -> str:
        """Hash a file's bytes, or a folder's relative names and bytes, to 16 hex digits.

        The path itself, dot-files and documentation do not count.

        Raises:
            StoreError: nothing is at ``path``, it cannot be read, or it changes while it is read.
        """
        try:
            if path.is_dir():
                return digest({str(file.relative_to(path)): self._sha256(file) for file in hashed_files(path)})
            return self._sha256(path)[:16]
        except OSError as error:
            raise StoreError(f"{path} cannot be fingerprinted: {error}") from None

    def of_all(self, *paths: Path | str | None) -> str:
        """Combine the hashes of several paths in one text; None and missing paths are skipped."""
        existing = [path for entry in paths if entry is not None and (path := Path(entry)).exists()]
        return "\n".join(f"{path}:{self.of(path)}" for path in existing)

    def _sha256(self, path: Path) -> str:
        name, status = str(path.resolve()), path.stat()
        if not is_regular(path):
            raise OSError(f"{path} is not a regular file")
        file_hash = self._hashes.get(name)
        if file_hash is None or not file_hash.is_current(status):
            file_hash = self._hashes[name] = _hash_file(path)
            self.unsaved |= file_hash.is_current(status)
        return file_hash.sha256

    def save(self) -> None:
        """Write the hashes for the next session; a folder that cannot be written is no error."""
        if self._memo is None:
            return
        newest = sorted(self._hashes.items(), key=lambda item: item[1].hashed_at)[-_MEMO_ENTRIES:]
        files = {path: file_hash.to_dict() for path, file_hash in sorted(newest)}
        with suppress(OSError):
            write_atomically(self._memo, json.dumps({"files": files}, indent=0))
            self.unsaved = False


def _hash_file(path: Path) -> FileHash:
    """Read and hash a file.

    Raises:
        OSError: it cannot be read, or is written at the same time.
    """
    for _ in range(3):
        hashed_at = time.time_ns()
        with path.open("rb") as file:
            before = stat_signature(os.fstat(file.fileno()))
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if before == stat_signature(os.fstat(file.fileno())) == stat_signature(path.stat()):
                return FileHash(before, sha256, hashed_at)
    raise OSError("it changes as it is read: try again when nobody writes it")


def hashed_files(folder: Path, ancestors: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yield the files of a folder that can change what it computes, in order; links count as their targets.

    Args:
        folder: searched at any depth.
        ancestors: real folders around it; a link back to one of them is not followed.
    """
    ancestors |= {folder.resolve()}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if path.resolve() not in ancestors:
                yield from hashed_files(path, ancestors)
        elif path.is_file() and path.name not in _IGNORED:
            yield path
