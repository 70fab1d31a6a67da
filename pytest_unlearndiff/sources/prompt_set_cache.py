"""Prompt sets that are elsewhere: fetched once a process, and those with a known SHA-256 once for all."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from ..core.errors import ConceptError
from ..core.prompt_sets import has_sha256
from ..core.untrusted import CSV_BYTES
from ..core.urls import wrap_access_errors
from ..store.files import mark_as_cache, read_regular, write_atomically

_DATASET = re.compile(r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?")
_TIMEOUT = 60.0
_LARGEST = 256 * 2**20


class PromptSetCache:
    """Gives what is at a URL.

    What has a known SHA-256 is kept in the store's folder under it, and a session that finds it there needs no
    network. What has none is asked for anew by every session, since it may have changed.

    Args:
        root: the store's folder; None to look at no copies.
        keep: whether new copies may be kept there.
    """

    def __init__(self, root: Path | None, *, keep: bool = True) -> None:
        self._root = root
        self._keep = keep
        self._known: dict[str, bytes] = {}

    def __call__(self, url: str, sha256: str = "") -> bytes:
        """The content of a file.

        Args:
            url: of any kind that fsspec knows, http(s), or ``hf://datasets/OWNER/NAME/FILE``; without a file, the only
                CSV file of the data set.
            sha256: of the content, in hex digits; empty where it is not known.

        Raises:
            ConceptError: it is not here and cannot be fetched.
        """
        if url not in self._known:
            content = self._kept(sha256)
            if content is None:
                content = _fetch(url)
                if sha256 and has_sha256(content, sha256):
                    self._put(sha256, content)
            self._known[url] = content
        return self._known[url]

    def _kept(self, sha256: str) -> bytes | None:
        """The copy of this content; None where there is none, or something else stands in its place."""
        if self._root is None or not sha256:
            return None
        try:
            content = read_regular(self._path(self._root, sha256), _LARGEST)
        except OSError:
            return None
        return content if has_sha256(content, sha256) else None

    def _put(self, sha256: str, content: bytes) -> None:
        """Keep a copy; where that fails, the next session fetches it again."""
        if self._root is None or not self._keep:
            return
        with suppress(OSError):
            path = self._path(self._root, sha256)
            path.parent.mkdir(parents=True, exist_ok=True)
            mark_as_cache(self._root)
            write_atomically(path, content)

    @staticmethod
    def _path(root: Path, sha256: str) -> Path:
        return root / "prompts" / f"{sha256.lower()}.csv"


def _fetch(url: str) -> bytes:
    """What is at a URL now.

    Raises:
        ConceptError: it cannot be had, for whatever reason the library behind it gives.
    """
    mend = "Try again, or download it and give the file"
    with wrap_access_errors(url, "fetched", mend, ConceptError, label="prompt set"):
        if url.startswith("hf://"):
            return _from_hub(url)
        if re.match(r"https?://", url):
            return _from_web(url)
        from fsspec.core import url_to_fs

        files, path = url_to_fs(url)
        return bytes(files.cat_file(path))


def _from_web(url: str) -> bytes:
    # fsspec's own http needs aiohttp, which nothing else here does.
    from urllib.request import urlopen

    with urlopen(url, timeout=_TIMEOUT) as answer:  # noqa: S310  # the scheme is http or https
        return bytes(answer.read(CSV_BYTES + 1))  # what has more is refused as it is read


def _from_hub(url: str) -> bytes:
    """A file of a data set, through the Hub's own cache, which also serves where there is no network."""
    from huggingface_hub import hf_hub_download

    if (match := _DATASET.fullmatch(url)) is None:
        raise ConceptError(f"{url} is no file of a data set on the Hub, such as hf://datasets/OWNER/NAME/prompts.csv")
    repo, revision = match["repo"], match["revision"]
    file = match["file"] or _only_table(url, repo, revision)
    return Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision)).read_bytes()


def _only_table(url: str, repo: str, revision: str | None) -> str:
    """The one CSV file of a data set.

    Raises:
        ConceptError: it has none, or several.
    """
    from huggingface_hub import HfApi

    files = HfApi().list_repo_files(repo, repo_type="dataset", revision=revision)
    tables = sorted(name for name in files if name.endswith(".csv"))
    if len(tables) != 1:
        found = f"{len(tables)} CSV files, such as {tables[0]}" if tables else "no CSV file"
        raise ConceptError(f"{url} has {found}: name the file, as in {url}/{tables[0] if tables else 'prompts.csv'}")
    return tables[0]
