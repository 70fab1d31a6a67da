"""Read concepts from YAML and prompt sets from CSV, and find them by name."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

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
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConceptError(f"{path}: not a readable YAML file: {error}") from None
    if not isinstance(data, dict) or not {"prompts", "judge"} <= set(data) <= _FIELDS:
        found = sorted(map(str, data)) if isinstance(data, dict) else type(data).__name__
        raise ConceptError(
            f"{path}: a concept is a mapping with prompts and judge, and perhaps "
            f"{', '.join(sorted(_FIELDS - {'prompts', 'judge'}))}; found {found}"
        )
    slots = data.get("slots", 3)
    if not isinstance(slots, int) or slots < 1:
        raise ConceptError(f"{path}: slots={slots!r} must be a whole number of at least 1")
    return Concept(
        name=str(data.get("name", path.name.removesuffix(".yaml"))),
        prompts=tuple(read_prompts(path.parent / str(data["prompts"]))),
        judge=_judge(data["judge"], path),
        slots=slots,
        sampling=_sampling(data.get("sampling", {}), path),
        source=str(data.get("source", "")),
    )


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
    if not isinstance(steps, int) or steps < 1 or scheduler not in ("lms", "own"):
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
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if "prompt" not in (reader.fieldnames or ()):
        raise ConceptError(f"{path}: no column 'prompt'; found {reader.fieldnames}")
    try:
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
        seed=int(_number(row, _SEED, number, path, default=number)),
        guidance=float(_number(row, _GUIDANCE, number, path, default=7.5)),
        case=int(_number(row, ("case_number",), number, path, default=number)),
    )


def _number(row: Mapping[str, str | None], columns: tuple[str, ...], number: int, path: Path, default: float) -> float:
    """The first of these columns that the row fills, as a number."""
    for column in columns:
        if cell := row.get(column):
            try:
                return int(cell) if cell.lstrip("-").isdigit() else float(cell)
            except ValueError:
                raise ConceptError(f"{path}: row {number} has {column}={cell!r}, which is not a number") from None
    return default


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
