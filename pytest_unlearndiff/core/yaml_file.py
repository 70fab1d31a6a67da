"""YAML files whose values know their lines, so that errors can name them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConceptError, one_line
from .untrusted import YAML_BYTES, hint, printable, read_bytes, short_repr

if TYPE_CHECKING:
    from yaml import ScalarEvent

Place = tuple[str | int, ...]
"""Keys and indices that lead to a value from the top."""


@dataclass(frozen=True)
class YamlFile:
    """Content of a YAML file.

    Attributes:
        path: the file.
        data: the content as builtin types.
        lines: line of each value by place, counted from 1.
    """

    path: Path
    data: Any
    lines: Mapping[Place, int]

    def at(self, *place: str | int) -> str:
        """Name the line of a value, or of the mapping it is missing from, such as ``church.yaml:7``."""
        return f"{self.path}:{self.line(*place)}"

    def overlaid(self, *place: str, without: Collection[str]) -> YamlFile:
        """Return the file with the fields of the mapping at a place instead of its own.

        Args:
            place: of the mapping.
            without: own fields that the result does not have.
        """
        data = self.data
        for step in place:
            data = data[step]
        lines = {
            where[len(place) :]: line for where, line in self.lines.items() if where[: len(place)] == place != where
        }
        kept = {name: value for name, value in self.data.items() if name not in without}
        return YamlFile(self.path, {**kept, **data}, {**self.lines, **lines})

    def line(self, *place: str | int) -> int:
        """Line of a value, or of the mapping it is missing from."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def mapping(
        self, *place: str | int, label: str, fields: Collection[str], required: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return the mapping at a place, which has these fields and no others.

        Args:
            place: keys and indices that lead to it.
            label: its name in errors, such as ``a prompt set``.
            fields: all names it may have.
            required: names it must have.

        Raises:
            ConceptError: it is no mapping, has other fields, or lacks required ones; one per line.
        """
        data = self.data
        for step in place:
            data = data[step]
        if not isinstance(data, dict):
            raise ConceptError(
                f"{self.at(*place)}: {label} is a mapping with {', '.join(fields)}; found {short_repr(data)}"
            )
        errors = [
            f"{self.at(*place, str(name))}: {label} has no field {short_repr(name)}: {hint(str(name), fields)}"
            for name in data
            if name not in fields
        ]
        if missing := [name for name in required if name not in data]:
            errors.append(f"{self.at(*place)}: {label} needs {' and '.join(missing)}; it has {', '.join(fields)}")
        if errors:
            raise ConceptError("\n".join(errors))
        return data


class Keywords(YamlFile):
    """Keywords of a marker, which have no lines: errors name the keyword."""

    def at(self, *place: str | int) -> str:
        """Name a value, such as ``prompts.column``."""
        return ".".join(map(str, place)) or str(self.path)


_MAX_VALUES = 20_000
"""Values in a file, counting an alias as all it stands for; a gate of ten keywords has 21."""
_MAX_DEPTH = 30
_MAX_NUMBER_LENGTH = 100
"""Characters of a number; the time to read one grows with the square of its length."""
_LIKE_NUMBER = re.compile(r"[-+]?[0-9A-Fa-fx_.:]+")


def read_yaml(path: Path) -> YamlFile:
    """Read one YAML document.

    Raises:
        ConceptError: it cannot be read, is no YAML, repeats a key, or holds more than any such file needs, as when a
            few aliases stand for millions of values; the message names the line.
    """
    import yaml

    try:
        text = read_bytes(path, YAML_BYTES).decode("utf-8-sig")
        _check_size(text, path)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        lines = dict(_lines(node, (), path, set())) if node is not None else {}
        return YamlFile(path, loader.construct_document(node) if node is not None else None, lines)
    except ConceptError:
        raise
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise ConceptError(f"{path}{line}: not a readable YAML file: {printable(str(error.problem))}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConceptError(f"{path}: not a readable YAML file: {one_line(error)}") from None
    # PyYAML lets these escape where a value is not what its tag says, as in "!!bool x" and "!!timestamp x".
    except (AttributeError, LookupError, TypeError, ArithmeticError) as error:
        raise ConceptError(
            f"{path}: not a readable YAML file: a value does not fit its tag ({one_line(error)})"
        ) from None


def _check_size(text: str, path: Path) -> None:
    """Refuse content that would grow beyond any use, before it is constructed.

    Raises:
        ConceptError: names the line.
    """
    import yaml

    anchored: dict[str, int] = {}
    open_anchors: list[str | None] = []
    sizes = [0]
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        at = f"{path}:{event.start_mark.line + 1 if event.start_mark is not None else 1}"
        match event:
            case yaml.CollectionStartEvent():
                open_anchors.append(event.anchor)
                sizes.append(0)
                if len(open_anchors) > _MAX_DEPTH:
                    raise ConceptError(f"{at}: nested in more than {_MAX_DEPTH} levels")
                continue
            case yaml.CollectionEndEvent():
                anchor, size = open_anchors.pop(), sizes.pop() + 1
            case yaml.AliasEvent():
                if event.anchor in open_anchors:
                    raise ConceptError(f"{at}: {short_repr(event.anchor)} refers to itself")
                anchor, size = None, anchored.get(str(event.anchor), 1)
            case yaml.ScalarEvent():
                anchor, size = event.anchor, 1
                if len(event.value) > _MAX_NUMBER_LENGTH and _is_number(event):
                    raise ConceptError(f"{at}: a number of {len(event.value):,} characters")
            case _:
                continue
        sizes[-1] += size
        if anchor is not None:
            anchored[anchor] = size
        if sum(sizes) > _MAX_VALUES:
            raise ConceptError(f"{at}: more than {_MAX_VALUES:,} values, with all that aliases stand for")


def _is_number(event: ScalarEvent) -> bool:
    if event.tag is not None:
        return event.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
    return bool(event.implicit[0] and _LIKE_NUMBER.fullmatch(event.value))


def _lines(node: Any, place: Place, path: Path, seen: set[int]) -> Iterator[tuple[Place, int]]:
    """Yield the lines of a node and of all below it; a node that aliases repeat is followed once."""
    yield place, node.start_mark.line + 1
    if id(node) in seen or isinstance(node.value, str):
        return
    seen.add(id(node))
    names: set[str] = set()
    for index, child in enumerate(node.value):
        if not isinstance(child, tuple):
            yield from _lines(child, (*place, index), path, seen)
            continue
        key, value = child
        line = key.start_mark.line + 1
        if isinstance(key.value, str):
            if key.value in names:
                raise ConceptError(f"{path}:{line}: {printable(key.value)} is given twice")
            names.add(key.value)
        below = dict(_lines(value, (*place, str(key.value)), path, seen))
        yield from (below | {(*place, str(key.value)): line}).items()
