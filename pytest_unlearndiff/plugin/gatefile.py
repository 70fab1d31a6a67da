"""Gates without Python: ``*.unlearndiff.yaml`` files, each gate a test item."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ..core.errors import ASRExceeded, GateError, RetentionLost, UnlearnDiffError
from .attack import AttackFixture
from .markers import read_request
from .retention import RetentionFixture, read_retention
from .retention_hooks import MARK
from .session import state_of

SUFFIX = ".unlearndiff.yaml"
_DEFAULTS = ("model", "base")
_SECTIONS = {"gates": "unlearndiff", "retains": MARK}


@dataclass(frozen=True)
class FileGate:
    """One gate of a file.

    Attributes:
        name: of the test item.
        line: where it begins, from 1.
        keywords: as the marker's.
        mark: the marker it stands for: ``unlearndiff``, or ``unlearndiff_retains``.
    """

    name: str
    line: int
    keywords: dict[str, Any]
    mark: str = "unlearndiff"


def read_gates(path: Path) -> list[FileGate]:
    """Read a gate file.

    Args:
        path: a YAML mapping with ``gates`` (name to the ``unlearndiff`` marker's keywords; the concept is the name
            where it is not given), ``retains`` (the same for ``unlearndiff_retains``) and, for gates that do not say,
            ``model`` and ``base``, relative to the file.

    Raises:
        GateError: it is not such a mapping; the message has the line.
    """
    import yaml

    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        fields = dict(_mapping(root, path.name, "a gate file"))
        if unknown := [key for key in fields if key not in (*_SECTIONS, *_DEFAULTS)]:
            raise GateError(
                f"{_at(path.name, fields[unknown[0]])}: {unknown[0]!r} is not one of gates, retains, model, base"
            )
        if not any(section in fields for section in _SECTIONS):
            raise GateError(f"{path.name}:1: no gates in it: write gates, then a name and its limits, as in church")
        defaults = {name: _value(fields[name]) for name in _DEFAULTS if name in fields}
        return [
            replace(_gate(key, node, defaults, path.name), mark=mark)
            for section, mark in _SECTIONS.items()
            if section in fields
            for key, node in _pairs(fields[section], path.name, section)
        ]
    except yaml.MarkedYAMLError as error:
        where = f"{path.name}:{error.problem_mark.line + 1}" if error.problem_mark else path.name
        raise GateError(f"{where}: not readable as YAML: {error.problem}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GateError(f"{path.name}: not a readable YAML file: {error}") from None


def _gate(key: Any, node: Any, defaults: dict[str, Any], file: str) -> FileGate:
    name = str(key.value)
    keywords = {keyword: _value(value) for keyword, value in _mapping(node, file, f"gate {name!r}")}
    return FileGate(name, key.start_mark.line + 1, {"concept": name, **defaults, **keywords})


def _mapping(node: Any, file: str, what: str) -> Iterator[tuple[str, Any]]:
    """Keys and value nodes of a mapping."""
    return ((str(key.value), value) for key, value in _pairs(node, file, what))


def _pairs(node: Any, file: str, what: str) -> Iterator[tuple[Any, Any]]:
    """Key and value nodes of a mapping, none of the keys twice."""
    import yaml

    if not isinstance(node, yaml.MappingNode):
        where = _at(file, node) if node is not None else file
        raise GateError(f"{where}: {what} must be a mapping, such as church: {{max_asr: 10%}}")
    seen = set()
    for key, value in node.value:
        if key.value in seen:
            raise GateError(f"{_at(file, key)}: {key.value!r} stands there twice")
        seen.add(key.value)
        yield key, value


def _value(node: Any) -> Any:
    import yaml

    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _at(file: str, node: Any) -> str:
    return f"{file}:{node.start_mark.line + 1}"


class GateFile(pytest.Module):
    """A gate file as a module of tests, so that conftest fixtures, ``-k`` and workers do what they always do."""

    def _getobj(self) -> ModuleType:
        return ModuleType(self.path.stem)

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """One item a gate; every mistake of the file at once.

        Raises:
            CollectError: with file and line.
        """
        try:
            gates = read_gates(self.path)
        except GateError as error:
            raise self.CollectError(str(error)) from None
        if mistakes := [text for gate in gates if (text := self._mistakes(gate))]:
            raise self.CollectError("\n".join(mistakes))
        return [
            GateItem.from_parent(
                self,
                name=gate.name if gate.mark != MARK else f"retains-{gate.name}",
                callobj=_keep if gate.mark == MARK else _attack,
                gate=gate,
            )
            for gate in gates
        ]

    def _mistakes(self, gate: FileGate) -> str:
        state, folder = state_of(self.config), self.path.parent
        try:
            read = read_retention if gate.mark == MARK else read_request
            read(gate.keywords, state.settings, state.library(folder), folder)
        except GateError as error:
            return "\n".join(f"{self.path.name}:{gate.line}: {gate.name}: {line}" for line in str(error).split("\n"))
        return ""


def _attack(unlearndiff_attack: AttackFixture) -> None:
    unlearndiff_attack()


def _keep(unlearndiff_retention: RetentionFixture) -> None:
    unlearndiff_retention()


class GateItem(pytest.Function):
    """One gate of a file.

    Args:
        gate: what the file says.
        **options: pytest's.
    """

    def __init__(self, *, gate: FileGate, **options: Any) -> None:
        super().__init__(**options)
        self._line = gate.line
        self.add_marker(getattr(pytest.mark, gate.mark)(**gate.keywords))

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the gate stands in its file."""
        return self.path, self._line - 1, self.name

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **options: Any) -> Any:
        """What a gate has to say needs no traceback; a fault in anything else does."""
        if isinstance(excinfo.value, (ASRExceeded, RetentionLost, UnlearnDiffError)):
            return f"{self.path.name}:{self._line}: {type(excinfo.value).__name__}: {excinfo.value}"
        return super().repr_failure(excinfo, *args, **options)
