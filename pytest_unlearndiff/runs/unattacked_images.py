"""The un-attacked images of prompts that an early verdict leaves alone: no pass rests on images that nobody drew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..core.attack_config import NO_ATTACK, AttackConfig
from ..core.errors import StoreError, UnlearnDiffError
from ..core.outcome import Outcome
from ..store.store import Store
from .model_cache import Fingerprint, ModelCache, ModelSpec
from .progress import Progress
from .stop import RUN_ALL, StopCondition

if TYPE_CHECKING:
    from ..workers.distributed_engine import WorkerPoolConfig
    from .campaign import Campaign


def unattacked_campaign(campaign: Campaign) -> Campaign:
    """The same prompts on the same victim without attack.

    Its key is that of a gate with ``attack="none"``, which shares what is known of them.
    """
    concept = replace(campaign.concept, images={})
    plain = Fingerprint(campaign.fingerprint.victim, "")
    return replace(campaign, concept=concept, attack=AttackConfig(NO_ATTACK), fingerprint=plain)


def known_unattacked(campaign: Campaign, store: Store, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Read from the store what became without attack of prompts without an outcome.

    Args:
        campaign: whose prompts.
        store: asked where its mode allows.
        outcomes: by prompt digest.
    """
    lacking = {prompt.digest for prompt in campaign.concept.prompts} - set(outcomes)
    if not lacking or campaign.attack.unattacked or not store.mode.reads:
        return {}
    plain = unattacked_campaign(campaign)
    try:
        kept = store.outcomes(store.campaign(plain.concept.name, plain.key))[0]
    except StoreError:
        return {}
    return {digest: kept[digest] for digest in lacking & set(kept)}


def draw_unattacked(
    undrawn: Campaign,
    store: Store,
    provide: Callable[[], ModelSpec],
    parts: ModelCache,
    *,
    batch_size: int,
    ending: StopCondition,
    progress: Progress | None,
    crew: WorkerPoolConfig | None,
) -> tuple[dict[str, Outcome], str]:
    """Draw the un-attacked images of prompts that an early verdict leaves alone.

    Args:
        undrawn: these prompts without attack.
        store: what is known already is not drawn again.
        provide: gives the victim; called only where something has to be drawn.
        parts: what campaigns of this process share.
        batch_size: prompts drawn together.
        ending: of the attack; its deadline holds.
        progress: told after every image.
        crew: processes that draw instead of this one.

    Returns:
        What became of them by prompt digest, and why some are missing; empty where none is.
    """
    rest = replace(ending, settled=RUN_ALL.settled)
    try:
        result = undrawn.run(store, provide, parts, batch_size=batch_size, progress=progress, ending=rest, crew=crew)
    except Exception as error:
        said = str(error) if isinstance(error, UnlearnDiffError) else f"{type(error).__name__}: {error}"
        return {}, f"{_STOPPED}: {said}"
    drawn = {outcome.prompt: outcome for outcome in result.outcomes if outcome is not None}
    return drawn, f"{_STOPPED}: {result.obstacle}" if result.obstacle else ""


_STOPPED = "the un-attacked images of the prompts that an early verdict leaves alone could not be drawn"
