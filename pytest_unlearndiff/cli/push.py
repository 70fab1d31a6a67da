"""Send outcomes to a shared store."""

from __future__ import annotations

import argparse
import sys

from ..reports.text import many, safe
from ..store.remote import Remote
from ..store.store import Store
from .store import add_exchange

SUMMARY = "send finished outcomes to a store at an fsspec URL"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where to where."""
    add_exchange(parser)


def run(arguments: argparse.Namespace) -> int:
    """Append what is here and not there.

    Returns:
        Exit status: 1 where this store holds no campaigns.

    Raises:
        StoreError: one of the two stores cannot be used.
    """
    remote = Remote(arguments.url)
    store = Store(arguments.cache_dir, remote=remote, keep_images=True)
    if not (entries := store.entries()):
        print(f"{arguments.cache_dir} holds no campaigns, so that nothing was sent", file=sys.stderr)
        return 1
    sent = sum(store.share(entry) for entry in entries)
    print(safe(f"{many(sent, 'outcome')} sent to {remote}", 1000))
    return 0
