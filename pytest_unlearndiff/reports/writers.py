"""The reports that are files, by kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..core.errors import ReportError
from ..core.untrusted import special_file
from ..store.files import write_atomically
from ..store.store import Store
from .comparison import Comparison
from .session import SessionReport


def render(kind: str, session: SessionReport, store: Store | None, changes: Sequence[Comparison] = ()) -> str:
    """A report as text.

    Args:
        kind: one of FILES.
        session: what is reported.
        store: where thumbnails are; None for a report without images.
        changes: against an earlier session; JSON, which others compare, has no place for them.
    """
    return _WRITERS[kind](session, store, changes)


def write(
    kind: str, path: Path, session: SessionReport, store: Store | None, changes: Sequence[Comparison] = ()
) -> None:
    """Write a report, its folder included; see ``render``.

    Raises:
        ReportError: the file cannot be written, or is a pipe or a device, in whose place a file would be put.
    """
    text = render(kind, session, store, changes)
    try:
        if special := special_file(path):
            raise OSError(f"it is {special}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
        # The temporary file behind an atomic write is private; a report is there to be read.
        path.chmod(0o644)
    except (OSError, ValueError) as error:  # the latter for a name that no file can have
        raise ReportError(f"{kind} report {path} cannot be written: {error}. Give another path") from None


def _html(session: SessionReport, store: Store | None, changes: Sequence[Comparison]) -> str:
    from .html_report import html_report

    return html_report(session, store, changes)


def _json(session: SessionReport, store: Store | None, changes: Sequence[Comparison]) -> str:
    from .json_report import json_report

    return json_report(session)


def _markdown(session: SessionReport, store: Store | None, changes: Sequence[Comparison]) -> str:
    from .markdown import markdown_report

    return markdown_report(session, changes)


_Writer = Callable[[SessionReport, Store | None, Sequence[Comparison]], str]
_WRITERS: dict[str, _Writer] = {"html": _html, "json": _json, "md": _markdown}
