"""Commands on kept sessions: ``report`` and ``compare``."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from ..core.errors import ReportError
from ..core.registry import registry
from ..reports import destination_form, parse_destinations
from ..reports.comparison import NOTHING, Comparison
from ..reports.comparison import compare as compare_sessions
from ..reports.session_report import ReportOptions, SessionReport, read_session, render, schema, unfinished, write
from ..reports.terminal import quality_lines, summary_lines
from ..reports.text import sanitize
from ..reports.two_sided import two_sided_lines
from ..store.store import Mode, Store
from .command import Command, add_store, parse_path


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reports", nargs="*", metavar="KIND:PATH", help="reports to write; without any, the summary")
    add_store(parser)
    parser.add_argument("--since", type=parse_path, metavar="A", help="earlier JSON report or store: tell what changed")
    parser.add_argument("--no-images", action="store_true", help="leave images out of the HTML report")
    parser.add_argument("--schema", action="store_true", help="print the JSON report's JSON Schema")


def report(arguments: argparse.Namespace) -> int:
    """Write the reports; 1 if the last session measured nothing, or was killed so that the one before is reported."""
    if arguments.schema:
        print(schema(), end="")
        return 0
    wanted = [report for text in arguments.reports for report in _wanted(text)]
    session, before = read_session(arguments.cache_dir), unfinished(arguments.cache_dir)
    images = None if arguments.no_images else Store(arguments.cache_dir, Mode.RO)
    changes = _changes(arguments.since, session) if arguments.since else []
    options = ReportOptions(images=images, changes=changes)
    for kind, path in wanted:
        if path == "-":
            sys.stdout.write(render(kind, session, options))
        else:
            write(kind, Path(path), session, options)
            print(f"{kind} report: {path}")
    if not wanted:
        for line in (*_summary(session), *(line for change in changes for line in change.lines())):
            print(line)
    problem = before or ("" if session.every else session.cut_short or "no gate was measured in the last session")
    if problem:
        print(sanitize(problem, 1000), file=sys.stderr)
    return 1 if problem else 0


def _summary(session: SessionReport) -> list[str]:
    """Describe what a session measured, and what it did not reach."""
    lines = [session.headline]
    if session.cut_short:
        lines.append(f"the session was cut short: {sanitize(session.cut_short, 1000)}")
    lines += [line for line, _ in summary_lines(session.gates, verbosity=1, width=shutil.get_terminal_size().columns)]
    lines += [line for line, _ in quality_lines(session.quality, verbosity=1)]
    lines += two_sided_lines(session)
    for kind, tests in (("failed otherwise", session.failed_otherwise), ("not measured", session.unmeasured)):
        lines += [f"{kind}: {sanitize(test.nodeid)} {test.how}: {sanitize(test.why)}" for test in tests]
    return lines


def _changes(before: Path, session: SessionReport) -> list[Comparison]:
    """Compare the session with an earlier one; say so where they have nothing in common."""
    changes = compare_sessions(read_session(before).gates, session.gates)[0]
    if not changes:
        print(f"{before}: {NOTHING}", file=sys.stderr)
    return changes


def _wanted(text: str) -> tuple[tuple[str, str], ...]:
    """Parse the names and paths of reports.

    Raises:
        ReportError: it is not of the form, or not a file.
    """
    try:
        destinations = parse_destinations(text)
    except ValueError:
        raise ReportError(f"{text!r} must be {destination_form()}") from None
    if pathless := [name for name, _ in destinations if not registry().reports[name].takes_path]:
        raise ReportError(
            f"{pathless[0]} is written by a session only; md:PATH is what github puts into the step summary"
        )
    return destinations


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", type=parse_path, metavar="A", help="JSON report, or folder of a store")
    parser.add_argument("after", type=parse_path, metavar="B", help="JSON report, or folder of a store")


def compare(arguments: argparse.Namespace) -> int:
    """Print one paragraph per gate; 1 if no gate is in both."""
    for place in (arguments.before, arguments.after):
        if place.is_dir() and (warning := unfinished(place)):
            print(warning, file=sys.stderr)
    comparisons, only_before, only_after = compare_sessions(
        read_session(arguments.before).gates, read_session(arguments.after).gates
    )
    for comparison in comparisons:
        print("\n".join(comparison.lines()))
    for place, gates in ((arguments.before, only_before), (arguments.after, only_after)):
        for nodeid in gates:
            print(sanitize(f"only in {place}: {nodeid}", 1000))
    if not comparisons:
        print(NOTHING)
    return 0 if comparisons else 1


COMMANDS = (
    Command(
        "report",
        "write the last session's reports again: html:PATH, json:PATH or md:PATH; - for standard output",
        _add_report,
        report,
    ),
    Command(
        "compare", "say what newly broke and what newly holds between two JSON reports or stores", _add_compare, compare
    ),
)
