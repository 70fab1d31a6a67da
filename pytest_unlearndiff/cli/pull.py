"""Fetch outcomes from a shared store."""

from __future__ import annotations

import argparse
import sys

from ..core.errors import StoreError
from ..reports.text import many, safe
from ..store.journal import Distrusted
from ..store.remote import Misplaced, Remote
from ..store.store import Store
from .store import add_exchange

SUMMARY = "fetch finished outcomes from a store at an fsspec URL"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where to where."""
    add_exchange(parser)


def run(arguments: argparse.Namespace) -> int:
    """Append what is there and not here.

    Returns:
        Exit status: 1 where that store holds no campaigns, or one that cannot be read.

    Raises:
        StoreError: there is nothing at the place, or one of the two stores cannot be used.
    """
    remote = Remote(arguments.url)
    store = Store(arguments.cache_dir, remote=remote, keep_images=True)
    campaigns = remote.look()
    if campaigns is None:
        raise StoreError(f"{remote} is not there: check the URL; push makes it, as does a session that is given it")
    if not campaigns:
        print(f"{remote} holds no campaigns: nothing was sent to it yet, or another place is meant", file=sys.stderr)
        return 1
    download, distrusted, unreadable = 0, Distrusted(), list[str]()
    for campaign in campaigns:
        try:
            new, more = store.take(store.named(campaign))
        except Misplaced as error:  # which is no reason to leave the others there
            unreadable.append(str(error))
        else:
            download, distrusted = download + new, distrusted + more
    print(
        safe(f"{many(download, 'outcome')} fetched from {remote}, which holds {many(len(campaigns), 'campaign')}", 1000)
    )
    if distrusted.lines:
        print(f"{many(distrusted.lines, 'line')} there cannot be trusted: {distrusted.reasons}", file=sys.stderr)
    for note in (*distrusted.notes, *unreadable):
        print(safe(note, 1000), file=sys.stderr)
    return 1 if unreadable else 0
