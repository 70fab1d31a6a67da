"""Prompt sets at URLs: fetched once per process, and those with a known SHA-256 once for all sessions."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from ..core.errors import ConceptError, redact_url, wrap_access_errors
from ..core.prompt_sets import has_sha256
from ..core.untrusted import CSV_BYTES
from ..store.files import mark_as_cache, read_regular, write_atomically

_DATASET = re.compile(r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?")
_TIMEOUT_SECONDS = 60.0


class PromptSetCache:
    """Reads prompt sets at URLs.

    Content with a known SHA-256 is kept in the store's folder under it, and a session that finds it there needs no
    network. Other content is fetched by every session, since it may have changed.

    Args:
        root: the store's folder; None to use no copies.
        keep: whether new copies may be kept there.
    """

    def __init__(self, root: Path | None, *, keep: bool = True) -> None:
        self._root = root
        self._keep = keep
        self._contents: dict[str, bytes] = {}

    def __call__(self, url: str, sha256: str = "") -> bytes:
        """Read the content of a file.

        Args:
            url: of any kind that fsspec knows, http(s), or ``hf://datasets/OWNER/NAME/FILE``; without a file, the only
                CSV file of the data set.
            sha256: of the content, in hex digits; empty if it is not known.

        Raises:
            ConceptError: it is not here and cannot be fetched.
        """
        if url not in self._contents:
            path = self._root / "prompts" / f"{sha256.lower()}.csv" if self._root is not None and sha256 else None
            content = _read_copy(path, sha256) if path is not None else None
            if content is None:
                content = _fetch(url)
                if path is not None and self._keep and has_sha256(content, sha256):
                    self._write_copy(path, content)
            self._contents[url] = content
        return self._contents[url]

    def _write_copy(self, path: Path, content: bytes) -> None:
        """Keep a copy; if that fails, the next session fetches it again."""
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            mark_as_cache(path.parent.parent)
            write_atomically(path, content)


def _read_copy(path: Path, sha256: str) -> bytes | None:
    """Read the copy of this content; None if something else or nothing is there."""
    try:
        content = read_regular(path, CSV_BYTES)
    except OSError:
        return None
    return content if has_sha256(content, sha256) else None


def _fetch(url: str) -> bytes:
    """Read a URL.

    Raises:
        ConceptError: it cannot be read, for whatever reason a library gives.
    """
    remedy = "Try again, or download it and give the file"
    with wrap_access_errors(url, "fetched", remedy, ConceptError, label="prompt set"):
        if url.startswith("hf://"):
            return _fetch_from_hub(url)
        if re.match(r"https?://", url):
            # fsspec's own http needs aiohttp, which nothing else here does.
            from urllib.request import urlopen

            with urlopen(url, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310  # the scheme is http or https
                return bytes(response.read(CSV_BYTES + 1))  # PromptSource refuses more
        from fsspec.core import url_to_fs

        files, path = url_to_fs(url)
        return bytes(files.cat_file(path))


def _fetch_from_hub(url: str) -> bytes:
    """Read a file of a data set through the Hub's own cache, which also serves without a network."""
    from huggingface_hub import HfApi, hf_hub_download

    if (match := _DATASET.fullmatch(url)) is None:
        raise ConceptError(
            f"{redact_url(url)} is no file of a data set on the Hub, such as hf://datasets/OWNER/NAME/prompts.csv"
        )
    repo, revision, file = match["repo"], match["revision"], match["file"]
    if file is None:
        names = HfApi().list_repo_files(repo, repo_type="dataset", revision=revision)
        tables = sorted(name for name in names if name.endswith(".csv"))
        if len(tables) != 1:
            number = f"{len(tables)} CSV files, such as {tables[0]}" if tables else "no CSV file"
            example = f"{url}/{tables[0] if tables else 'prompts.csv'}"
            raise ConceptError(f"{url} has {number}: name the file, as in {example}")
        file = tables[0]
    return Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision)).read_bytes()
