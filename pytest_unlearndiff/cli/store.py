"""Commands on stores: ``show``, ``clear``, ``prune``, ``push`` and ``pull``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from ..core.attack_config import ALGORITHM
from ..core.errors import StoreError
from ..core.outcome import Counts
from ..reports.failure_text import wording
from ..reports.text import pluralize, sanitize
from ..store.campaign_dir import KEY, CampaignDir
from ..store.journal import RejectedLines
from ..store.remote import MisplacedFile
from ..store.shared_store import SharedStore
from ..store.store import Store
from .command import Command, add_store, parse_days

_LINE = 1000
"""Characters of a line that names paths or URLs."""


def show(arguments: argparse.Namespace) -> int:
    """Print one line per campaign; 1 if there is none."""
    campaigns = Store(arguments.cache_dir).campaigns()
    _print_campaigns(campaigns)
    if not campaigns:
        reason = "" if arguments.cache_dir.is_dir() else ": no such folder"
        print(sanitize(f"{arguments.cache_dir} holds no campaigns{reason}", _LINE))
    return 0 if campaigns else 1


def _add_removal(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("--yes", action="store_true", help="delete; without it only say what would be deleted")


def _add_clear(parser: argparse.ArgumentParser) -> None:
    _add_removal(parser)
    parser.add_argument("--concept", help="only the campaigns over this concept")


def clear(arguments: argparse.Namespace) -> int:
    """Delete all campaigns, or one concept's."""
    concept = arguments.concept
    return _remove(arguments, lambda campaign: concept is None or campaign.belongs_to(concept))


def _add_prune(parser: argparse.ArgumentParser) -> None:
    _add_removal(parser)
    parser.add_argument("--days", type=parse_days, help="also delete campaigns last written longer ago than this")


def prune(arguments: argparse.Namespace) -> int:
    """Delete campaigns that no session will ask for again."""
    oldest = time.time() - arguments.days * 86400 if arguments.days is not None else float("-inf")

    def is_unwanted(campaign: CampaignDir) -> bool:
        outdated = (campaign.key or {}).get("algorithm") != ALGORITHM
        # A campaign that was fetched from a shared store has no key until a session asks for it.
        keyless = not (campaign.folder / KEY).exists()
        return (outdated and not keyless) or campaign.last_written < oldest

    return _remove(arguments, is_unwanted)


def _remove(arguments: argparse.Namespace, is_unwanted: Callable[[CampaignDir], bool]) -> int:
    """Delete campaigns if ``--yes`` is given; 1 if there is something to delete and it was not deleted."""
    campaigns = [campaign for campaign in Store(arguments.cache_dir).campaigns() if is_unwanted(campaign)]
    _print_campaigns(campaigns)
    if not campaigns:
        print("nothing to delete")
        return 0
    if not arguments.yes:
        print(f"{pluralize(len(campaigns), 'campaign')} would be deleted: add --yes")
        return 1
    for campaign in campaigns:
        campaign.remove()
    print(f"{pluralize(len(campaigns), 'campaign')} deleted")
    return 0


def _print_campaigns(campaigns: Iterable[CampaignDir]) -> None:
    for campaign in campaigns:
        print(f"{campaign.name}: {_summary(campaign)}")


def _summary(campaign: CampaignDir) -> str:
    """Summarize attack and victim, how many prompts ended in which way, and when the last one did."""
    outcomes, rejected = campaign.outcomes()
    counts = Counts.of(outcomes.values())
    attack, victim = (campaign.key or {}).get("attack", "an unknown attack"), campaign.metadata.get("victim")
    label = wording(str(attack)).label
    statuses = {
        "hit-without-attack": counts.hits_without_attack,
        "hit-under-attack": counts.hits_under_attack,
        "resisted": counts.resisted,
    }
    parts = [sanitize(f"{attack} on {victim}" if victim else str(attack), 100), f"{counts.total} prompts"]
    parts += [f"{number} {label(status)}" for status, number in statuses.items() if label(status)]
    parts += [f"{counts.blocked} blocked"] * bool(counts.blocked)
    if rejected.lines:
        parts.append(f"{pluralize(rejected.lines, 'line')} that cannot be trusted ({rejected.reasons})")
    parts += map(sanitize, rejected.notes)
    if campaign.last_written:
        parts.append(f"last written {datetime.fromtimestamp(campaign.last_written):%Y-%m-%d %H:%M}")
    return ", ".join(parts)


def _add_exchange(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("url", help="the other store, such as s3://bucket/folder or file:///mnt/shared")


def push(arguments: argparse.Namespace) -> int:
    """Send outcomes to a shared store; 1 if this store holds no campaigns.

    Raises:
        StoreError: one of the two stores cannot be used.
    """
    store = SharedStore(arguments.cache_dir, arguments.url, keep_images=True)
    if not (campaigns := store.campaigns()):
        print(f"{arguments.cache_dir} holds no campaigns, so that nothing was sent", file=sys.stderr)
        return 1
    sent = sum(store.push(campaign) for campaign in campaigns)
    print(sanitize(f"{pluralize(sent, 'outcome')} sent to {store.remote}", _LINE))
    return 0


def pull(arguments: argparse.Namespace) -> int:
    """Fetch outcomes from a shared store; 1 if it holds no campaigns, or one that cannot be read.

    Raises:
        StoreError: nothing is at the URL, or one of the two stores cannot be used.
    """
    store = SharedStore(arguments.cache_dir, arguments.url, keep_images=True)
    names, remote = store.remote.campaigns(), store.remote
    if names is None:
        raise StoreError(f"{remote} is not there: check the URL; push makes it, as does a session that is given it")
    if not names:
        print(f"{remote} holds no campaigns: nothing was sent to it yet, or another place is meant", file=sys.stderr)
        return 1
    fetched, rejected, unreadable = 0, RejectedLines(), list[str]()
    for name in names:
        try:
            new, more = store.pull(CampaignDir(store.root, name))
        except MisplacedFile as error:  # no reason to leave the other campaigns there
            unreadable.append(str(error))
        else:
            fetched, rejected = fetched + new, rejected + more
    print(
        sanitize(
            f"{pluralize(fetched, 'outcome')} fetched from {remote}, which holds {pluralize(len(names), 'campaign')}",
            _LINE,
        )
    )
    if rejected.lines:
        print(f"{pluralize(rejected.lines, 'line')} there cannot be trusted: {rejected.reasons}", file=sys.stderr)
    for note in (*rejected.notes, *unreadable):
        print(sanitize(note, _LINE), file=sys.stderr)
    return 1 if unreadable else 0


COMMANDS = (
    Command("show", "list the campaigns of a store", add_store, show),
    Command("clear", "delete the campaigns of a store, all of them or one concept's", _add_clear, clear),
    Command(
        "prune", "delete campaigns of older attack versions, and those not written for some days", _add_prune, prune
    ),
    Command("pull", "fetch finished outcomes from a store at an fsspec URL", _add_exchange, pull),
    Command("push", "send finished outcomes to a store at an fsspec URL", _add_exchange, push),
)
