"""Files with prompts, read as rows of named cells: CSV and TSV with and without a header, text, JSON and JSON lines."""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from .errors import ConceptError, one_line
from .untrusted import short_repr

MAX_ERRORS = 20
"""Errors of one file that are told; a file with more is the wrong file."""
PROMPT = "prompt"
"""Column of a file without named columns."""
_WEB_PAGE = "a web page: get the file itself, not the page that shows it"
_NO_TEXT = {
    b"version https://git-lfs.github.com/": "a pointer that stands for the file: get the file itself with git lfs pull",
    b"<!doctype html": _WEB_PAGE,
    b"<html": _WEB_PAGE,
    b"pk\x03\x04": "a spreadsheet or an archive: save the prompts as CSV",
    b"\x1f\x8b": "compressed: unpack it first",
}
"""Files that hold no prompts, by how they begin, in lower case."""


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


@dataclass(frozen=True)
class Table:
    """Content of a file.

    Attributes:
        name: of the file in errors.
        columns: names in the file's order; one may be empty, as of an index that pandas wrote.
        rows: without blank lines and misfits.
        misfits: rows that do not fit the columns, as errors with file and line.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    misfits: tuple[str, ...] = ()


def read_table(content: bytes, name: str, *, header: bool = True) -> Table:
    """Read a file by its suffix; one without a known suffix by its first byte, as CSV where that tells nothing.

    Args:
        content: of the file.
        name: of the file, in errors too.
        header: whether the first line of a CSV file names its columns; without, each line is a prompt.

    Raises:
        ConceptError: it is no such file, or has no rows.
    """
    suffix = PurePosixPath(name).suffix.lower()
    read = _READERS.get(suffix) or _READERS[_GUESSES.get(content.lstrip()[:1], ".csv")]
    if suffix == _PARQUET or content.startswith(b"PAR1"):
        table = _table(_read_parquet(content, name), name)
    else:
        text = _decode(content, name)
        table = read(text, name) if header else _read_lines(text, name)
    if not table.rows and (not table.misfits or not table.columns):
        raise ConceptError("\n".join(table.misfits[:MAX_ERRORS]) or f"{name}: no prompts in it")
    return table


def _decode(content: bytes, name: str) -> str:
    for begin, what in _NO_TEXT.items():
        if content.lstrip()[: len(begin)].lower() == begin:
            raise ConceptError(f"{name} is {what}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConceptError(f"prompt set {name} cannot be read: {error}: save it as UTF-8") from None


def _read_csv(text: str, name: str, delimiter: str = ",") -> Table:
    """Read the rows of a CSV file, without blank lines.

    A row must have a cell for each column. One with more has a comma that is not quoted, and would be measured as the
    text before it. One with fewer is torn, or lacks a seed: no program that writes CSV leaves out cells.

    Raises:
        ConceptError: it is no such file.
    """
    # Strict, since otherwise a quote that is never closed swallows every prompt behind it.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    header: list[str] | None = None
    rows, misfits, line = [], [], 1
    try:
        for cells in reader:
            at, line = f"{name}:{line}", reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = _check_header(cells, at)
            elif len(cells) != len(header):
                misfits.append(f"{at}: {_describe_misfit(cells, header)}")
            else:
                rows.append(Row(at, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise ConceptError(
            f"{name}:{line}: not a readable CSV file: {error}. If each line is a prompt, say header: false, or name "
            "the file *.txt"
        ) from None
    if header is None:
        raise ConceptError(f"{name}: no column {PROMPT!r}, for the file is empty")
    return Table(name, tuple(header), tuple(rows), tuple(misfits))


def _read_tsv(text: str, name: str) -> Table:
    return _read_csv(text, name, "\t")


def _check_header(header: list[str], at: str) -> list[str]:
    """Return the names of the columns.

    Raises:
        ConceptError: a column is repeated.
    """
    if repeated := [column for column, count in Counter(header).items() if count > 1]:
        more = f" (and {len(repeated) - 1} others do)" if len(repeated) > 1 else ""
        raise ConceptError(
            f"{at}: column {short_repr(repeated[0])} stands twice{more}: keep one of each name, or say header: false "
            "where each line is a prompt"
        )
    return header


def _describe_misfit(cells: list[str], header: list[str]) -> str:
    remedy = (
        "a text with a comma in it needs quotes" if len(cells) > len(header) else "a cell left empty needs its comma"
    )
    return (
        f"{len(cells)} cells where the header has {len(header)}, in the row that begins with "
        f"{short_repr(cells[0], 40)}: {remedy}"
    )


def _read_lines(text: str, name: str) -> Table:
    """Read each line as a prompt; one that is a single quoted cell, as CSV writers leave behind, without its quotes."""
    lines = ((f"{name}:{number}", line) for number, line in enumerate(text.split("\n"), 1))
    rows = [Row(at, {PROMPT: _unquote(line.removesuffix("\r"))}) for at, line in lines if line.strip()]
    return Table(name, (PROMPT,), tuple(rows))


def _unquote(line: str) -> str:
    try:
        cells = next(csv.reader([line], strict=True))
    except csv.Error:
        return line
    return cells[0] if len(cells) == 1 else line


def _read_json(text: str, name: str) -> Table:
    """Read a list of texts or of mappings, a mapping of columns, or a mapping with such a list as its only value.

    Raises:
        ConceptError: it is none of them.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConceptError(f"{name}: not a readable JSON file: {one_line(error)}") from None
    if isinstance(data, dict) and len(data) == 1 and _is_list_of(only := next(iter(data.values())), dict):
        data = only
    elif isinstance(data, dict):
        data = _rows_of_columns(data, name)
    if not isinstance(data, list):
        raise ConceptError(f"{name} holds {short_repr(data)} where a list of prompts or of mappings belongs")
    return _table(((f"{name}[{number}]", row) for number, row in enumerate(data)), name)


