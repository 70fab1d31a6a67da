"""The gates of the last session that was kept, as JSON: one file a gate, and one that lists them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import StoreError, one_line
from .files import read_regular, write_atomically
from .hashing import digest

SCHEMA = 1

_LARGEST = 256 * 2**20

_INDEX = "session.json"
_RUNNING = "running.json"


class Gates:
    """Finished gates in a store, from which reports are written again.

    Args:
        root: the store's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / "gates"

    def begin(self, run: str) -> bool:
        """Note that a session runs, until it is kept.

        Args:
            run: what the session is called.

        Returns:
            Whether it is noted: not where there is no store yet, which then holds no session before it either.
        """
        if not self._root.is_dir():
            return False
        with suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            began = datetime.now(UTC).isoformat(timespec="seconds")
            self._write(_RUNNING, {"running": {"run": run, "began": began}})
        return True

    def running(self) -> str:
        """When the session began that began last, if it has not ended; else empty."""
        return str(self._running().get("began", ""))

    def _running(self) -> dict[str, Any]:
        try:
            return self._read(_RUNNING, "running")
        except StoreError:
            return {}

    def keep(self, session: Mapping[str, Any], run: str = "") -> None:
        """Write a session's gates, and then the list of them, so that a reader never sees half a session.

        Nothing is written where there is no store yet: then there are no outcomes either.

        Args:
            session: builtin types, with the gates under ``gates``.
            run: what the session is called, where it noted that it runs.

        Raises:
            StoreError: the folder cannot be written.
        """
        if not self._root.is_dir():
            return
        try:
            self._folder.mkdir(exist_ok=True)
            names = []
            for number, gate in enumerate(session["gates"]):
                names.append(name := _name(number, gate))
                self._write(name, {"gate": gate})
            self._write(_INDEX, {"session": {**session, "gates": names}})
            if self._running().get("run") == run:
                (self._folder / _RUNNING).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self._folder} cannot be written, so that reports cannot be written again: {error}"
            ) from None

    def last(self) -> dict[str, Any]:
        """The session that was kept last.

        Raises:
            StoreError: none was kept, or not by this version, or it cannot be read.
        """
        if not (self._folder / _INDEX).exists():
            raise StoreError(f"{self._root} holds no session's gates: run pytest with this store first")
        session = self._read(_INDEX, "session")
        if not isinstance(names := session.get("gates"), list):
            raise StoreError(f"{self._folder / _INDEX} lists no gates. Run pytest with this store again")
        return {**session, "gates": [self._read(str(name), "gate") for name in names]}

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        write_atomically(self._folder / name, json.dumps({"schema": SCHEMA, **content}, indent=1) + "\n")

    def _read(self, name: str, what: str) -> dict[str, Any]:
        path = self._folder / Path(name).name
        try:
            content = json.loads(read_regular(path, _LARGEST))
            if content["schema"] != SCHEMA:
                raise ValueError(f"kept by another version (schema {content['schema']})")
            return dict(content[what])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(f"{path} cannot be read: {one_line(error)}. Run pytest with this store again") from None


def _name(number: int, gate: Mapping[str, Any]) -> str:
    concept = re.sub(r"[^A-Za-z0-9_-]+", "-", gate["concept"])[:40]
    return f"{concept}-{digest([number, gate['nodeid']])}.json"
