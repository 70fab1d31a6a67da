"""Campaigns of tests: run with live progress, interrupted by Ctrl-C and SIGTERM, and never without a result."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from ..core.errors import ModelError, UnlearnDiffError
from ..core.outcome import Counts
from ..core.result import AttackResult
from ..reports.text import sanitize
from ..runs.campaign import Campaign
from ..runs.local_backend import LocalBackend
from ..runs.model_cache import Fingerprint, ModelSpec
from ..runs.runner import ResolveModel, Runner, result_from_store
from ..sources.import_string import judge_weights
from ..store.store import Mode, Store
from .live_progress import LiveProgress
from .session import SessionState, state_of

BUDGET_USED = "--unlearndiff-time-budget is used up: the same command goes on"
BUDGET_TOO_SHORT = "--unlearndiff-time-budget was used up before any prompt was finished: give it more time"
INTERRUPTED = "the session was interrupted"
"""Reason for missing prompts of the gate that was running."""

_NAMED = 5


def run_campaign(campaign: Campaign, source: ModelSpec, node: pytest.Item, **options: Any) -> AttackResult:
    """Attack what is missing.

    Args:
        campaign: what is asked.
        source: the victim.
        node: the test.
        **options: further ones of ``Runner.run``.

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
            runner = Runner(state.store, state.models, backend, batch_size=batch_size, progress=progress)
            return runner.run(campaign, resolve_model, confirm=lambda: _confirm(campaign, source, state), **options)
    except (KeyboardInterrupt, pytest.exit.Exception):
        mode = campaign.store_of(state.store).mode
        state.interrupted = interrupt_message(node.nodeid, mode, campaign.stored_counts(state.store))
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
    same = loaded.victim == expected.victim and expected.target in ("", loaded.target)
    if not same or judge != campaign.judge:
        what = f"the judge of concept {campaign.concept.name!r}" if same else f"{source.title}, or its base,"
        raise ModelError(f"{what} was replaced while the session ran: run again, when nobody writes its files")


def result_after_error(campaign: Campaign, error: BaseException, state: SessionState) -> AttackResult:
    """Return what is known of a campaign that an exception stopped."""
    expected = isinstance(error, UnlearnDiffError)
    work = "Drawing" if campaign.attack.unattacked else "The attack"
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


def interrupt_message(nodeid: str, mode: Mode, kept: Counts) -> str:
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
