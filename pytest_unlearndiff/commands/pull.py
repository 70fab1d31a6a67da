"""Fetch outcomes from a shared store."""

from __future__ import annotations

import argparse

from ..reports.text import safe
from ..store.remote import Remote
from ..store.store import Store
from .store import add_exchange

SUMMARY = "fetch finished outcomes from a store at an fsspec URL"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where to where."""
    add_exchange(parser)


def run(arguments: argparse.Namespace) -> int:
    """Append what is there and not here."""
    store, remote = Store(arguments.cache_dir), Remote(arguments.url)
    fetched = 0
    for campaign in remote.campaigns():
        entry = store.named(campaign)
        here, _ = entry.known()
        for digest, outcome in remote.known(campaign)[0].items():
            if digest not in here:
                entry.keep(outcome)
                fetched += 1
    print(safe(f"{fetched} outcomes fetched from {remote.url}", 1000))
    return 0
