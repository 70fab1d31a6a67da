"""Prompt sets: a file on this machine, at a URL or on the Hugging Face Hub, read as prompts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .concept import Prompt, PromptSetFacts
from .errors import ConceptError, ErrorCollector, redact_url
from .prompt_columns import ANY_COLUMNS, Columns
from .prompt_files import MAX_ERRORS, SUFFIXES, Row, read_table
from .untrusted import CSV_BYTES, hint, parse_path, read_bytes, short_repr

Fetch = Callable[[str, str], bytes]
"""Reads a URL; its SHA-256, if known, lets a copy serve. Raises ConceptError."""

_LEFT_OUT = 100
"""One row in so many may be left out: without it, no rate moves by more than about one percent."""
_DATASET = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_FILE_SUFFIXES = (*SUFFIXES, ".yaml", ".yml")


@dataclass(frozen=True)
class ParsedPrompts:
    """Prompts of a file, each with its row.

    Attributes:
        pairs: prompts and rows, in the file's order.
        left_out: rows that are no prompts, as errors with file and line.
    """

    pairs: tuple[tuple[Prompt, Row], ...]
    left_out: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows, those that were left out among them."""
        return len(self.pairs) + len(self.left_out)

    @property
    def facts(self) -> PromptSetFacts:
        """Facts of the set for reports."""
        return PromptSetFacts("", self.rows, self.left_out, len(self.pairs) - len({p.digest for p, _ in self.pairs}))


def read_prompts(path: Path) -> list[Prompt]:
    """Read a prompt set.

    Args:
        path: a CSV, TSV, text, JSON, JSON lines or Parquet file with a column ``prompt`` or the only one of a known
            name and, optionally, ``evaluation_seed`` (or ``seed``; default: the row number), ``evaluation_guidance``
            (or ``guidance_scale``; default: 7.5) and ``case_number`` (default: the row number). Other columns are
            ignored.

    Raises:
        ConceptError: as ``parse_rows``, or there is no such file.
    """
    return [prompt for prompt, _ in parse_rows(read_prompt_file(path), str(path)).pairs]


def read_prompt_file(path: Path) -> bytes:
    """Read the bytes of a prompt set's file.

    Raises:
        ConceptError: it cannot be read.
    """
    try:
        return read_bytes(path, CSV_BYTES)
    except (OSError, ValueError) as error:
        raise ConceptError(f"prompt set {path} cannot be read: {error}") from None


def parse_rows(
    content: bytes, name: str, columns: Columns = ANY_COLUMNS, *, also: str | None = None, repeated_cases: bool = False
) -> ParsedPrompts:
    """Parse the rows of a prompt set, each as a prompt and as it stands.

    A row that is no prompt is left out and told in every report, where it is one in a hundred or fewer; a file with
    more of them is refused.

    Args:
        content: of the file.
        name: of the file in errors; its suffix tells what it is.
        columns: as somebody chose them.
        also: another column that it must have.
        repeated_cases: whether a case number may be repeated.

    Raises:
        ConceptError: no column of prompts, no rows, repeated case numbers, or too many rows that have more or fewer
            cells than columns, or cells that are not the number they should be; each with its line, one per line.
    """
    table = read_table(content, name, header=columns.header)
    if also is not None and also not in table.columns:
        raise ConceptError(f"{name}: no column {short_repr(also)}: {hint(also, table.columns)}")
    resolved = columns.resolve(table)
    rows = [row for row in columns.select(table) for _ in resolved.templates]
    errors = ErrorCollector(table.misfits)
    prompts = [errors.collect(partial(resolved.prompt_of, row, number)) for number, row in enumerate(rows)]
    pairs = tuple((prompt, row) for prompt, row in zip(prompts, rows, strict=True) if prompt is not None)
    if errors and (not pairs or len(errors) * _LEFT_OUT > len(pairs) + len(errors)):
        raise ConceptError("\n".join(_shortened([*errors, *_repeated_cases(pairs, repeated_cases)], name)))
    if repeats := _repeated_cases(pairs, repeated_cases):
        raise ConceptError("\n".join(_shortened(repeats, name)))
    return ParsedPrompts(pairs, tuple(errors))


