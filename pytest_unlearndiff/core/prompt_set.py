"""Read prompt sets from CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from .concept import Prompt
from .errors import ConceptError

# The last of each are the names that the I2P data set itself uses.
_SEED = ("evaluation_seed", "seed", "sd_seed")
_GUIDANCE = ("evaluation_guidance", "guidance_scale", "guidance", "sd_guidance_scale")


def read_prompts(path: Path) -> list[Prompt]:
    """Read a prompt set.

    Args:
        path: a CSV file with a ``prompt`` column and, where there are such columns, ``evaluation_seed`` (or ``seed``;
            else the row number), ``evaluation_guidance`` (or ``guidance_scale``; else 7.5) and ``case_number`` (else
            the row number). Other columns are ignored.

    Raises:
        ConceptError: no such file, no ``prompt`` column, no rows, a cell that is not the number it should be, or a case
            number that stands twice.
    """
    return parse_prompts(read_content(path), str(path))


def read_content(path: Path) -> bytes:
    """The bytes of a prompt set's file.

    Raises:
        ConceptError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConceptError(f"prompt set {path} cannot be read: {error}") from None


def parse_prompts(content: bytes, path: str) -> list[Prompt]:
    """The same of a file's bytes, which errors name by ``path``.

    Raises:
        ConceptError: as ``read_prompts``.
    """
    return [prompt for prompt, _ in parse_rows(content, path)]


def parse_rows(content: bytes, path: str, column: str | None = None) -> list[tuple[Prompt, str]]:
    """Prompts, each with what its row has in another column; with nothing where none is asked for.

    Raises:
        ConceptError: as ``read_prompts``, or there is no such column.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConceptError(f"prompt set {path} cannot be read: {error}") from None
    # Strict, since otherwise a quote that is never closed swallows every prompt behind it.
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if "prompt" not in (reader.fieldnames or ()):
            raise ConceptError(f"{path}: no column 'prompt'; found {reader.fieldnames}")
        if column is not None and column not in (reader.fieldnames or ()):
            raise ConceptError(f"{path}: no column {column!r}; found {reader.fieldnames}")
        rows = [(_row(row, number, path), row.get(column or "") or "") for number, row in enumerate(reader)]
    except csv.Error as error:
        raise ConceptError(f"{path}: not a readable CSV file near line {reader.line_num}: {error}") from None
    if not rows:
        raise ConceptError(f"{path}: no prompts in it")
    first: dict[int, int] = {}
    for number, (prompt, _) in enumerate(rows):
        if first.setdefault(prompt.case, number) != number:
            raise ConceptError(
                f"{path}: rows {first[prompt.case]} and {number} have the same case number {prompt.case}, by which "
                "reports and --unlearndiff-cases name a prompt"
            )
    return rows


def _row(row: Mapping[str, str | None], number: int, path: str) -> Prompt:
    """One row as a prompt."""
    text = row["prompt"]
    if not text or not text.strip():
        raise ConceptError(f"{path}: row {number} has an empty prompt")
    return Prompt(
        text=text,
        seed=_whole(row, _SEED, number, path),
        guidance=float(_number(row, _GUIDANCE, number, path, default=Decimal("7.5"))),
        case=_whole(row, ("case_number",), number, path),
    )


def _whole(row: Mapping[str, str | None], columns: tuple[str, ...], number: int, path: str) -> int:
    """The first of these columns that the row fills, as a whole number; the row's own number where it fills none."""
    value = _number(row, columns, number, path, default=Decimal(number))
    if value != value.to_integral_value():
        raise ConceptError(f"{path}: row {number} has {columns[0]}={value}, which is not a whole number")
    return int(value)


def _number(
    row: Mapping[str, str | None], columns: tuple[str, ...], number: int, path: str, default: Decimal
) -> Decimal:
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
