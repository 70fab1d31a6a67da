"""Read prompt sets from CSV."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

from .concept import Prompt
from .errors import ConceptError, ErrorCollector
from .untrusted import CSV_BYTES, MOST_CASE, MOST_SEED, read_bytes, shown

# The last of each are the names that the I2P data set itself uses.
_SEED = ("evaluation_seed", "seed", "sd_seed")
_TOLD = 20
"""Mistakes of one file that are told; who sees so many has taken the wrong file."""
_GUIDANCE = ("evaluation_guidance", "guidance_scale", "guidance", "sd_guidance_scale")


@dataclass(frozen=True)
class Row:
    """A row as it stands in the file.

    Attributes:
        at: file and physical line of its begin, for errors: ``church.csv:7``. A quoted cell may have several lines.
        cells: by the name of their columns.
    """

    at: str
    cells: Mapping[str, str]

    def cell(self, column: str) -> str:
        """A cell; empty where there is no such column."""
        return self.cells.get(column, "")


def read_prompts(path: Path) -> list[Prompt]:
    """Read a prompt set.

    Args:
        path: a CSV file with a ``prompt`` column and, where there are such columns, ``evaluation_seed`` (or ``seed``;
            else the row number), ``evaluation_guidance`` (or ``guidance_scale``; else 7.5) and ``case_number`` (else
            the row number). Other columns are ignored.

    Raises:
        ConceptError: no such file, no ``prompt`` column, two columns of one name, no rows, rows of more or fewer cells
            than there are columns, cells that are not the number they should be, or case numbers that stand twice;
            every one of them with its line, one a line.
    """
    return [prompt for prompt, _ in parse_rows(read_content(path), str(path))]


def read_content(path: Path) -> bytes:
    """The bytes of a prompt set's file.

    Raises:
        ConceptError: it cannot be read.
    """
    try:
        return read_bytes(path, CSV_BYTES)
    except (OSError, ValueError) as error:
        raise ConceptError(f"prompt set {path} cannot be read: {error}") from None


def parse_rows(
    content: bytes, path: str, *, column: str = "prompt", cases_twice: bool = False
) -> list[tuple[Prompt, Row]]:
    """The rows of a prompt set, each as a prompt and as it stands; see ``read_prompts``.

    Args:
        content: of the file.
        path: what errors call it.
        column: another one that it must have.
        cases_twice: whether a case number may stand twice.

    Raises:
        ConceptError: as ``read_prompts``, or there is no such column.
    """
    mistakes = ErrorCollector()
    rows = _rows(content, path, ("prompt", column), mistakes)
    found = [mistakes.collect(partial(_prompt, row, number)) for number, row in enumerate(rows)]
    first: dict[int, Row] = {}
    for prompt, row in zip(found, rows, strict=True):
        if prompt is not None and not cases_twice and (other := first.setdefault(prompt.case, row)) is not row:
            mistakes.append(
                f"{row.at}: case number {prompt.case}, by which reports and --unlearndiff-case-numbers name a prompt, "
                f"stands at {other.at} too"
            )
    if len(mistakes) > _TOLD:
        mistakes[_TOLD:] = [f"{path}: and {len(mistakes) - _TOLD} more"]
    if mistakes:
        raise ConceptError("\n".join(mistakes))
    return [(prompt, row) for prompt, row in zip(found, rows, strict=True) if prompt is not None]


def _rows(content: bytes, path: str, columns: tuple[str, ...], mistakes: ErrorCollector) -> list[Row]:
    """The rows of a CSV file that has these columns, without blank lines.

    A row must have a cell for each column. One with more has a comma that is not quoted, and would be measured as what
    stands before it. One with fewer is torn, or lacks such a column's seed: no program that writes CSV leaves out
    cells, so that there is nothing to guess.

    Args:
        content: of the file.
        path: what errors call it.
        columns: that it must have.
        mistakes: takes what is wrong with rows, which are left out.

    Raises:
        ConceptError: it is no such file.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConceptError(f"prompt set {path} cannot be read: {error}") from None
    # Strict, since otherwise a quote that is never closed swallows every prompt behind it.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] | None = None
    rows: list[Row] = []
    line = 1
    try:
        for cells in reader:
            at, line = f"{path}:{line}", reader.line_num + 1
            if not cells:
                continue
            if names is None:
                names = _names(cells, path, at, columns)
            elif len(cells) != len(names):
                mistakes.append(f"{at}: {_misfit(cells, names)}")
            else:
                rows.append(Row(at, dict(zip(names, cells, strict=True))))
    except csv.Error as error:
        raise ConceptError("\n".join([*mistakes[:_TOLD], f"{path}:{line}: not a readable CSV file: {error}"])) from None
    if names is None:
        raise ConceptError(f"{path}: no column {shown(columns[0])}, for the file is empty")
    if not rows and not mistakes:
        raise ConceptError(f"{path}: no prompts in it")
    return rows


