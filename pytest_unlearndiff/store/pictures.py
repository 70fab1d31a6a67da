"""Thumbnails of the pictures a person will want to see, beside a campaign's journal."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .fingerprint import write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 192
"""Longest side of a thumbnail, in pixels."""

LARGEST = 10_000
"""Bytes of a thumbnail at most."""

_QUALITIES = (80, 60, 40, 20, 5)


class Pictures:
    """Thumbnails by name: what the victim drew for a prompt, and what the base drew for it.

    A picture is named by the digest of text, seed and guidance, as prompts are: those decide it.

    Args:
        folder: the campaign's; a folder for the pictures is made in it by the first one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "pictures"

    @property
    def folder(self) -> Path:
        """Where they are; it need not exist."""
        return self._folder

    def keep(self, digest: str, image: Image, *, base: bool = False) -> None:
        """Keep a thumbnail; where that fails, there is none, and nothing else happens.

        Args:
            digest: of what the picture was drawn from.
            image: the picture; it is not modified.
            base: whether the un-erased model drew it.
        """
        # A picture for people is never worth an outcome: a full disk or a Pillow without WebP costs only the picture.
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
        try:
            data = self._path(digest, base).read_bytes()
        except OSError:
            return None
        return data if is_webp(data) and len(data) <= LARGEST else None

    def _path(self, digest: str, base: bool) -> Path:
        return self._folder / f"{'base' if base else 'victim'}-{digest}.webp"


def is_webp(data: bytes) -> bool:
    """Whether these bytes begin as a WebP picture does (RFC 9649, section 2.4)."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def thumbnail(image: Image) -> bytes | None:
    """A picture as WebP of at most SIDE pixels a side and LARGEST bytes; None where none is that small."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=quality, method=4)
        if len(buffer.getvalue()) <= LARGEST:
            return buffer.getvalue()
    return None
