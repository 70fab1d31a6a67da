"""Thumbnails of the images a person will want to see, beside a campaign's journal."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .hashing import write_atomically
from .regular_files import read_regular

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 192
"""Longest side of a thumbnail, in pixels."""

LARGEST = 10_000
"""Bytes of a thumbnail at most."""

_QUALITIES = (80, 60, 40, 20, 5)


class Thumbnails:
    """Thumbnails by name: what the victim drew for a prompt, and what the base drew for it.

    A image is named by the digest of text, seed and guidance, as prompts are: those decide it.

    Args:
        folder: the campaign's; a folder for the images is made in it by the first one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "images"

    @property
    def folder(self) -> Path:
        """Where they are; it need not exist."""
        return self._folder

    def keep(self, digest: str, image: Image, *, base: bool = False) -> None:
        """Keep a thumbnail; where that fails, there is none, and nothing else happens.

        Args:
            digest: of what the image was drawn from.
            image: the image; it is not modified.
            base: whether the un-erased model drew it.
        """
        # A image for people is never worth an outcome: a full disk or a Pillow without WebP costs only the image.
        with suppress(Exception):
            if (data := thumbnail(image)) is not None:
                self.put(digest, data, base=base)

    def put(self, digest: str, data: bytes, *, base: bool = False) -> None:
        """Keep a thumbnail that is made already, with the same care."""
        with suppress(Exception):
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(digest, base), data)

    def read(self, digest: str, *, base: bool = False) -> bytes | None:
        """A kept thumbnail as WebP, None where there is none that could be one."""
        return _read(self._path(digest, base))

    def every(self) -> dict[str, bytes]:
        """All kept thumbnails by the names of their files."""
        try:
            paths = [path for path in self._folder.iterdir() if is_name(path.name)]
        except OSError:
            return {}
        return {path.name: data for path in paths if (data := _read(path)) is not None}

    def take(self, thumbnails: Mapping[str, bytes]) -> None:
        """Keep thumbnails from elsewhere by the names of their files, where there are none of these names."""
        for name, data in thumbnails.items():
            if is_whole(name, data) and not (self._folder / name).exists():
                with suppress(OSError):
                    self._folder.mkdir(parents=True, exist_ok=True)
                    write_atomically(self._folder / name, data)

    def _path(self, digest: str, base: bool) -> Path:
        return self._folder / _name(digest, base)


class Lent(Thumbnails):
    """Thumbnails to be shown: of this store and, where it has none, of a shared one, which is asked once.

    Args:
        folder: the campaign's; None for a folder that is not believed.
        fetch: gives the shared store's thumbnails by the names of their files.
    """

    def __init__(self, folder: Path | None, fetch: Callable[[], Mapping[str, bytes]]) -> None:
        super().__init__(folder or Path())
        self._here = folder is not None
        self._fetch = fetch
        self._fetched: Mapping[str, bytes] | None = None

    def read(self, digest: str, *, base: bool = False) -> bytes | None:
        """A thumbnail as WebP, None where there is none that could be one."""
        if self._here and (data := super().read(digest, base=base)) is not None:
            return data
        if self._fetched is None:
            self._fetched = self._fetch()
        return self._fetched.get(_name(digest, base))


_NAME = re.compile(r"(?:victim|base)-[0-9a-f]{16}\.webp")


def _name(digest: str, base: bool) -> str:
    return f"{'base' if base else 'victim'}-{digest}.webp"


def _read(path: Path) -> bytes | None:
    try:
        data = read_regular(path, LARGEST)
    except OSError:
        return None
    return data if is_webp(data) else None


def is_name(name: str) -> bool:
    """Whether the file of a thumbnail is named so."""
    return _NAME.fullmatch(name) is not None


def is_whole(name: str, data: bytes) -> bool:
    """Whether what came from elsewhere is a thumbnail: named as one, small, and a WebP file with all of its bytes."""
    size = int.from_bytes(data[4:8], "little") + 8
    return is_name(name) and is_webp(data) and len(data) <= LARGEST and size == len(data)


def is_webp(data: bytes) -> bool:
    """Whether these bytes begin as a WebP image does (RFC 9649, section 2.4)."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def thumbnail(image: Image) -> bytes | None:
    """A image as WebP of at most SIDE pixels a side and LARGEST bytes; None where none is that small."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=quality, method=4)
        if len(buffer.getvalue()) <= LARGEST:
            return buffer.getvalue()
    return None
