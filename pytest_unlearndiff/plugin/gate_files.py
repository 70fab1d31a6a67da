"""Gates without Python: ``*.unlearndiff.yaml`` files, each gate a test item."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ..core.errors import ErrorCollector, GateError, LimitExceeded, UnlearnDiffError
from ..core.untrusted import hint, printable, printable_lines, short_repr
from ..core.yaml_file import YamlFile, read_yaml
from .gate_run import AttackFixture, RetentionFixture
from .options import ATTACK_MARK, QUALITY_MARK, RETENTION_MARK
from .quality_run import QualityFixture
from .requests import MARKERS, read_request
from .session import state_of

_DEFAULTS = ("model", "base")
_SECTIONS = {"gates": ATTACK_MARK, "retains": RETENTION_MARK, "quality": QUALITY_MARK}
_NAMED = {ATTACK_MARK: "concept", RETENTION_MARK: "concept", QUALITY_MARK: "name"}
"""The keyword that a gate's name stands for."""
_PREFIXES = {ATTACK_MARK: "", RETENTION_MARK: "retains-", QUALITY_MARK: "quality-"}
"""Beginnings of the names of test items."""


@dataclass(frozen=True)
class FileGate:
    """One gate of a file.

    Attributes:
        name: of the test item, which terminals can show.
        line: where it begins, from 1.
        keywords: as the marker's.
        mark: the marker it stands for.
    """

    name: str
    line: int
    keywords: dict[str, Any]
    mark: str = ATTACK_MARK


def read_gates(path: Path, mistakes: ErrorCollector) -> list[FileGate]:
    """Read a gate file.

    Args:
        path: a YAML mapping with ``gates`` (name to the ``unlearndiff`` marker's keywords; the concept is the name
            where it is not given), ``retains`` (the same for ``unlearndiff_retains``), ``quality`` (name to the
            ``unlearndiff_quality`` marker's keywords) and, for gates that do not say, ``model`` and ``base``, relative
            to the file.
        mistakes: takes what is wrong with it, each with its line.

    Returns:
        The gates that can be read.
    """
    file = mistakes.collect(lambda: read_yaml(path))
    fields = mistakes.collect(lambda: _mapping(file, file.data, (), "a gate file")) if file is not None else None
    if file is None or fields is None:
        return []
    names = (*_SECTIONS, *_DEFAULTS)
    for name in fields:
        if name not in names:
            mistakes.append(f"{file.at(name)}: a gate file has no field {short_repr(name)}: {hint(name, names)}")
    if not any(fields.get(section, {}) != {} for section in _SECTIONS):
        mistakes.append(f"{file.at()}: no gates in it: write gates, then a name and its limits, as in church")
    defaults = {name: fields[name] for name in _DEFAULTS if name in fields}
    return [
        FileGate(printable(name), file.line(section, name), {_NAMED[mark]: name, **defaults, **keywords}, mark)
        for section, mark in _SECTIONS.items()
        if section in fields
        for name, keywords in _gates(file, fields[section], section, mistakes)
    ]


def _gates(file: YamlFile, data: Any, section: str, mistakes: ErrorCollector) -> Iterator[tuple[str, dict[str, Any]]]:
    """The gates of a section, by name, with their keywords."""
    for name, keywords in (mistakes.collect(lambda: _mapping(file, data, (section,), section)) or {}).items():
        fields = mistakes.collect(partial(_mapping, file, keywords, (section, name), f"gate {short_repr(name)}"))
        if fields is not None:
            yield name, fields


def _mapping(file: YamlFile, data: Any, place: tuple[str, ...], what: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise GateError(f"{file.at(*place)}: {what} must be a mapping, such as church: {{max_asr: 10%}}")
    return {str(name): value for name, value in data.items()}


class GateFile(pytest.Module):
    """A gate file as a module of tests, so that conftest fixtures, ``-k`` and workers do what they always do."""

    def _getobj(self) -> ModuleType:
        return ModuleType(self.path.stem)

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Return one item per gate; raise for every mistake of the file at once.

        Raises:
            CollectError: with file and line.
        """
        mistakes = ErrorCollector()
        gates = read_gates(self.path, mistakes)
        mistakes += [text for gate in gates if (text := self._mistakes(gate))]
        if mistakes:
            raise self.CollectError(printable_lines("\n".join(mistakes), 1_500, 1_000))
        return [
            GateItem.from_parent(
                self,
                name=f"{_PREFIXES[gate.mark]}{gate.name}",
                callobj=_CALLS[gate.mark],
                gate=gate,
            )
            for gate in gates
        ]

    def _mistakes(self, gate: FileGate) -> str:
        state, folder = state_of(self.config), self.path.parent
        try:
            read_request(MARKERS[gate.mark], gate.keywords, state.settings, state.library(folder), folder)
        except UnlearnDiffError as error:
            return "\n".join(f"{self.path.name}:{gate.line}: {gate.name}: {line}" for line in str(error).split("\n"))
        return ""


def _attack(unlearndiff_attack: AttackFixture) -> None:
    unlearndiff_attack()


def _keep(unlearndiff_retention: RetentionFixture) -> None:
    unlearndiff_retention()


def _measure(unlearndiff_quality: QualityFixture) -> None:
    unlearndiff_quality()


_CALLS = {ATTACK_MARK: _attack, RETENTION_MARK: _keep, QUALITY_MARK: _measure}


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
        """Return file, line and name of the gate."""
        return self.path, self._line - 1, self.name

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **options: Any) -> Any:
        """Represent the failure of a gate by its message, without a traceback, which other faults do need."""
        if isinstance(excinfo.value, (LimitExceeded, UnlearnDiffError)):
            return f"{excinfo.value}\n\n{self.path.name}:{self._line}: {type(excinfo.value).__name__}"
        return super().repr_failure(excinfo, *args, **options)