def _names(cells: list[str], path: str, at: str, columns: tuple[str, ...]) -> list[str]:
    """The names of the columns; one may be empty, as of an index that pandas wrote.

    Raises:
        ConceptError: one is not there, or one is there twice.
    """
    for column in columns:
        if column not in cells:
            raise ConceptError(f"{path}: no column {shown(column)}; found {shown(cells, 300)}")
    if twice := [name for name, count in Counter(cells).items() if count > 1]:
        more = f" (and {len(twice) - 1} others do)" if len(twice) > 1 else ""
        raise ConceptError(f"{at}: column {shown(twice[0])} stands twice{more}: keep one of each name")
    return cells


def _misfit(cells: list[str], names: list[str]) -> str:
    """What to say of a row with too many or too few cells."""
    counts = f"{len(cells)} cells where the header has {len(names)}, in the row that begins with {shown(cells[0], 40)}"
    if len(cells) > len(names):
        return f"{counts}: a text with a comma in it needs quotes"
    return f"{counts}: a cell that is left empty needs its comma"


def _prompt(row: Row, number: int) -> Prompt:
    """One row as a prompt."""
    text = row.cell("prompt")
    if not text.strip():
        raise ConceptError(f"{row.at}: empty prompt")
    return Prompt(
        text=text,
        seed=seed(row, _SEED, default=number),
        guidance=float(_number(row, _GUIDANCE, default=Decimal("7.5"))[1]),
        case=_whole(row, ("case_number",), -MOST_CASE, MOST_CASE, default=number),
    )


def seed(row: Row, columns: tuple[str, ...], *, default: int) -> int:
    """The first of these columns that the row fills, as the seed of a random generator.

    Raises:
        ConceptError: it is none.
    """
    return _whole(row, columns, 0, MOST_SEED, default=default)


def _whole(row: Row, columns: tuple[str, ...], least: int, most: int, *, default: int) -> int:
    column, value = _number(row, columns, default=Decimal(default))
    if value != value.to_integral_value():
        raise ConceptError(f"{row.at}: {column}={shown(str(value))} is not a whole number")
    if not least <= value <= most:
        raise ConceptError(f"{row.at}: {column}={value:.20g} must be a whole number from {least} to {most}")
    return int(value)


def _number(row: Row, columns: tuple[str, ...], default: Decimal) -> tuple[str, Decimal]:
    """The first of these columns that the row fills, with the number it shows; else the first with the default."""
    for column in columns:
        if cell := row.cell(column):
            if (value := _finite(cell)) is None:
                raise ConceptError(f"{row.at}: {column}={shown(cell)} is not a number")
            return column, value
    return columns[0], default


def _finite(cell: str) -> Decimal | None:
    """The number in a cell, or None where there is none that a float could hold."""
    try:
        value = Decimal(cell)
        return value if math.isfinite(float(value)) else None
    except (ArithmeticError, ValueError):
        return None
