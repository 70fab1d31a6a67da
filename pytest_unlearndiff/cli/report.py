"""Reports of the last session, written again from the store."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from ..core.errors import ReportError
from ..core.registry import registry
from ..reports.comparison import NOTHING, Comparison, compare
from ..reports.json_report import read_session, schema, unfinished
from ..reports.session_report import SessionReport
from ..reports.terminal import summary_lines
from ..reports.text import sanitize
from ..reports.writers import ReportOptions, destination_form, parse_destinations, render, write
from ..store.store import Mode, Store
from .command import Command, add_store, parse_path

SUMMARY = "write the last session's reports again: html:PATH, json:PATH or md:PATH; - for standard output"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to write, and from where."""
    parser.add_argument("reports", nargs="*", metavar="KIND:PATH", help="reports to write; without any, the summary")
    add_store(parser)
    parser.add_argument("--since", type=parse_path, metavar="A", help="earlier JSON report or store: tell what changed")
    parser.add_argument("--no-images", action="store_true", help="leave images out of the HTML report")
    parser.add_argument("--schema", action="store_true", help="print the JSON report's JSON Schema")


def run(arguments: argparse.Namespace) -> int:
    """Write every report.

    Returns:
        Exit status: 1 where nothing was measured in the last session, or where it is not the one that is reported.
    """
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
    problem = before or ("" if session.gates else session.cut_short or "no gate was measured in the last session")
    if problem:
        print(sanitize(problem, 1000), file=sys.stderr)
    return 1 if problem else 0


def _summary(session: SessionReport) -> list[str]:
    """Describe what a session measured, and what it did not reach."""
    lines = [session.headline]
    if session.cut_short:
        lines.append(f"the session was cut short: {sanitize(session.cut_short, 1000)}")
    lines += [line for line, _ in summary_lines(session.gates, verbosity=1, width=shutil.get_terminal_size().columns)]
    for kind, tests in (("failed otherwise", session.failed_otherwise), ("not measured", session.unmeasured)):
        lines += [f"{kind}: {sanitize(test.nodeid)} {test.how}: {sanitize(test.why)}" for test in tests]
    return lines


def _changes(before: Path, session: SessionReport) -> list[Comparison]:
    """Compare the session with an earlier one; say so where they have nothing in common."""
    found = compare(read_session(before).gates, session.gates)[0]
    if not found:
        print(f"{before}: {NOTHING}", file=sys.stderr)
    return found


def _wanted(text: str) -> tuple[tuple[str, str], ...]:
    """Read reports as names and paths.

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


COMMANDS = (Command("report", SUMMARY, add_arguments, run),)
