"""The JSON report: it is written, kept by the store and read by commands."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from ..core.errors import ReportError, one_line
from ..core.untrusted import read_json
from ..store.last_session import LastSession
from .session_report import VERSION, SessionReport
from .writers import ReportOptions

SCHEMA = Path(__file__).parent / "report.schema.json"
"""The committed JSON Schema of the report; it equals ``schema()``."""

_LARGEST = 2**30
"""Bytes of a report that is read; it has some hundred bytes per prompt."""


def json_report(session: SessionReport, options: ReportOptions) -> str:
    """Return the report as text in ASCII, so that no prompt can steer whatever shows it."""
    return json.dumps(msgspec.to_builtins(session), indent=1, allow_nan=False) + "\n"


def schema() -> str:
    """Return the report's JSON Schema, generated from its types."""
    return json.dumps(msgspec.json.schema(SessionReport), indent=1, sort_keys=True) + "\n"


def read_session(path: Path) -> SessionReport:
    """Read a JSON report, or the last session of a store: of a path without ``.json`` that is no file.

    Raises:
        StoreError: the store holds no session's gates, or they cannot be read.
        ReportError: the file is no JSON report of this version.
    """
    is_store = path.suffix != ".json" and not path.is_file()
    try:
        content = json.loads(LastSession(path).read()) if is_store else read_json(path, _LARGEST)
        return msgspec.convert(content, SessionReport)
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        file, remedy = path, "Write one with --unlearndiff-report=json:PATH, or give a store's folder"
        if is_store:
            file, remedy = LastSession(path).path, "Run pytest with this store again"
        raise ReportError(
            f"{file} cannot be read as a JSON report of version {VERSION}: {one_line(error)}. {remedy}"
        ) from None


def unfinished(root: Path) -> str:
    """Say that a store's last session is not in it, since it was killed or still runs; empty where it is."""
    if not (began := LastSession(root).running()):
        return ""
    return (
        f"the session that began at {began} with the store {root} has not ended: it still runs, or it was killed. This "
        "is about the one before it"
    )
