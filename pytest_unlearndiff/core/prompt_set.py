"""Read prompt sets from CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path

from .concept import Prompt
from .errors import ConceptError, Mistakes

# The last of each are the names that the I2P data set itself uses.
_SEED = ("evaluation_seed", "seed", "sd_seed")
_TOLD = 20
"""Mistakes of one file that are told; who sees so many has taken the wrong file."""
_GUIDANCE = ("evaluation_guidance", "guidance_scale", "guidance", "sd_guidance_scale")

Row = Mapping[str, str | None]
"""A row by the names of its columns."""


def read_prompts(path: Path) -> list[Prompt]:
    """Read a prompt set.

    Args:
        path: a CSV file with a ``prompt`` column and, where there are such columns, ``evaluation_seed`` (or ``seed``;
            else the row number), ``evaluation_guidance`` (or ``guidance_scale``; else 7.5) and ``case_number`` (else
            the row number). Other columns are ignored.

    Raises:
        ConceptError: no such file, no ``prompt`` column, no rows, cells that are not the number they should be, or case
            numbers that stand twice; every one of them, one a line.
    """
    return [prompt for prompt, _ in parse_rows(read_content(path), str(path))]


def read_content(path: Path) -> bytes:
    """The bytes of a prompt set's file.

    Raises:
        ConceptError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
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
    rows = _rows(content, path, ("prompt", column))
    mistakes = Mistakes()
    found = [mistakes.collect(partial(_row, row, number, path)) for number, row in enumerate(rows)]
    first: dict[int, int] = {}
    for number, prompt in enumerate(found):
        if prompt is not None and first.setdefault(prompt.case, number) != number and not cases_twice:
            mistakes.append(
                f"{path}: rows {first[prompt.case]} and {number} have the same case number {prompt.case}, by which "
                "reports and --unlearndiff-cases name a prompt"
            )
    if len(mistakes) > _TOLD:
        mistakes[_TOLD:] = [f"{path}: and {len(mistakes) - _TOLD} more"]
    if mistakes:
        raise ConceptError("\n".join(mistakes))
    return [(prompt, row) for prompt, row in zip(found, rows, strict=True) if prompt is not None]


def _rows(content: bytes, path: str, columns: tuple[str, ...]) -> list[Row]:
    """The rows of a CSV file that has these columns."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConceptError(f"prompt set {path} cannot be read: {error}") from None
    # Strict, since otherwise a quote that is never closed swallows every prompt behind it.
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for column in columns:
            if column not in (reader.fieldnames or ()):
                raise ConceptError(f"{path}: no column {column!r}; found {reader.fieldnames}")
        rows: list[Row] = list(reader)
    except csv.Error as error:
        raise ConceptError(f"{path}: not a readable CSV file near line {reader.line_num}: {error}") from None
    if not rows:
        raise ConceptError(f"{path}: no prompts in it")
    return rows


def _row(row: Row, number: int, path: str) -> Prompt:
    """One row as a prompt."""
    text = row["prompt"]
    if not text or not text.strip():
        raise ConceptError(f"{path}: row {number} has an empty prompt")
    return Prompt(
        text=text,
        seed=whole(row, _SEED, number, path, default=number),
        guidance=float(_number(row, _GUIDANCE, number, path, default=Decimal("7.5"))),
        case=whole(row, ("case_number",), number, path, default=number),
    )


def whole(row: Row, columns: tuple[str, ...], number: int, path: str, *, default: int) -> int:
    """The first of these columns that the row fills, as a whole number.

    Raises:
        ConceptError: it is none.
    """
    value = _number(row, columns, number, path, default=Decimal(default))
    if value != value.to_integral_value():
        raise ConceptError(f"{path}: row {number} has {columns[0]}={value}, which is not a whole number")
    return int(value)


def _number(row: Row, columns: tuple[str, ...], number: int, path: str, default: Decimal) -> Decimal:
    """The first of these columns that the row fills, as the number it shows."""
    for column in columns:
        if cell := row.get(column):
            if (value := _finite(cell)) is None:
                raise ConceptError(f"{path}: row {number} has {column}={cell!r}, which is not a number")
            return value
    return default


def _finite(cell: str) -> Decimal | None:
    """The number in a cell, or None where there is none that a float could hold."""
    try:
        value = Decimal(cell)
        return value if math.isfinite(float(value)) else None
    except (ArithmeticError, ValueError):
        return None
