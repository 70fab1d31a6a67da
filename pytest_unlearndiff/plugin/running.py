"""Campaigns of tests: run with live progress, interrupted by Ctrl-C and SIGTERM, and never without a result.

Progress is printed on stderr: one updating line on a terminal, sparse lines elsewhere.
"""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest

from ..core.attack_config import is_unattacked, threat_of
from ..core.errors import ModelError, UnlearnDiffError
from ..core.outcome import Counts, Outcome
from ..core.result import AttackResult
from ..reports.text import format_duration, sanitize
from ..runs.campaign import Campaign, StopCondition
from ..runs.checkpoints import CheckpointFolder
from ..runs.local_backend import LocalBackend
from ..runs.model_spec import Fingerprint, ModelSpec
from ..runs.progress import Snapshot
from ..runs.runner import ResolveModel, Runner, ignore_outcome, result_from_store
from ..sources.resolve import judge_weights
from ..store.store import Mode, Store
from .session import SessionState, state_of
from .settings import tell

BUDGET_USED = "--unlearndiff-time-budget is used up: the same command goes on"
BUDGET_TOO_SHORT = "--unlearndiff-time-budget was used up before any prompt was finished: give it more time"
INTERRUPTED = "the session was interrupted"
"""Reason for missing prompts of the gate that was running."""

_NAMED = 5


def run_campaign(
    campaign: Campaign,
    source: ModelSpec,
    node: pytest.Item,
    stop: StopCondition,
    on_outcome: Callable[[Outcome], None] = ignore_outcome,
    may_pass: Callable[[Counts], bool] | None = None,
) -> AttackResult:
    """Attack what is missing.

    Args:
        campaign: what is asked.
        source: the victim.
        node: the test.
        stop: when the rest of the prompts is left alone.
        on_outcome: as for ``Runner.run``.
        may_pass: likewise.

    Returns:
        The result; what is known, with the exception as its cause, where an unforeseen one stopped the attack.

    Raises:
        UnlearnDiffError: as ``Runner.run``.
    """
    state = state_of(node.config)
    state.begin()
    resolve_model: ResolveModel = lambda: source if state.worker_pool else state.acquire_device(source)  # noqa: E731
    try:
        with LiveProgress(node.config, state.settings.progress) as progress:
            backend, batch_size = state.worker_pool or LocalBackend(), state.settings.batch_size
            shown = progress if progress.is_shown else None
            runner = Runner(state.store, state.models, backend, batch_size=batch_size, progress=shown)
            confirm = partial(_confirm, campaign, source, state)
            return runner.run(
                campaign, resolve_model, stop=stop, on_outcome=on_outcome, confirm=confirm, may_pass=may_pass
            )
    except (KeyboardInterrupt, pytest.exit.Exception):
        own = campaign.store_of(state.store)
        kept, begun = campaign.stored_counts(state.store), CheckpointFolder.of(campaign, own).count
        state.interrupted = interrupt_message(node.nodeid, own.mode, kept, begun)
        raise
    except UnlearnDiffError:
        raise
    except Exception as error:
        return result_after_error(campaign, error, state)


def result_after_interrupt(campaign: Campaign, error: BaseException, state: SessionState) -> AttackResult:
    """Return what is known of a campaign that Ctrl-C ended, which passes nothing, whatever that is."""
    return replace(result_from_store(campaign, state.store, INTERRUPTED), cause=error)


def _confirm(campaign: Campaign, source: ModelSpec, state: SessionState) -> None:
    """Check that what was loaded is what the campaign's key was made from.

    Workers check that themselves, and a pipeline object is no file that could have been replaced.

    Raises:
        ModelError: a file changed after its hash was taken.
    """
    if state.worker_pool is not None or source.pipe is not None:
        return
    loaded, expected = Fingerprint.of(source, state.store.fingerprints, campaign.concept.images), campaign.fingerprint
    judge = judge_weights(campaign.concept.judge, state.store.fingerprints)
    same = loaded.victim == expected.victim and expected.targets_digest in ("", loaded.targets_digest)
    if not same or judge != campaign.judge:
        what = f"the judge of concept {campaign.concept.name!r}" if same else f"{source.label}, or its base,"
        raise ModelError(f"{what} was replaced while the session ran: run again, when nobody writes its files")


def result_after_error(campaign: Campaign, error: BaseException, state: SessionState) -> AttackResult:
    """Return what is known of a campaign that an exception stopped."""
    expected = isinstance(error, UnlearnDiffError)
    work = "Drawing" if campaign.attack.info.unattacked else "The attack"
    obstacle = str(error) if expected else f"{work} was stopped by {type(error).__name__}: {error}"
    return replace(result_from_store(campaign, state.store, obstacle), cause=error)


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


