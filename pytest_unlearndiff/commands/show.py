"""What a store holds."""

from __future__ import annotations

import argparse

from ..store.store import Store
from .store import add_store, print_all

SUMMARY = "list the campaigns of a store"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The store."""
    add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print one line a campaign."""
    print_all(Store(arguments.cache_dir).entries())
    return 0
