"""Send outcomes to a shared store."""

from __future__ import annotations

import argparse

from ..reports.text import safe
from ..store.remote import Remote
from ..store.store import Store
from .store import add_exchange

SUMMARY = "send finished outcomes to a store at an fsspec URL"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where to where."""
    add_exchange(parser)


def run(arguments: argparse.Namespace) -> int:
    """Append what is here and not there."""
    remote = Remote(arguments.url)
    sent = sum(
        remote.add(entry.folder.name, entry.known()[0].values()) for entry in Store(arguments.cache_dir).entries()
    )
    print(safe(f"{sent} outcomes sent to {remote.url}", 1000))
    return 0
