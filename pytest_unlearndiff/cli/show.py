"""What a store holds."""

from __future__ import annotations

import argparse

from ..reports.text import safe
from ..store.store import Store
from .store import add_store, print_all

SUMMARY = "list the campaigns of a store"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The store."""
    add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print one line a campaign.

    Returns:
        Exit status: 1 where there is none.
    """
    entries = list(Store(arguments.cache_dir).entries())
    print_all(entries)
    if not entries:
        what = "" if arguments.cache_dir.is_dir() else ": no such folder"
        print(safe(f"{arguments.cache_dir} holds no campaigns{what}", 1000))
    return 0 if entries else 1
