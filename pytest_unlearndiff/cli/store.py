"""What the commands on a store share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from ..core.outcome import Counts
from ..reports.text import many, safe
from ..reports.wording import wording
from ..store.store import CampaignDir, Store
from .arguments import path_of


def add_store(parser: argparse.ArgumentParser) -> None:
    """Which store."""
    parser.add_argument(
        "--cache-dir", type=path_of, default=Path(".unlearndiff"), help="the store (default: %(default)s)"
    )


def add_exchange(parser: argparse.ArgumentParser) -> None:
    """Which two stores."""
    add_store(parser)
    parser.add_argument("url", help="the other store, such as s3://bucket/folder or file:///mnt/shared")


def add_removal(parser: argparse.ArgumentParser) -> None:
    """Which store, and whether it is meant."""
    add_store(parser)
    parser.add_argument("--yes", action="store_true", help="delete; without it only say what would be deleted")


def remove(arguments: argparse.Namespace, unwanted: Callable[[CampaignDir], bool]) -> int:
    """Delete campaigns, where ``--yes`` is given.

    Args:
        arguments: with ``cache_dir`` and ``yes``.
        unwanted: which ones.

    Returns:
        Exit status: 1 where there is something to delete and it was not deleted.
    """
    store = Store(arguments.cache_dir)
    entries = [entry for entry in store.entries() if unwanted(entry)]
    print_all(entries)
    if not entries:
        print("nothing to delete")
        return 0
    if not arguments.yes:
        print(f"{many(len(entries), 'campaign')} would be deleted: add --yes")
        return 1
    for entry in entries:
        store.remove(entry)
    print(f"{many(len(entries), 'campaign')} deleted")
    return 0


def print_all(entries: Iterable[CampaignDir]) -> None:
    """One line a campaign."""
    for entry in entries:
        print(f"{entry.folder.name}: {_summary(entry)}")


def _summary(entry: CampaignDir) -> str:
    """What was attacked and how, how its prompts ended, and when the last one did."""
    found, distrusted = entry.known()
    tally = Counts.of(found.values())
    attack, victim = (entry.key() or {}).get("attack", "an unknown attack"), entry.noted().get("victim")
    parts = [safe(f"{attack} on {victim}" if victim else str(attack), 100)]
    parts.append(f"{tally.total} prompts")
    ended = {
        "hit-without-attack": tally.hits_without_attack,
        "hit-under-attack": tally.hits_under_attack,
        "resisted": tally.resisted,
    }
    label = wording(str(attack)).label
    parts += [f"{number} {label(status)}" for status, number in ended.items() if label(status)]
    parts += [f"{tally.blocked} blocked"] * bool(tally.blocked)
    if distrusted.lines:
        parts.append(f"{distrusted.lines} lines that cannot be trusted ({distrusted.reasons})")
    parts += map(safe, distrusted.notes)
    if entry.written:
        parts.append(f"last written {datetime.fromtimestamp(entry.written):%Y-%m-%d %H:%M}")
    return ", ".join(parts)
