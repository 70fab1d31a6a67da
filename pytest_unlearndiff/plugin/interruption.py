"""Ctrl-C and SIGTERM in a campaign: both end it at once, and a message says what is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..core.outcome import Counts
from ..reports.text import sanitize
from ..store.store import Mode, Store

INTERRUPTED = "the session was interrupted"
"""Reason for missing prompts of the gate that was running."""

_NAMED = 5


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end the session as Ctrl-C does, with its summary."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt("SIGTERM")

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def standing(nodeid: str, mode: Mode, kept: Counts) -> str:
    """Return the message of an interrupted campaign: what is kept, and which command goes on.

    Args:
        nodeid: the test.
        mode: of the store.
        kept: what the store holds of the campaign.
    """
    where = f"interrupted in {nodeid}"
    if not mode.writes:
        return f"{where}: nothing new is kept"
    return f"{where}: {kept.total - kept.missing} of {kept.total} prompts are kept, {_again(mode)}"


def workers_standing(store: Store, running: Sequence[str]) -> str:
    """Return the message of a session whose campaigns ran in other processes.

    Args:
        store: the session's.
        running: node ids of the gates that were running.
    """
    where = f"interrupted in {named(running)}" if running else "interrupted"
    if not store.mode.writes:
        return f"{where}: nothing new is kept"
    return f"{where}: every prompt that finished is kept in {store.root}, {_again(store.mode)}"


def named(nodeids: Sequence[str]) -> str:
    """Join the first few node ids, and count the others."""
    more = f" and {len(nodeids) - _NAMED} more" if len(nodeids) > _NAMED else ""
    return ", ".join(sanitize(nodeid) for nodeid in nodeids[:_NAMED]) + more


def _again(mode: Mode) -> str:
    return "the same command goes on" if mode.reads else f"go on without --unlearndiff-cache={mode.value}"
