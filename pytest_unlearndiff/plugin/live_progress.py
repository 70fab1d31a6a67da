"""Live progress on stderr: one updating line on a terminal, sparse lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import nullcontext
from typing import Any

import pytest

from ..core.attack_config import is_unattacked
from ..reports.text import format_duration, sanitize
from ..runs.progress import Snapshot

_EVERY_SECONDS = 60.0


class LiveProgress:
    """Context manager that prints a campaign's progress, past pytest's capture, and ends its last line on exit.

    Args:
        config: pytest's.
        mode: ``auto``, ``lines`` or ``off``.
    """

    def __init__(self, config: pytest.Config, mode: str) -> None:
        self._config = config
        worker = hasattr(config, "workerinput")
        self._off = mode == "off" or config.get_verbosity() < 0
        self._updating = mode == "auto" and sys.__stderr__ is not None and sys.__stderr__.isatty() and not worker
        self._shown_at = float("-inf")
        self._shown_tenth = -1
        self._width = 0
        self._unended = False

    def __enter__(self) -> LiveProgress:
        """Begin with nothing shown."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the last line, whatever ended the campaign."""
        if self._unended:
            self._unended = False
            tell(self._config, "\n")

    def __call__(self, snapshot: Snapshot) -> None:
        """Show a snapshot, unless one was shown a moment ago."""
        now, tally = time.monotonic(), snapshot.tally
        tenth = (tally.total - tally.missing) * 10 // tally.total  # integers: 0.3 - 0.2 is less than 0.1
        due = now - self._shown_at > _EVERY_SECONDS or tenth > self._shown_tenth
        if self._off or not (self._updating or due):
            return
        self._shown_at, self._shown_tenth = now, tenth
        self._write(line(snapshot), last=tally.missing == 0)

    def _write(self, text: str, *, last: bool) -> None:
        if self._updating:
            # A line that wraps cannot be taken back with a carriage return.
            text = sanitize(text, shutil.get_terminal_size().columns - 1)
            padded, self._width = text.ljust(self._width), len(text)
            text = f"\r{padded}" + ("\n" if last else "")
        else:
            # The line lands behind a progress dot, so it begins on a new one.
            text = f"\n{text}" + ("\n" if last else "")
        self._unended = not last
        tell(self._config, text)


def tell(config: pytest.Config, text: str) -> None:
    """Write to stderr, past pytest's capture."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
        sys.stderr.write(text)
        sys.stderr.flush()


def line(snapshot: Snapshot) -> str:
    """Return one line: concept, attack, prompts done, ASR so far, time left."""
    tally = snapshot.tally
    # Without attack it may be good news, as where a concept should be kept.
    what = "seen in" if is_unattacked(snapshot.attack) else "ASR so far"
    return (
        f"unlearndiff {sanitize(snapshot.concept, 30)} ({snapshot.attack}): "
        f"{tally.total - tally.missing}/{tally.total} prompts, {what} {tally.hits}/{tally.total}"
        f"{_going_on(snapshot) if tally.missing else ''}"
    )


def _going_on(snapshot: Snapshot) -> str:
    """Return what is being done, and the time left if it can be estimated."""
    left = snapshot.seconds_left
    remaining = f", {format_duration(left)} left" if left is not None else ""
    if snapshot.active:
        pace = f", {snapshot.workers} workers at {snapshot.pace:.2g} a minute" if snapshot.pace else ""
        doing = "drawing" if is_unattacked(snapshot.attack) else "attacking"
        return f", {doing} {snapshot.active}{_rounds(snapshot)}{pace}{remaining}"
    # Un-attacked images are quickly drawn; how long attacks take is not known before one has ended.
    return remaining if is_unattacked(snapshot.attack) else ", drawing un-attacked images"


def _rounds(snapshot: Snapshot) -> str:
    """Return the rounds that the running prompts are in: a prompt may take long."""
    if not snapshot.rounds:
        return ""
    # A prompt that resisted its last round runs until the next round begins.
    first, last = (min(end, snapshot.last_round or end) for end in (min(snapshot.rounds), max(snapshot.rounds)))
    total = f" of {snapshot.last_round}" if snapshot.last_round else ""
    return f" (round {first}{total})" if first == last else f" (rounds {first} to {last}{total})"
