"""Gates without Python: ``*.unlearndiff.yaml`` files, each gate a test item."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ..core.checks import hint
from ..core.errors import ASRExceeded, ConceptError, GateError, RetentionLost, UnlearnDiffError
from ..core.yaml_file import YamlFile, read_yaml
from .attack import AttackFixture
from .markers import read_request
from .retention import RetentionFixture, read_retention
from .retention_hooks import MARK
from .session import state_of

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
    try:
        file = read_yaml(path)
    except ConceptError as error:
        raise GateError(str(error)) from None
    fields = _mapping(file, file.data, (), "a gate file")
    known = (*_SECTIONS, *_DEFAULTS)
    if unknown := [name for name in fields if name not in known]:
        raise GateError(f"{file.at(unknown[0])}: a gate file has no field {unknown[0]!r}: {hint(unknown[0], known)}")
    if not any(section in fields for section in _SECTIONS):
        raise GateError(f"{file.at()}: no gates in it: write gates, then a name and its limits, as in church")
    defaults = {name: fields[name] for name in _DEFAULTS if name in fields}
    return [
        FileGate(
            name,
            file.line(section, name),
            {"concept": name, **defaults, **_mapping(file, keywords, (section, name), f"gate {name!r}")},
            mark,
        )
        for section, mark in _SECTIONS.items()
        if section in fields
        for name, keywords in _mapping(file, fields[section], (section,), section).items()
    ]


def _mapping(file: YamlFile, data: Any, place: tuple[str, ...], what: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise GateError(f"{file.at(*place)}: {what} must be a mapping, such as church: {{max_asr: 10%}}")
    return {str(name): value for name, value in data.items()}


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
        """What a gate has to say needs no traceback, and comes first; a fault in anything else does need one."""
        if isinstance(excinfo.value, (ASRExceeded, RetentionLost, UnlearnDiffError)):
            return f"{excinfo.value}\n\n{self.path.name}:{self._line}: {type(excinfo.value).__name__}"
        return super().repr_failure(excinfo, *args, **options)
