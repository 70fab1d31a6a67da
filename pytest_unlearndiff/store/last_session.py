"""The JSON report of the last session with a store, from which reports are written again."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from ..core.errors import StoreError, one_line
from .files import read_json_object, read_regular, write_atomically

_LARGEST = 2**30
"""Bytes of a report that is read; it has some hundred bytes per prompt."""


class LastSession:
    """Last session of a store.

    Args:
        root: the store's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / "gates"
        self._running = self._folder / "running.json"
        self.path = self._folder / "session.json"

    def begin(self, run: str) -> bool:
        """Note that a session runs, until it is kept.

        Args:
            run: name of the session.

        Returns:
            Whether it is noted: not where there is no store yet, which then holds no session before it either.
        """
        if not self._root.is_dir():
            return False
        with suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            began = datetime.now(UTC).isoformat(timespec="seconds")
            write_atomically(self._running, json.dumps({"run": run, "began": began}) + "\n")
        return True

    def running(self) -> str:
        """Return when the session began that began last, if it has not ended; else an empty string."""
        return str((read_json_object(self._running) or {}).get("began", ""))

    def keep(self, report: str, run: str = "") -> None:
        """Write a session's report. Nothing is written where there is no store yet: then there are no outcomes either.

        Args:
            report: the session's JSON report.
            run: name of the session, where it noted that it runs.

        Raises:
            StoreError: the folder cannot be written.
        """
        if not self._root.is_dir():
            return
        try:
            self._folder.mkdir(exist_ok=True)
            write_atomically(self.path, report)
            if (read_json_object(self._running) or {}).get("run") == run:
                self._running.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self._folder} cannot be written, so that reports cannot be written again: {error}"
            ) from None

    def read(self) -> bytes:
        """Return the JSON report that was kept last.

        Raises:
            StoreError: none was kept, or it cannot be read.
        """
        if not self.path.exists():
            raise StoreError(f"{self._root} holds no session's gates: run pytest with this store first")
        try:
            return read_regular(self.path, _LARGEST)
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be read: {one_line(error)}. Run pytest with this store again"
            ) from None
