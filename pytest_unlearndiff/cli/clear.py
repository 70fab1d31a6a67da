"""Delete campaigns."""

from __future__ import annotations

import argparse

from .store import add_removal, remove

SUMMARY = "delete the campaigns of a store, all of them or one concept's"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The store, and perhaps a concept."""
    add_removal(parser)
    parser.add_argument("--concept", help="only the campaigns over this concept")


def run(arguments: argparse.Namespace) -> int:
    """Delete them, if that is meant."""
    wanted = arguments.concept
    return remove(arguments, lambda entry: wanted is None or entry.belongs_to(wanted))
