"""Finished outcomes of one campaign on disk: one line each, appended, never rewritten."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..core.outcome import Outcome, Status
from .fingerprint import digest

SCHEMA = 1


class Journal:
    """An append-only file of outcomes that survives a kill at any byte.

    Each line carries a checksum of its outcome. A torn or altered line is skipped and counted, so its prompt is
    attacked again; a torn tail is closed before the next line is written.

    Args:
        path: the file; it and its folder are created by the first ``append``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[dict[str, Outcome], int]:
        """Finished outcomes by prompt digest, and how many lines could not be trusted.

        Errors are not finished: a prompt that errored is tried again.
        """
        try:
            return parse(self.path.read_bytes())
        except FileNotFoundError:
            return {}, 0

    def append(self, outcome: Outcome) -> None:
        """Write one outcome and wait until the disk has it.

        Raises:
            OSError: the disk does not take it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            if self._torn():
                file.write(b"\n")
            file.write(line(outcome))
            file.flush()
            os.fsync(file.fileno())

    def _torn(self) -> bool:
        """Whether the last line lacks its end."""
        if self.path.stat().st_size == 0:
            return False
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"


def line(outcome: Outcome) -> bytes:
    """An outcome as a journal holds it, with its checksum and its end."""
    data = outcome.to_dict()
    return json.dumps({"schema": SCHEMA, "outcome": data, "check": digest(data)}, ensure_ascii=True).encode() + b"\n"


def parse(content: bytes) -> tuple[dict[str, Outcome], int]:
    """Finished outcomes of a journal by prompt digest, and how many lines could not be trusted."""
    found: dict[str, Outcome] = {}
    distrusted = 0
    for text in content.split(b"\n"):
        if not text.strip():
            continue
        outcome = _parse(text)
        if outcome is None:
            distrusted += 1
        elif outcome.status is not Status.ERROR:
            found[outcome.prompt] = outcome
    return found, distrusted


def _parse(line: bytes) -> Outcome | None:
    """The outcome of a line, or None where the line cannot be trusted."""
    try:
        entry = json.loads(line)
        if entry["schema"] != SCHEMA or entry["check"] != digest(entry["outcome"]):
            return None
        return Outcome.from_dict(entry["outcome"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
