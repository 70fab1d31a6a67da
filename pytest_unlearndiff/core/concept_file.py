"""Read concepts from YAML and prompt sets from CSV, and find them by name."""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from .checks import is_count
from .concept import Concept, JudgeSpec, Prompt, Sampling, existing_path
from .errors import ConceptError

BUILT_IN = Path(__file__).resolve().parent.parent / "concepts"
_SEED = ("evaluation_seed", "seed")
_GUIDANCE = ("evaluation_guidance", "guidance_scale", "guidance")
_FIELDS = {"name", "prompts", "judge", "slots", "sampling", "source"}


def read_concept(path: Path) -> Concept:
    """Read one concept file.

    Args:
        path: a YAML file with ``name``, ``prompts`` (a CSV beside it), ``judge`` (``kind`` and its options), and
            optionally ``slots``, ``sampling`` (``steps``, ``scheduler``), ``source``.

    Raises:
        ConceptError: the file is not such a mapping, or its prompt set cannot be read.
    """
    data = _mapping(path)
    prompts, slots = data["prompts"], data.get("slots", 3)
    if not isinstance(prompts, str):
        raise ConceptError(f"{path}: prompts must name a CSV file beside it; found {prompts!r}")
    if not is_count(slots):
        raise ConceptError(f"{path}: slots={slots!r} must be a whole number of at least 1")
    return Concept(
        name=str(data.get("name") or path.name.removesuffix(".yaml")),
        prompts=tuple(read_prompts(path.parent / prompts)),
        judge=_judge(data["judge"], path),
        slots=slots,
        sampling=_sampling(data.get("sampling", {}), path),
        source=str(data.get("source") or ""),
    )


def _mapping(path: Path) -> dict[str, Any]:
    """A concept file's fields, all of them known."""
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:  # PyYAML lets a date that is none escape as ValueError
        raise ConceptError(f"{path}: not a readable YAML file: {error}") from None
    if not isinstance(data, dict) or not {"prompts", "judge"} <= set(data) <= _FIELDS:
        found = sorted(map(str, data)) if isinstance(data, dict) else type(data).__name__
        raise ConceptError(
            f"{path}: a concept is a mapping with prompts and judge, and perhaps "
            f"{', '.join(sorted(_FIELDS - {'prompts', 'judge'}))}; found {found}"
        )
    return data


def _judge(data: object, path: Path) -> JudgeSpec:
    """The judge of a concept file, with paths made absolute."""
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
        raise ConceptError(f"{path}: judge must be a mapping with a kind, such as image-classifier")
    options = {str(key): value for key, value in data.items() if key != "kind"}
    if isinstance(options.get("model"), str):
        options["model"] = existing_path(options["model"], path.parent)
    return JudgeSpec(data["kind"], options)


def _sampling(data: object, path: Path) -> Sampling:
    """The sampling settings of a concept file."""
    if not isinstance(data, dict) or not set(data) <= {"steps", "scheduler"}:
        raise ConceptError(f"{path}: sampling takes steps and scheduler; found {data!r}")
    steps, scheduler = data.get("steps", 50), data.get("scheduler", "lms")
    if not is_count(steps) or scheduler not in ("lms", "own"):
        raise ConceptError(f"{path}: sampling needs steps >= 1 and scheduler lms or own; found {data!r}")
    return Sampling(steps, scheduler)


def read_prompts(path: Path) -> list[Prompt]:
    """Read a prompt set.

    Args:
        path: a CSV file with a ``prompt`` column and, where there are such columns, ``evaluation_seed`` (or ``seed``;
            else the row number), ``evaluation_guidance`` (or ``guidance_scale``; else 7.5) and ``case_number`` (else
            the row number). Other columns are ignored.

    Raises:
        ConceptError: no such file, no ``prompt`` column, no rows, or a cell that is not the number it should be.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConceptError(f"prompt set {path} cannot be read: {error}") from None
    # Strict, since otherwise a quote that is never closed swallows every prompt behind it.
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if "prompt" not in (reader.fieldnames or ()):
            raise ConceptError(f"{path}: no column 'prompt'; found {reader.fieldnames}")
        prompts = [_row(row, number, path) for number, row in enumerate(reader)]
    except csv.Error as error:
        raise ConceptError(f"{path}: not a readable CSV file near line {reader.line_num}: {error}") from None
    if not prompts:
        raise ConceptError(f"{path}: no prompts in it")
    return prompts


def _row(row: Mapping[str, str | None], number: int, path: Path) -> Prompt:
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


def _whole(row: Mapping[str, str | None], columns: tuple[str, ...], number: int, path: Path) -> int:
    """The first of these columns that the row fills, as a whole number; the row's own number where it fills none."""
    value = _number(row, columns, number, path, default=Decimal(number))
    if value != value.to_integral_value():
        raise ConceptError(f"{path}: row {number} has {columns[0]}={value}, which is not a whole number")
    return int(value)


def _number(
    row: Mapping[str, str | None], columns: tuple[str, ...], number: int, path: Path, default: Decimal
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


class ConceptLibrary:
    """Finds concepts by name: in the given places first, then among the built-in ones."""

    def __init__(self, places: Iterable[Path]) -> None:
        self._places = [*places, BUILT_IN]

    def find(self, name: str) -> Concept:
        """Read the first concept of this name.

        Raises:
            ConceptError: there is none; the message names the nearest ones.
        """
        files = dict(self._files())
        if name in files:
            return read_concept(files[name])
        near = difflib.get_close_matches(name, files, n=3)
        known = ", ".join(sorted(files)) or "none"
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {known}."
        raise ConceptError(
            f"no concept {name!r}: {hint} Concepts are *.yaml files in a concepts folder beside the tests, "
            "or in the places that ini option unlearndiff_concepts lists"
        )

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Concept files by name; later places do not hide earlier ones."""
        seen: dict[str, Path] = {}
        for place in self._places:
            for path in sorted(place.glob("*.yaml")) if place.is_dir() else [place] if place.is_file() else []:
                seen.setdefault(path.name.removesuffix(".yaml"), path)
        return iter(seen.items())
