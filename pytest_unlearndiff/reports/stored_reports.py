"""Measured gates read back: from a store's last session, or from a JSON report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ReportError, one_line
from ..core.untrusted import read_json, short_repr
from ..store.last_session import Gates
from .gate_report import GateReport, PromptRecord
from .json_report import FORMAT, VERSION
from .session import SessionReport

_BYTES = 2**30
"""A report has some hundred bytes a prompt."""


@dataclass(frozen=True)
class StoredGate:
    """What comparisons and exports need of a gate.

    Attributes:
        nodeid: the test; concept, attack, key: as in its record.
        prompts: the prompt set, each prompt with its outcome.
    """

    nodeid: str
    concept: str
    attack: str
    prompts: list[PromptRecord]
    key: str = ""

    @classmethod
    def of(cls, gate: GateReport) -> StoredGate:
        """What they need of a record."""
        return cls(gate.nodeid, gate.concept, gate.attack, gate.prompts, gate.key)


def read_session(root: Path) -> SessionReport:
    """The last session that a store keeps.

    Raises:
        StoreError: there is none, or it cannot be read.
        ReportError: it was kept by another version.
    """
    try:
        return SessionReport.from_wire(Gates(root).last())
    except ValueError as error:
        raise ReportError(
            f"{root}/gates was kept by another version: {error}. Run pytest with this store again"
        ) from None


def unfinished(root: Path) -> str:
    """What to say of a store whose last session is not in it, since it was killed or still runs; empty for others."""
    if not (began := Gates(root).running()):
        return ""
    return (
        f"the session that began at {began} with the store {root} has not ended: it still runs, or it was killed. This "
        "is about the one before it"
    )


def read_gates(path: Path) -> list[StoredGate]:
    """The gates of a JSON report, or of a store, which is what a path without ``.json`` and without a file is.

    Raises:
        StoreError: the store holds no session's gates.
        ReportError: the file is no JSON report of this version.
    """
    if path.suffix != ".json" and not path.is_file():
        return [StoredGate.of(gate) for gate in read_session(path).gates]
    try:
        content = read_json(path, _BYTES)
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise ValueError(f"format {short_repr(content['format'])} version {short_repr(content['version'])}")
        return [_measured(gate) for gate in content["gates"]]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ReportError(
            f"{path} cannot be read as a JSON report of version {VERSION}: {one_line(error)}. Write one with "
            "--unlearndiff-report=json:PATH, or give a store's folder"
        ) from None


def _measured(gate: dict[str, Any]) -> StoredGate:
    prompts = [PromptRecord(**prompt) for prompt in gate["prompts"]]
    return StoredGate(str(gate["nodeid"]), str(gate["concept"]), str(gate["attack"]), prompts, str(gate["key"]))