def interrupt_message(nodeid: str, mode: Mode, kept: Counts, begun: int) -> str:
    """Return the message of an interrupted campaign: what is kept, and which command goes on.

    Args:
        nodeid: the test.
        mode: of the store.
        kept: what the store holds of the campaign.
        begun: prompts of which it holds the rounds so far.
    """
    where = f"interrupted in {nodeid}"
    if not mode.writes:
        return f"{where}: nothing new is kept"
    rounds = f", and the rounds of {begun} more" if begun else ""
    return f"{where}: {kept.total - kept.missing} of {kept.total} prompts are kept{rounds}, {_again(mode)}"


def remote_interrupt_message(store: Store, running: Sequence[str]) -> str:
    """Return the message of a session whose campaigns ran in other processes.

    Args:
        store: the session's.
        running: node ids of the gates that were running.
    """
    where = f"interrupted in {join_node_ids(running)}" if running else "interrupted"
    if not store.mode.writes:
        return f"{where}: nothing new is kept"
    return f"{where}: every prompt that finished is kept in {store.root}, {_again(store.mode)}"


def join_node_ids(nodeids: Sequence[str]) -> str:
    """Join the first few node ids, and count the others."""
    more = f" and {len(nodeids) - _NAMED} more" if len(nodeids) > _NAMED else ""
    return ", ".join(sanitize(nodeid) for nodeid in nodeids[:_NAMED]) + more


def _again(mode: Mode) -> str:
    return "the same command goes on" if mode.reads else f"go on without --unlearndiff-cache={mode.value}"


_EVERY_SECONDS = 60.0
_LONG = 3600.0
"""Seconds that nobody should have to find out about by waiting."""


class LiveProgress:
    """Context manager that prints a campaign's progress, past pytest's capture, and ends its last line on exit.

    Args:
        config: pytest's.
        mode: ``auto``, ``lines`` or ``off``.

    Attributes:
        is_shown: False where nothing is printed, and so nothing need be forecast.
    """

    def __init__(self, config: pytest.Config, mode: str) -> None:
        self._config = config
        worker = hasattr(config, "workerinput")
        self.is_shown = mode != "off" and config.get_verbosity() >= 0
        self._updating = mode == "auto" and sys.__stderr__ is not None and sys.__stderr__.isatty() and not worker
        self._shown_at = float("-inf")
        self._shown_tenth = -1
        self._width = 0
        self._unended = False
        self._told_long = False

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
        now, counts = time.monotonic(), snapshot.counts
        tenth = (counts.total - counts.missing) * 10 // counts.total  # integers: 0.3 - 0.2 is less than 0.1
        long, self._told_long = self._told_long, self._told_long or (snapshot.seconds_left or 0.0) > _LONG
        due = now - self._shown_at > _EVERY_SECONDS or tenth > self._shown_tenth or self._told_long > long
        if not self.is_shown or not (self._updating or due):
            return
        self._shown_at, self._shown_tenth = now, tenth
        self._write(line(snapshot), last=counts.missing == 0)

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


def line(snapshot: Snapshot) -> str:
    """Return one line: concept, attack, prompts done, the rate so far, time left."""
    counts = snapshot.counts
    # Without attack it may be good news, as where a concept should be kept.
    what = "seen in" if is_unattacked(snapshot.attack) else f"{threat_of(snapshot.attack).rate} so far"
    figure = "" if snapshot.measures else f", {what} {counts.hits}/{counts.total}"
    return (
        f"unlearndiff {sanitize(snapshot.concept, 30)} ({'quality' if snapshot.measures else snapshot.attack}): "
        f"{counts.total - counts.missing}/{counts.total} prompts{figure}"
        f"{_going_on(snapshot) if counts.missing else ''}"
    )


def _going_on(snapshot: Snapshot) -> str:
    """Return what is being done, and the time left if it can be estimated."""
    left = snapshot.seconds_left
    remaining = f", {format_duration(left)} left" if left is not None and left >= 1 else ""
    if snapshot.active:
        pace = f", {snapshot.workers} workers at {snapshot.pace:.2g} a minute" if snapshot.pace else ""
        doing = "drawing" if is_unattacked(snapshot.attack) else "attacking"
        return f", {doing} {snapshot.active}{_rounds(snapshot)}{pace}{remaining}"
    counts = snapshot.counts
    ended = counts.hits_under_attack + counts.misses  # several may end in one round, and are told one by one
    return remaining if ended or is_unattacked(snapshot.attack) else f", drawing un-attacked images{remaining}"


def _rounds(snapshot: Snapshot) -> str:
    """Return the rounds that the running prompts are in: a prompt may take long."""
    if not snapshot.rounds:
        return ""
    # A prompt that resisted its last round runs until the next round begins.
    first, last = (min(end, snapshot.last_round or end) for end in (min(snapshot.rounds), max(snapshot.rounds)))
    total = f" of {snapshot.last_round}" if snapshot.last_round else ""
    return f" (round {first}{total})" if first == last else f" (rounds {first} to {last}{total})"
