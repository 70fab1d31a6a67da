"""Prompt sets: a CSV file on this machine, at a URL or on the Hugging Face Hub, read as prompts."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

from .concept import Prompt
from .errors import ConceptError, ErrorCollector, redact_url
from .untrusted import CSV_BYTES, MOST_CASE, MOST_SEED, parse_path, read_bytes, short_repr

Fetch = Callable[[str, str], bytes]
"""Reads a URL; its SHA-256, if known, lets a copy serve. Raises ConceptError."""

_MAX_ERRORS = 20
"""Errors of one file that are told; a file with more is the wrong file."""
_DATASET = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_FILE_SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".yaml", ".yml")

# The last of each are the names that the I2P data set uses.
_SEED_COLUMNS = ("evaluation_seed", "seed", "sd_seed")
_GUIDANCE_COLUMNS = ("evaluation_guidance", "guidance_scale", "guidance", "sd_guidance_scale")


@dataclass(frozen=True)
class Row:
    """A row as it stands in the file.

    Attributes:
        at: file and physical line of its begin, such as ``church.csv:7``; a quoted cell may have several lines.
        cells: by column name.
    """

    at: str
    cells: Mapping[str, str]

    def cell(self, column: str) -> str:
        """Text of a cell; empty if there is no such column."""
        return self.cells.get(column, "")

    def seed(self, columns: tuple[str, ...] = _SEED_COLUMNS, *, default: int) -> int:
        """Read the first of these columns that is filled as a seed in [0, 2**64).

        Raises:
            ConceptError: it is none.
        """
        return self._integer(columns, 0, MOST_SEED, default=default)

    def prompt(self, number: int) -> Prompt:
        """Read the row as a prompt.

        Args:
            number: of the row, the default of seed and case number.

        Raises:
            ConceptError: the text is empty, or a cell is not the number it should be.
        """
        text = self.cell("prompt")
        if not text.strip():
            raise ConceptError(f"{self.at}: empty prompt")
        return Prompt(
            text=text,
            seed=self.seed(default=number),
            guidance=float(self._number(_GUIDANCE_COLUMNS, default=Decimal("7.5"))[1]),
            case=self._integer(("case_number",), -MOST_CASE, MOST_CASE, default=number),
        )

    def _integer(self, columns: tuple[str, ...], least: int, most: int, *, default: int) -> int:
        column, value = self._number(columns, default=Decimal(default))
        if value != value.to_integral_value():
            raise ConceptError(f"{self.at}: {column}={short_repr(str(value))} is not a whole number")
        if not least <= value <= most:
            raise ConceptError(f"{self.at}: {column}={value:.20g} must be a whole number from {least} to {most}")
        return int(value)

    def _number(self, columns: tuple[str, ...], default: Decimal) -> tuple[str, Decimal]:
        """Name the first of these columns that is filled, with its number; else the first column with the default."""
        for column in columns:
            if cell := self.cell(column):
                try:
                    value = Decimal(cell)
                    if math.isfinite(float(value)):
                        return column, value
                except (ArithmeticError, ValueError):
                    pass
                raise ConceptError(f"{self.at}: {column}={short_repr(cell)} is not a number")
        return columns[0], default


def read_prompts(path: Path) -> list[Prompt]:
    """Read a prompt set.

    Args:
        path: a CSV file with a column ``prompt`` and, optionally, ``evaluation_seed`` (or ``seed``; default: the row
            number), ``evaluation_guidance`` (or ``guidance_scale``; default: 7.5) and ``case_number`` (default: the
            row number). Other columns are ignored.

    Raises:
        ConceptError: no such file, no column ``prompt``, repeated columns, no rows, rows with more or fewer cells than
            columns, cells that are not the number they should be, or repeated case numbers; each with its line, one
            per line.
    """
    return [prompt for prompt, _ in parse_rows(read_prompt_file(path), str(path))]


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
    content: bytes, name: str, *, column: str = "prompt", repeated_cases: bool = False
) -> list[tuple[Prompt, Row]]:
    """Parse the rows of a prompt set, each as a prompt and as it stands; see ``read_prompts``.

    Args:
        content: of the CSV file.
        name: of the file in errors.
        column: another column that it must have.
        repeated_cases: whether a case number may be repeated.

    Raises:
        ConceptError: as ``read_prompts``, or there is no such column.
    """
    errors = ErrorCollector()
    rows = _read_csv(content, name, ("prompt", column), errors)
    prompts = [errors.collect(partial(row.prompt, number)) for number, row in enumerate(rows)]
    pairs = [(prompt, row) for prompt, row in zip(prompts, rows, strict=True) if prompt is not None]
    first: dict[int, Row] = {}
    for prompt, row in pairs:
        if (other := first.setdefault(prompt.case, row)) is not row and not repeated_cases:
            errors.append(
                f"{row.at}: case number {prompt.case}, by which reports and --unlearndiff-case-numbers name a prompt, "
                f"stands at {other.at} too"
            )
    if len(errors) > _MAX_ERRORS:
        errors[_MAX_ERRORS:] = [f"{name}: and {len(errors) - _MAX_ERRORS} more"]
    errors.raise_if_any(ConceptError)
    return pairs


def _read_csv(content: bytes, name: str, columns: tuple[str, ...], errors: ErrorCollector) -> list[Row]:
    """Read the rows of a CSV file that has these columns, without blank lines.

    A row must have a cell for each column. One with more has a comma that is not quoted, and would be measured as the
    text before it. One with fewer is torn, or lacks a seed: no program that writes CSV leaves out cells.

    Args:
        content: of the file.
        name: of the file in errors.
        columns: that it must have.
        errors: takes what is wrong with single rows, which are left out.

    Raises:
        ConceptError: it is no such file.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConceptError(f"prompt set {name} cannot be read: {error}") from None
    # Strict, since otherwise a quote that is never closed swallows every prompt behind it.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    rows: list[Row] = []
    line = 1
    try:
        for cells in reader:
            at, line = f"{name}:{line}", reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = _check_header(cells, name, at, columns)
            elif len(cells) != len(header):
                errors.append(f"{at}: {_describe_misfit(cells, header)}")
            else:
                rows.append(Row(at, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        reason = f"{name}:{line}: not a readable CSV file: {error}"
        raise ConceptError("\n".join([*errors[:_MAX_ERRORS], reason])) from None
    if header is None:
        raise ConceptError(f"{name}: no column {short_repr(columns[0])}, for the file is empty")
    if not rows and not errors:
        raise ConceptError(f"{name}: no prompts in it")
    return rows


def _check_header(header: list[str], name: str, at: str, columns: tuple[str, ...]) -> list[str]:
    """Return the names of the columns; one may be empty, as of an index that pandas wrote.

    Raises:
        ConceptError: a column is missing or repeated.
    """
    for column in columns:
        if column not in header:
            raise ConceptError(f"{name}: no column {short_repr(column)}; found {short_repr(header, 300)}")
    if repeated := [column for column, count in Counter(header).items() if count > 1]:
        more = f" (and {len(repeated) - 1} others do)" if len(repeated) > 1 else ""
        raise ConceptError(f"{at}: column {short_repr(repeated[0])} stands twice{more}: keep one of each name")
    return header


def _describe_misfit(cells: list[str], header: list[str]) -> str:
    remedy = (
        "a text with a comma in it needs quotes" if len(cells) > len(header) else "a cell left empty needs its comma"
    )
    return (
        f"{len(cells)} cells where the header has {len(header)}, in the row that begins with "
        f"{short_repr(cells[0], 40)}: {remedy}"
    )


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
    """Location of a prompt set, and facts that tell whether the right one is there.

    Attributes:
        location: path or URL.
        sha256: of the file, in hex digits; None if any content will do.
        rows: number of prompts; None if any number will do.
        origin: where people get a published set, for errors; None for other sets.
    """

    location: Path | str
    sha256: str | None = None
    rows: int | None = None
    origin: str | None = None

    def read(self, fetch: Fetch, column: str | None = None) -> list[tuple[Prompt, str]]:
        """Read the prompts, each with its row's cell of another column.

        Raises:
            ConceptError: the set cannot be had or read, or is another than it has to be.
        """
        if isinstance(self.location, Path):
            name, content = str(self.location), read_prompt_file(self.location)
        else:
            name, content = redact_url(self.location), fetch(self.location, self.sha256 or "")
        if len(content) > CSV_BYTES:
            raise ConceptError(f"{name} has more than {CSV_BYTES:,} bytes, more than a prompt set can need")
        pairs = parse_rows(content, name, column=column or "prompt")
        if differences := self._differences(content, len(pairs)):
            expected = f"the published set ({self.origin})" if self.origin else "the set that the concept asks for"
            remedy = "Get that one" + (", or write a concept of your own for yours" if self.origin else "")
            raise ConceptError(f"{name} is not {expected}: {', '.join(differences)}. {remedy}")
        return [(prompt, row.cell(column or "")) for prompt, row in pairs]

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
