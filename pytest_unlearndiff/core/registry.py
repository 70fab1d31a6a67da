"""All attacks, judges, checkpoint formats, families, defenses and reports that a process knows, one row each.

A row describes its thing without importing it: built-in packages list theirs as ``ROWS`` in an ``__init__`` that needs
no torch, and plugins return theirs from the hook ``pytest_unlearndiff_register``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from .errors import GateError
from .info import AttackInfo, Info, JudgeInfo
from .model_info import DefenseInfo, FamilyInfo, FormatInfo


@dataclass(frozen=True)
class ReportInfo(Info):
    """A report that a session writes, for ``--unlearndiff-report``.

    The implementation is called with a ``SessionReport`` and ``ReportOptions`` of ``reports.session_report``.
    It returns text: the content of a file or, without a path, lines for the end of the session.

    Attributes:
        takes_path: whether it is a file.
    """

    takes_path: bool = True

    noun: ClassVar[str] = "report"


_PACKAGES: Mapping[type[Info], str] = {
    AttackInfo: "attacks",
    JudgeInfo: "judges",
    FormatInfo: "models.formats",
    FamilyInfo: "models.families",
    DefenseInfo: "models.defenses",
    ReportInfo: "reports",
}
"""Packages of the built-in rows, each a tuple ``ROWS``."""

_InfoT = TypeVar("_InfoT", bound=Info)


class Registry:
    """Rows by kind and name: the built-in ones, read on first use, and those that plugins add.

    Args:
        added: rows of plugins.

    Raises:
        GateError: as ``add``.
    """

    def __init__(self, added: Iterable[object] = ()) -> None:
        self._tables: dict[type[Info], dict[str, Any]] = {}
        self._added: list[Info] = []
        for info in added:
            self.add(info)

    @property
    def added(self) -> tuple[Info, ...]:
        """Rows that plugins added, to be sent to other processes."""
        return tuple(self._added)

    def add(self, info: object) -> None:
        """Add a plugin's row; adding an equal one again changes nothing.

        Raises:
            GateError: it is no row, or its name is taken.
        """
        kind = next((kind for kind in _PACKAGES if isinstance(info, kind)), None)
        if kind is None or not isinstance(info, Info):
            names = ", ".join(kind.__name__ for kind in _PACKAGES)
            raise GateError(f"a plugin registers {info!r}, which is none of {names}")
        table = self._table(kind)
        if info.name not in table:
            table[info.name] = info
            self._added.append(info)
        elif info.name not in {other.name for other in self._added if isinstance(other, kind)}:
            raise GateError(f"a plugin names its {info.noun} {info.name!r}, as a built-in one: give it another name")
        elif table[info.name] != info:
            raise GateError(f"two plugins name their {info.noun} {info.name!r}: one of them needs another name")

    @property
    def attacks(self) -> Mapping[str, AttackInfo]:
        """Attacks by name."""
        return self._view(AttackInfo)

    @property
    def judges(self) -> Mapping[str, JudgeInfo]:
        """Judges by name."""
        return self._view(JudgeInfo)

    @property
    def formats(self) -> Mapping[str, FormatInfo]:
        """Checkpoint formats by name."""
        return self._view(FormatInfo)

    @property
    def families(self) -> Mapping[str, FamilyInfo]:
        """Families of models by name."""
        return self._view(FamilyInfo)

    @property
    def defenses(self) -> Mapping[str, DefenseInfo]:
        """Inference-time erasers by name."""
        return self._view(DefenseInfo)

    @property
    def reports(self) -> Mapping[str, ReportInfo]:
        """Reports by name."""
        return self._view(ReportInfo)

    def _view(self, kind: type[_InfoT]) -> Mapping[str, _InfoT]:
        return MappingProxyType(self._table(kind))

    def _table(self, kind: type[_InfoT]) -> dict[str, _InfoT]:
        if kind not in self._tables:
            package = import_module(f"pytest_unlearndiff.{_PACKAGES[kind]}")
            self._tables[kind] = {info.name: info for info in package.ROWS}
        return self._tables[kind]


_registry = Registry()


def registry() -> Registry:
    """Return this process's registry."""
    return _registry


def set_registry(new: Registry) -> None:
    """Replace this process's registry."""
    global _registry
    _registry = new


def code_versions(*rows: Info | None) -> str:
    """Describe, for a key, the code that reads or draws a model: `` with family NAME in version 'V'``.

    Built-in rows in their first version are left out, so that what is registered later changes no key.

    Args:
        rows: of formats and families; None for an unknown one.
    """
    added = registry().added
    counted = (row for row in rows if row is not None and (row.version != "1" or row in added))
    return "".join(f" with {row.noun} {row.name} of version {row.version!r}" for row in counted)
