"""Run a campaign for a test: with progress, to be interrupted, and never to end without a result."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ..core.errors import ModelError, UnlearnDiffError
from ..core.result import AttackResult
from ..runs.campaign import Campaign
from ..runs.local_backend import LocalBackend
from ..runs.model_cache import Fingerprint, ModelSpec
from ..runs.runner import ResolveModel, Runner, result_from_store
from ..sources.judge_files import judge_weights
from .interruption import INTERRUPTED, standing
from .live_progress import LiveProgress
from .session import SessionState, state_of

BUDGET_USED = "--unlearndiff-time-budget is used up: the same command goes on"
BUDGET_TOO_SHORT = "--unlearndiff-time-budget was used up before any prompt was finished: give it more time"


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
    resolve_model: ResolveModel = lambda: source if state.crew else state.acquire_device(source)  # noqa: E731
    try:
        with LiveProgress(node.config, state.settings.progress) as progress:
            backend, batch_size = state.crew or LocalBackend(), state.settings.batch_size
            runner = Runner(state.store, state.parts, backend, batch_size=batch_size, progress=progress)
            return runner.run(campaign, resolve_model, confirm=lambda: _confirm(campaign, source, state), **options)
    except (KeyboardInterrupt, pytest.exit.Exception):
        mode = campaign.store_of(state.store).mode
        state.interrupted = standing(node.nodeid, mode, campaign.stored_counts(state.store))
        raise
    except UnlearnDiffError:
        raise
    except Exception as error:
        return stopped(campaign, error, state)


def interrupted(campaign: Campaign, error: BaseException, state: SessionState) -> AttackResult:
    """Return what is known of a campaign that Ctrl-C ended, which passes nothing, whatever that is."""
    return replace(result_from_store(campaign, state.store, INTERRUPTED), cause=error)


def _confirm(campaign: Campaign, source: ModelSpec, state: SessionState) -> None:
    """Ask whether what has been loaded is what the campaign's key was made from.

    Workers ask that themselves, and a pipeline of the user's own is no file that somebody may have replaced.

    Raises:
        ModelError: a file has another content than when its hash was taken.
    """
    if state.crew is not None or source.pipe is not None:
        return
    found, wanted = Fingerprint.of(source, state.store.fingerprints, campaign.concept.images), campaign.fingerprint
    judge = judge_weights(campaign.concept.judge, state.store.fingerprints)
    same = found.victim == wanted.victim and wanted.target in ("", found.target)
    if not same or judge != campaign.judge:
        what = f"the judge of concept {campaign.concept.name!r}" if same else f"{source.title}, or its base,"
        raise ModelError(f"{what} was replaced while the session ran: run again, when nobody writes its files")


def stopped(campaign: Campaign, error: BaseException, state: SessionState) -> AttackResult:
    """Return what is known of a campaign that an exception stopped."""
    foreseen = isinstance(error, UnlearnDiffError)
    work = "Drawing" if campaign.attack.unattacked else "The attack"
    obstacle = str(error) if foreseen else f"{work} was stopped by {type(error).__name__}: {error}"
    return replace(result_from_store(campaign, state.store, obstacle), cause=error)
