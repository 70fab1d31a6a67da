"""Where prompt sets come from: a file on this machine, a URL, or a data set on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .concept import Prompt
from .errors import ConceptError
from .prompt_sets import parse_rows, read_content
from .untrusted import CSV_BYTES, path_from, shown

Fetch = Callable[[str, str], bytes]
"""Gives what is at a URL; its SHA-256, where that is known, lets a copy serve. Raises ConceptError."""

_DATASET = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def no_fetch(url: str, sha256: str) -> bytes:
    """Fetch nothing.

    Raises:
        ConceptError: always.
    """
    raise ConceptError(f"{url} cannot be read here: download it and give the file")


def place_of(text: str, folder: Path) -> Path | str:
    """What a text names: a path, a URL, or, where there is no such path, a data set on the Hub by ``owner/name``.

    Args:
        text: as a person wrote it.
        folder: from which relative paths count.

    Returns:
        A path, which need not exist; or a URL.

    Raises:
        ConceptError: no path can be so.
    """
    if "://" in text:
        return text.rstrip("/")
    try:
        path = path_from(text, folder)
    except ValueError as error:
        raise ConceptError(f"{shown(text)} {error}") from None
    is_file = path.suffix.lower() in (".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".yaml", ".yml")
    is_dataset = _DATASET.fullmatch(text) and not is_file and not path.parent.is_dir()
    return f"hf://datasets/{text}" if is_dataset else path


@dataclass(frozen=True)
class PromptSource:
    """A prompt set, and what is known of it beforehand.

    Attributes:
        where: path or URL.
        sha256: of the file, in hex digits; empty where any content will do.
        rows: prompts in it; None where any number will do.
        origin: where the right one is to be had, for errors.
    """

    where: Path | str
    sha256: str = ""
    rows: int | None = None
    origin: str = ""

    def read(self, fetch: Fetch, column: str | None = None) -> list[tuple[Prompt, str]]:
        """Its prompts, each with what its row has in another column.

        Raises:
            ConceptError: it cannot be had or read, or is another than it has to be.
        """
        where = self.where
        content = read_content(where) if isinstance(where, Path) else fetch(where, self.sha256)
        if len(content) > CSV_BYTES:
            raise ConceptError(f"{where} has more than {CSV_BYTES:,} bytes, more than a prompt set can need")
        rows = parse_rows(content, str(where), column=column or "prompt")
        if wrong := self._differences(content, len(rows)):
            which = f"the published set ({self.origin})" if self.origin else "the set that the concept asks for"
            mend = "Get that one, or write a concept of your own for yours" if self.origin else "Get that one"
            raise ConceptError(f"{where} is not {which}: {', '.join(wrong)}. {mend}")
        return [(prompt, row.cell(column or "")) for prompt, row in rows]

    def _differences(self, content: bytes, rows: int) -> list[str]:
        """In what it is another; empty where it is the right one."""
        wrong = self.rows is not None and rows != self.rows
        found = [f"{rows} rows where {self.rows} belong"] if wrong else []
        if self.sha256 and not is_content(content, self.sha256):
            here = hashlib.sha256(content).hexdigest()
            found.append(f"SHA-256 {here[:16]}... where {self.sha256[:16]}... belongs")
        return found


def is_content(content: bytes, sha256: str) -> bool:
    """Whether bytes have this SHA-256, as they are or with a line feed at each line's end.

    A checkout may have changed the line ends, which change no prompt outside of quotes.
    """
    ways = (content, content.replace(b"\r\n", b"\n"))
    return any(hashlib.sha256(way).hexdigest() == sha256.lower() for way in ways)
