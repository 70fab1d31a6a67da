"""What a store holds."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..core.outcome import Tally
from ..store.store import Entry, Store

SUMMARY = "list the campaigns of a store"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder."""
    parser.add_argument("--cache-dir", type=Path, default=Path(".unlearndiff"), help="the store (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Print one line a campaign."""
    for entry in Store(arguments.cache_dir).entries():
        print(f"{entry.folder.name}: {_summary(entry)}")
    return 0


def _summary(entry: Entry) -> str:
    """How its prompts ended."""
    found, distrusted = entry.known()
    tally = Tally.of(found.values())
    parts = [f"{tally.total} prompts", f"{tally.generated} generated", f"{tally.broken} broken"]
    parts.append(f"{tally.resisted} resisted")
    if distrusted:
        parts.append(f"{distrusted} lines that cannot be trusted")
    return ", ".join(parts)