def _read_json_lines(text: str, name: str) -> Table:
    """Read each line as a text or a mapping.

    Raises:
        ConceptError: a line is no JSON.
    """
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append((f"{name}:{number}", json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise ConceptError(f"{name}:{number}: not a line of JSON: {one_line(error)}") from None
    return _table(rows, name)


def _read_parquet(content: bytes, name: str) -> list[tuple[str, Any]]:
    """Read a Parquet file with pyarrow, which data sets on the Hub need and nothing else here does.

    Raises:
        ConceptError: pyarrow is not installed, or cannot read it.
    """
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ConceptError(
            f"{name} is a Parquet file, which pyarrow reads: pip install pyarrow, or give the prompts as CSV or JSON"
        ) from None
    try:
        rows = parquet.read_table(io.BytesIO(content)).to_pylist()
    except Exception as error:  # of pyarrow's own classes
        raise ConceptError(f"{name}: not a readable Parquet file: {one_line(error)}") from None
    return [(f"{name}[{number}]", row) for number, row in enumerate(rows)]


def _rows_of_columns(data: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Turn columns into rows.

    Raises:
        ConceptError: they are no lists of one length.
    """
    # pandas writes a column as a mapping from row numbers.
    columns = {key: [*value.values()] if isinstance(value, dict) else value for key, value in data.items()}
    if not columns or not all(isinstance(column, list) for column in columns.values()):
        raise ConceptError(f"{name}: a mapping in JSON must hold a list for each column; found {short_repr(data)}")
    if len({len(column) for column in columns.values()}) > 1:
        raise ConceptError(f"{name}: the columns {short_repr([*columns], 200)} are not of one length")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, kind) for each in value)


def _table(rows: Iterable[tuple[str, Any]], name: str) -> Table:
    """Turn JSON values into rows: a text is a prompt, a mapping its own cells."""
    kept, misfits = [], []
    for at, value in rows:
        if isinstance(value, str):
            kept.append(Row(at, {PROMPT: value}))
        elif isinstance(value, dict):
            kept.append(Row(at, {str(key): text for key, cell in value.items() if (text := _cell(cell)) is not None}))
        else:
            misfits.append(f"{at}: neither a text nor a mapping, but {short_repr(value, 40)}")
    columns = dict.fromkeys(column for row in kept for column in row.cells)
    return Table(name, tuple(columns), tuple(kept), tuple(misfits))


def _cell(value: object) -> str | None:
    """Text of a cell; None where it is neither text nor number, such as null."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


_READERS: Mapping[str, Callable[[str, str], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".txt": _read_lines,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
}
_PARQUET = ".parquet"
_GUESSES = {b"[": ".json", b"{": ".jsonl"}

SUFFIXES = (*_READERS, _PARQUET)
"""Suffixes of files that are read."""
