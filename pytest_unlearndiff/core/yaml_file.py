"""A YAML file whose values know their lines, so that errors can name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checks import hint
from .errors import ConceptError, one_line

Place = tuple[str | int, ...]
"""Where a value stands: keys and indices from the top."""


@dataclass(frozen=True)
class YamlFile:
    """What a file holds.

    Attributes:
        path: the file.
        data: builtin types.
        lines: by place, counted from 1.
    """

    path: Path
    data: Any
    lines: Mapping[Place, int]

    def at(self, *place: str | int) -> str:
        """``church.yaml:7``, the line of a value, or of what it should stand in."""
        return f"{self.path}:{self.line(*place)}"

    def line(self, *place: str | int) -> int:
        """The line of a value, or of what it should stand in."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def read_yaml(path: Path) -> YamlFile:
    """Read one YAML document.

    Raises:
        ConceptError: it cannot be read, is no YAML, or gives a key twice; the message names the line.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        lines = dict(_lines(node, (), path, set())) if node is not None else {}
        return YamlFile(path, loader.construct_document(node) if node is not None else None, lines)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise ConceptError(f"{path}{line}: not a readable YAML file: {error.problem}") from None
    # PyYAML lets a date that is none escape as ValueError, and nesting without end as RecursionError.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        if isinstance(error, ConceptError):
            raise
        raise ConceptError(f"{path}: not a readable YAML file: {one_line(error)}") from None


def _lines(node: Any, place: Place, path: Path, seen: set[int]) -> Iterator[tuple[Place, int]]:
    """The lines of a node and of all below it; a node that aliases repeat is followed once."""
    yield place, node.start_mark.line + 1
    if id(node) in seen or isinstance(node.value, str):
        return
    seen.add(id(node))
    for index, child in enumerate(node.value):
        if not isinstance(child, tuple):
            yield from _lines(child, (*place, index), path, seen)
            continue
        key, value = child
        line = key.start_mark.line + 1
        if any(other.value == key.value for other, _ in node.value[:index] if isinstance(key.value, str)):
            raise ConceptError(f"{path}:{line}: {key.value} is given twice")
        below = dict(_lines(value, (*place, str(key.value)), path, seen))
        yield from (below | {(*place, str(key.value)): line}).items()


def fields_of(
    file: YamlFile, data: object, place: tuple[str, ...], known: tuple[str, ...], needed: tuple[str, ...], what: str
) -> dict[str, Any]:
    """A mapping with these fields.

    Raises:
        ConceptError: it is none, has others, or lacks needed ones; one a line.
    """
    if not isinstance(data, dict):
        raise ConceptError(f"{file.at(*place)}: {what} is a mapping with {', '.join(known)}; found {data!r:.60}")
    mistakes = [
        f"{file.at(*place, str(name))}: {what} has no field {name!r}: {hint(str(name), known)}"
        for name in data
        if name not in known
    ]
    if lacking := [name for name in needed if name not in data]:
        mistakes.append(f"{file.at(*place)}: {what} needs {' and '.join(lacking)}; it has {', '.join(known)}")
    if mistakes:
        raise ConceptError("\n".join(mistakes))
    return data
