"""Models for machines that do not have them: cut into pieces there, put together and checked here."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ..core.concept import Concept
from ..core.errors import ModelError
from ..core.judge_options import weights_of
from ..runs.model_cache import ModelSpec
from ..sources.user_temp import user_temp_folder
from ..store.hashing import Fingerprints, hashed_files
from ..store.hashing import digest as digest_of

PIECE = 64 * 2**20
"""Bytes that travel together, so that nobody has to hold a whole model at once beside Ray's object store."""


def files_of(source: ModelSpec, concept: Concept, fingerprints: Fingerprints) -> Mapping[Path, str]:
    """Every file and folder that victim, base, judge and target images are loaded from, with its content hash."""
    named = [source.model, source.base, *map(Path, weights_of(concept.judge)), *map(Path, concept.images.values())]
    return {path: fingerprints.of(path) for path in named if path is not None and path.exists()}


def pieces(path: Path) -> Iterator[tuple[str, bytes]]:
    """A file, or what counts of a folder, in order.

    Yields:
        The file's name relative to the folder that ``path`` lies in, and the next bytes of it, at most PIECE.
    """
    for file in hashed_files(path) if path.is_dir() else [path]:
        name = str(file.relative_to(path.parent))
        with file.open("rb") as content:
            piece = content.read(PIECE)
            yield name, piece
            while piece := content.read(PIECE):
                yield name, piece


def arrive(name: str, digest: str, parcel: Iterable[tuple[str, bytes]]) -> Path:
    """Put together what was sent, once a machine; it is kept until the machine's temporary files are cleared.

    Args:
        name: of the file or folder.
        digest: its content hash where it was sent from.
        parcel: its pieces, asked for only where this machine does not have it from an earlier time.

    Returns:
        Where it lies now.

    Raises:
        ModelError: what arrived is something else, or cannot be written.
    """
    from filelock import FileLock

    try:
        folder = user_temp_folder()
        with FileLock(folder / f"{digest}.lock"):
            kept = folder / digest_of([digest, name])  # the same content may be sent under several names
            if not (kept / name).exists():
                _unpack(kept, parcel)
            found = Fingerprints().of(kept / name) if (kept / name).exists() else "nothing"
            if found != digest:
                shutil.rmtree(kept)
                raise ModelError(f"{name} arrived as something else (fingerprint {found}, sent {digest}): run it again")
            return kept / name
    except OSError as error:
        raise ModelError(f"{name} was sent here, because it is not here, and cannot be kept: {error}") from None


def _unpack(kept: Path, parcel: Iterable[tuple[str, bytes]]) -> None:
    """Write pieces into a folder that appears when it is complete."""
    shutil.rmtree(kept, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as begun:
        whole = Path(begun) / "whole"
        whole.mkdir()
        for name, piece in parcel:
            path = whole / name
            if not path.resolve().is_relative_to(whole.resolve()):
                raise ModelError(f"{name!r} was sent, which is no name inside a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(piece)
        whole.rename(kept)
