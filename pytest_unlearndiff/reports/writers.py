"""Reports by name: the ones that are wanted, and where they are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import ReportError
from ..core.registry import registry
from ..core.untrusted import special_file
from ..sources.import_string import import_string

if TYPE_CHECKING:
    from ..store.store import Store
    from .comparison import Comparison
    from .session_report import SessionReport


@dataclass(frozen=True)
class ReportOptions:
    """Facts that a report may use beside its session.

    Attributes:
        root: pytest's rootdir, from which the tests' files are named.
        images: store that holds thumbnails; None for a report without images.
        changes: against an earlier session.
    """

    root: Path = Path()
    images: Store | None = None
    changes: Sequence[Comparison] = ()


def parse_destinations(text: str) -> tuple[tuple[str, str], ...]:
    """Read ``NAME:PATH,...`` as names of reports and paths, the path empty for a report that takes none.

    A comma that no name follows belongs to the path before it.

    Raises:
        ValueError: the text is not of that form.
    """
    reports, destinations = registry().reports, []
    names = "|".join(map(re.escape, reports))
    for part in re.split(rf",(?=\s*(?:{names})(?::|,|\s*$))", text):
        name, _, path = part.strip().partition(":")
        if name not in reports or bool(path) is not reports[name].takes_path:
            raise ValueError(destination_form())
        destinations.append((name, path))
    return tuple(destinations)


def destination_form() -> str:
    """Describe the form of destinations with all names."""
    reports = registry().reports
    pathless = ", ".join(name for name, info in reports.items() if not info.takes_path)
    verb = "take" if "," in pathless else "takes"
    return f"KIND:PATH with commas between several, KIND one of {', '.join(reports)}; {pathless} {verb} no path"


def render(name: str, session: SessionReport, options: ReportOptions) -> str:
    """Return a report as text."""
    text: str = import_string(registry().reports[name].implementation)(session, options)
    return text


def write(name: str, path: Path, session: SessionReport, options: ReportOptions) -> None:
    """Write a report, its folder included; see ``render``.

    Raises:
        ReportError: the file cannot be written, or is a pipe or a device, in whose place a file would be put.
    """
    from ..store.files import write_atomically

    text = render(name, session, options)
    try:
        if special := special_file(path):
            raise OSError(f"it is {special}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
        # The temporary file behind an atomic write is private; a report is there to be read.
        path.chmod(0o644)
    except (OSError, ValueError) as error:  # the latter for a name that no file can have
        raise ReportError(f"{name} report {path} cannot be written: {error}. Give another path") from None
