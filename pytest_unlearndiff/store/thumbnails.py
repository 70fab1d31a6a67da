"""Thumbnails of the images a person will want to see, beside a campaign's journal."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .files import read_regular, write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL_SIDE = 192
"""Longest side of a thumbnail, in pixels."""
THUMBNAIL_BYTES = 10_000
"""Largest thumbnail."""

_QUALITIES = (80, 60, 40, 20, 5)
_NAME = re.compile(r"(?:victim|base)-[0-9a-f]{16}\.webp")


def near_miss(prompt: str) -> str:
    """Return the digest under which the closest attacked image of a prompt that resists is kept.

    Args:
        prompt: digest of the prompt.
    """
    return hashlib.sha256(f"near miss of {prompt}".encode()).hexdigest()[:16]


def with_embedding(prompt: str, embedding: str | None) -> str:
    """Return the digest under which the image of a prompt with a learned embedding is kept.

    Args:
        prompt: digest of the prompt.
        embedding: digest of the embedding; None for none, which leaves the prompt's.
    """
    return prompt if embedding is None else hashlib.sha256(f"{prompt} with {embedding}".encode()).hexdigest()[:16]


class Thumbnails:
    """Thumbnails of the victim's and the base's images by prompt.

    An image is named by the digest of text, seed and guidance, as prompts are: those decide it.

    Attributes:
        folder: the folder of images, created by the first one.

    Args:
        campaign: the campaign's folder; None for one that is not believed, which has no thumbnails.
    """

    def __init__(self, campaign: Path | None) -> None:
        self.folder = campaign / "images" if campaign is not None else None

    def add(self, digest: str, image: Image, *, base: bool = False) -> None:
        """Keep a thumbnail of an image; if that fails, there is none, and nothing else happens.

        Args:
            digest: of the prompt.
            image: the image; it is not modified.
            base: whether the un-erased model generated it.
        """
        # An image for people is never worth an outcome: a full disk or a Pillow without WebP costs only the image.
        with suppress(Exception):
            if (data := make_thumbnail(image)) is not None:
                self.write(digest, data, base=base)

    def write(self, digest: str, data: bytes, *, base: bool = False) -> None:
        """Keep a thumbnail that is WebP already; if that fails, there is none."""
        self._write_file(_file_name(digest, base), data)

    def read(self, digest: str, *, base: bool = False) -> bytes | None:
        """Read a thumbnail as WebP; None if there is none."""
        return _read_webp(self.folder / _file_name(digest, base)) if self.folder is not None else None

    def files(self) -> dict[str, bytes]:
        """Read all thumbnails by file name."""
        try:
            paths = [path for path in self.folder.iterdir() if is_thumbnail_name(path.name)] if self.folder else []
        except OSError:
            return {}
        return {path.name: data for path in paths if (data := _read_webp(path)) is not None}

    def add_files(self, thumbnails: Mapping[str, bytes]) -> None:
        """Keep thumbnails from elsewhere by file name, if there are none of these names."""
        for name, data in thumbnails.items():
            if is_thumbnail(name, data) and self.folder is not None and not (self.folder / name).exists():
                self._write_file(name, data)

    def _write_file(self, name: str, data: bytes) -> None:
        if self.folder is not None:
            with suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                write_atomically(self.folder / name, data)


class SharedThumbnails(Thumbnails):
    """Thumbnails of this store and, if it has none, of a shared one, which is asked once.

    Args:
        campaign: as for ``Thumbnails``.
        fetch: reads the shared store's thumbnails by file name.
    """

    def __init__(self, campaign: Path | None, fetch: Callable[[], Mapping[str, bytes]]) -> None:
        super().__init__(campaign)
        self._fetch = fetch
        self._fetched: Mapping[str, bytes] | None = None

    def read(self, digest: str, *, base: bool = False) -> bytes | None:
        """Read a thumbnail as WebP; None if neither store has one."""
        if (data := super().read(digest, base=base)) is not None:
            return data
        if self._fetched is None:
            self._fetched = self._fetch()
        return self._fetched.get(_file_name(digest, base))


def _file_name(digest: str, base: bool) -> str:
    return f"{'base' if base else 'victim'}-{digest}.webp"


def _read_webp(path: Path) -> bytes | None:
    try:
        data = read_regular(path, THUMBNAIL_BYTES)
    except OSError:
        return None
    return data if is_webp(data) else None


def is_thumbnail_name(name: str) -> bool:
    """Tell whether a thumbnail's file can have this name."""
    return _NAME.fullmatch(name) is not None


def is_thumbnail(name: str, data: bytes) -> bool:
    """Tell whether a file from elsewhere is a thumbnail: its name, its size, and a WebP file with all its bytes."""
    size = int.from_bytes(data[4:8], "little") + 8
    return is_thumbnail_name(name) and is_webp(data) and len(data) <= THUMBNAIL_BYTES and size == len(data)


def is_webp(data: bytes) -> bool:
    """Tell whether these bytes begin as a WebP image does (RFC 9649, section 2.4)."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def make_thumbnail(image: Image) -> bytes | None:
    """Encode an image as WebP of at most 192 x 192 pixels and 10,000 bytes; None if no quality is that small."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=quality, method=4)
        if len(buffer.getvalue()) <= THUMBNAIL_BYTES:
            return buffer.getvalue()
    return None
