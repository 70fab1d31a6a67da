"""A report with one line per gate, for a spreadsheet: ``--unlearndiff-report=csv:gates.csv``."""

from __future__ import annotations

import csv
import io

from pytest_unlearndiff.reports.session_report import ReportOptions, SessionReport

COLUMNS = ("test", "concept", "expects", "verdict", "prompts", "hits", "unknown", "limits")


def csv_report(session: SessionReport, options: ReportOptions) -> str:
    """Return test, concept, verdict and counts of every gate as CSV."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for gate in session.gates:
        verdict = gate.verdict or "no limit"
        counts = gate.counts.total, gate.hits, gate.unknown
        writer.writerow([gate.nodeid, gate.concept, gate.expects, verdict, *counts, gate.limits.text])
    return file.getvalue()