def _repeated_cases(pairs: tuple[tuple[Prompt, Row], ...], allowed: bool) -> list[str]:
    """Say which rows have the case number of an earlier one."""
    first: dict[int, Row] = {}
    return [
        f"{row.at}: case number {prompt.case}, by which reports and --unlearndiff-case-numbers name a prompt, "
        f"stands at {other.at} too"
        for prompt, row in pairs
        if (other := first.setdefault(prompt.case, row)) is not row and not allowed
    ]


def _shortened(errors: list[str], name: str) -> list[str]:
    return [*errors[:MAX_ERRORS], *([f"{name}: and {len(errors) - MAX_ERRORS} more"] * (len(errors) > MAX_ERRORS))]


def no_fetch(url: str, sha256: str) -> bytes:
    """Refuse to read a URL.

    Raises:
        ConceptError: always.
    """
    raise ConceptError(f"{redact_url(url)} cannot be read here: download it and give the file")


def locate_prompt_set(text: str, folder: Path) -> Path | str:
    """Resolve a path, a URL or, if there is no such path, the ``owner/name`` of a Hub data set.

    Args:
        text: as a person wrote it.
        folder: base of relative paths.

    Returns:
        A path, which need not exist; or a URL.

    Raises:
        ConceptError: no file can have this name.
    """
    if "://" in text:
        return text.rstrip("/")
    try:
        path = parse_path(text, folder)
    except ValueError as error:
        raise ConceptError(f"{short_repr(text)} {error}") from None
    is_dataset = _DATASET.fullmatch(text) and path.suffix.lower() not in _FILE_SUFFIXES and not path.parent.is_dir()
    return f"hf://datasets/{text}" if is_dataset else path


@dataclass(frozen=True)
class PromptSource:
    """Location of a prompt set, its columns, and facts that tell whether the right one is there.

    Attributes:
        location: path or URL.
        columns: as somebody chose them.
        sha256: of the file, in hex digits; None if any content will do.
        rows: number of rows; None if any number will do.
        origin: where people get a published set, for errors; None for other sets.
    """

    location: Path | str
    columns: Columns = ANY_COLUMNS
    sha256: str | None = None
    rows: int | None = None
    origin: str | None = None

    def read(self, fetch: Fetch, also: str | None = None) -> ParsedPrompts:
        """Read the prompts.

        Args:
            fetch: reads a URL.
            also: another column that the file must have.

        Raises:
            ConceptError: the set cannot be had or read, or is another than it has to be.
        """
        if isinstance(self.location, Path):
            name, content = str(self.location), read_prompt_file(self.location)
        else:
            name, content = redact_url(self.location), fetch(self.location, self.sha256 or "")
        if len(content) > CSV_BYTES:
            raise ConceptError(f"{name} has more than {CSV_BYTES:,} bytes, more than a prompt set can need")
        prompts = parse_rows(content, name, self.columns, also=also)
        if differences := self._differences(content, prompts.rows):
            expected = f"the published set ({self.origin})" if self.origin else "the set that the concept asks for"
            remedy = "Get that one" + (", or write a concept of your own for yours" if self.origin else "")
            raise ConceptError(f"{name} is not {expected}: {', '.join(differences)}. {remedy}")
        return prompts

    def _differences(self, content: bytes, rows: int) -> list[str]:
        differences = []
        if self.rows is not None and rows != self.rows:
            differences.append(f"{rows} rows where {self.rows} belong")
        if self.sha256 and not has_sha256(content, self.sha256):
            actual = hashlib.sha256(content).hexdigest()
            differences.append(f"SHA-256 {actual[:16]}... where {self.sha256[:16]}... belongs")
        return differences


def has_sha256(content: bytes, sha256: str) -> bool:
    """Compare a file's SHA-256, as it is or with its CRLF line ends as LF.

    A checkout may have changed the line ends, which change no prompt outside of quotes.
    """
    variants = (content, content.replace(b"\r\n", b"\n"))
    return any(hashlib.sha256(variant).hexdigest() == sha256.lower() for variant in variants)
