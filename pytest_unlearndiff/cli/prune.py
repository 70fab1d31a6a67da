"""Delete campaigns that no session will ask for again."""

from __future__ import annotations

import argparse
import time

from ..core.attack_config import ALGORITHM
from ..store.store import CampaignDir
from .arguments import days
from .store import add_removal, remove

SUMMARY = "delete campaigns of older attack versions, and those not written for some days"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The store, and how old is too old."""
    add_removal(parser)
    parser.add_argument("--days", type=days, help="delete what was last written longer ago than this, too")


def run(arguments: argparse.Namespace) -> int:
    """Delete them, if that is meant."""
    oldest = time.time() - arguments.days * 86400 if arguments.days is not None else float("-inf")

    def unwanted(entry: CampaignDir) -> bool:
        key = entry.key()
        outdated = key is None or key.get("algorithm") != ALGORITHM
        # Of what was fetched from a shared store, the key stays unknown until a session asks for it.
        download = not (entry.folder / "key.json").exists()
        return (outdated and not download) or entry.written < oldest

    return remove(arguments, unwanted)
