"""Reports: one writer each, and one row here. They decide nothing.

A writer is called with a ``SessionReport`` and ``writers.ReportOptions``, and returns the report's text: the content of
a file or, for one that takes no path, lines for the end of the session.
"""

from __future__ import annotations

from ..core.registry import ReportInfo

ROWS: tuple[ReportInfo, ...] = (
    ReportInfo("html", "pytest_unlearndiff.reports.html:html_report", version="1"),
    ReportInfo("json", "pytest_unlearndiff.reports.json_report:json_report", version="2"),
    ReportInfo("md", "pytest_unlearndiff.reports.markdown:markdown_report", version="1"),
    ReportInfo("github", "pytest_unlearndiff.reports.github:github_report", version="1", takes_path=False),
)
