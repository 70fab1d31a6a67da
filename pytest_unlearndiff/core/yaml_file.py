"""A YAML file whose values know their lines, so that errors can name them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checks import hint
from .errors import ConceptError, one_line
from .untrusted import YAML_BYTES, printable, read_bytes, shown

if TYPE_CHECKING:
    from yaml import ScalarEvent

GpuSlot = tuple[str | int, ...]
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
    lines: Mapping[GpuSlot, int]

    def at(self, *place: str | int) -> str:
        """``church.yaml:7``, the line of a value, or of what it should stand in."""
        return f"{self.path}:{self.line(*place)}"

    def line(self, *place: str | int) -> int:
        """The line of a value, or of what it should stand in."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


_NODES = 20_000
"""Values in a file, with all that an alias stands for: a gate of ten keywords has 21."""
_DEPTH = 30
_NUMBER = 100
"""Characters of a number; the time it takes to read one grows with the square of its length."""
_LIKE_NUMBER = re.compile(r"[-+]?[0-9A-Fa-fx_.:]+")


def read_yaml(path: Path) -> YamlFile:
    """Read one YAML document.

    Raises:
        ConceptError: it cannot be read, is no YAML, gives a key twice, or has more in it than any such file needs, as
            where few lines stand for millions of values; the message names the line.
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
    """Refuse what would grow beyond any use, before anything is made of it.

    Raises:
        ConceptError: names the line.
    """
    import yaml

    whole: dict[str, int] = {}
    around: list[str | None] = []
    sizes = [0]
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        at = f"{path}:{event.start_mark.line + 1 if event.start_mark is not None else 1}"
        match event:
            case yaml.CollectionStartEvent():
                around.append(event.anchor)
                sizes.append(0)
                if len(around) > _DEPTH:
                    raise ConceptError(f"{at}: nested in more than {_DEPTH} levels")
                continue
            case yaml.CollectionEndEvent():
                anchor, size = around.pop(), sizes.pop() + 1
            case yaml.AliasEvent():
                if event.anchor in around:
                    raise ConceptError(f"{at}: {shown(event.anchor)} refers to itself")
                anchor, size = None, whole.get(str(event.anchor), 1)
            case yaml.ScalarEvent():
                anchor, size = event.anchor, 1
                if len(event.value) > _NUMBER and _is_number(event):
                    raise ConceptError(f"{at}: a number of {len(event.value):,} characters")
            case _:
                continue
        sizes[-1] += size
        if anchor is not None:
            whole[anchor] = size
        if sum(sizes) > _NODES:
            raise ConceptError(f"{at}: more than {_NODES:,} values, with all that aliases stand for")


def _is_number(event: ScalarEvent) -> bool:
    if event.tag is not None:
        return event.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
    return bool(event.implicit[0] and _LIKE_NUMBER.fullmatch(event.value))


def _lines(node: Any, place: GpuSlot, path: Path, seen: set[int]) -> Iterator[tuple[GpuSlot, int]]:
    """The lines of a node and of all below it; a node that aliases repeat is followed once."""
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


def fields_of(
    file: YamlFile, data: object, place: tuple[str, ...], known: tuple[str, ...], needed: tuple[str, ...], what: str
) -> dict[str, Any]:
    """A mapping with these fields.

    Raises:
        ConceptError: it is none, has others, or lacks needed ones; one a line.
    """
    if not isinstance(data, dict):
        raise ConceptError(f"{file.at(*place)}: {what} is a mapping with {', '.join(known)}; found {shown(data)}")
    mistakes = [
        f"{file.at(*place, str(name))}: {what} has no field {shown(name)}: {hint(str(name), known)}"
        for name in data
        if name not in known
    ]
    if lacking := [name for name in needed if name not in data]:
        mistakes.append(f"{file.at(*place)}: {what} needs {' and '.join(lacking)}; it has {', '.join(known)}")
    if mistakes:
        raise ConceptError("\n".join(mistakes))
    return data
