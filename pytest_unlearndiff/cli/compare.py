"""Two sessions, prompt by prompt."""

from __future__ import annotations

import argparse
import sys

from ..reports.comparison import NOTHING, compare
from ..reports.json_report import read_session, unfinished
from ..reports.text import sanitize
from .command import Command, parse_path

SUMMARY = "say what newly broke and what newly holds between two JSON reports or stores"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two."""
    parser.add_argument("before", type=parse_path, metavar="A", help="JSON report, or folder of a store")
    parser.add_argument("after", type=parse_path, metavar="B", help="JSON report, or folder of a store")


def run(arguments: argparse.Namespace) -> int:
    """Print one paragraph a gate; 1 where no gate is in both."""
    for place in (arguments.before, arguments.after):
        if place.is_dir() and (before := unfinished(place)):
            print(before, file=sys.stderr)
    found, only_before, only_after = compare(read_session(arguments.before).gates, read_session(arguments.after).gates)
    for comparison in found:
        print("\n".join(comparison.lines()))
    for place, gates in ((arguments.before, only_before), (arguments.after, only_after)):
        for nodeid in gates:
            print(sanitize(f"only in {place}: {nodeid}", 1000))
    if not found:
        print(NOTHING)
    return 0 if found else 1


COMMANDS = (Command("compare", SUMMARY, add_arguments, run),)
