"""Reports: one writer each, and one row here. They decide nothing.

A writer is called with a ``SessionReport`` and ``ReportOptions`` of ``session_report``, and returns the report's text:
the content of a file or, for one that takes no path, lines for the end of the session.
"""

from __future__ import annotations

import re

from ..core.registry import ReportInfo, registry

ROWS: tuple[ReportInfo, ...] = (
    ReportInfo("html", "pytest_unlearndiff.reports.html:html_report", version="1"),
    ReportInfo("json", "pytest_unlearndiff.reports.session_report:json_report", version="2"),
    ReportInfo("md", "pytest_unlearndiff.reports.markdown:markdown_report", version="1"),
    ReportInfo("github", "pytest_unlearndiff.reports.github:github_report", version="1", takes_path=False),
)


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
