"""The base model's own pictures, judged: kept as a campaign without attack, and read by gates as positive control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..core.attack_spec import AttackSpec
from ..core.concept import Concept, Prompt
from ..core.control import FIRST, Control
from ..core.errors import UnlearnDiffError
from ..core.outcome import Outcome, Status, Tally
from ..store.store import Store
from .campaign import Campaign
from .parts import Fingerprint, VictimSource
from .progress import Progress

if TYPE_CHECKING:
    from PIL import Image

    from ..judges import Judge


def base_campaign(concept: Concept, base: str, judge: str) -> Campaign:
    """The un-erased model under no attack.

    Its key is base, judge and sampling, so that calibration, retention and every gate on a model of this base share
    what is known of it, prompt by prompt.

    Args:
        concept: with its prompts.
        base: fingerprint of the base, as ``Fingerprint.target``.
        judge: content hash of the judge's weights.
    """
    return Campaign(concept, AttackSpec("none"), Fingerprint(base, base), judge)


def known_control(
    store: Store, concept: Concept, base: str, judge: str, watched: Mapping[str, Outcome] | None = None
) -> Control:
    """What is known of the judge on the base's own pictures of these prompts; nothing is drawn.

    Args:
        store: asked where its mode allows.
        concept: with its prompts.
        base: fingerprint of the base, as ``Fingerprint.target``.
        judge: content hash of the judge's weights.
        watched: what this session has learned, which the store may not keep.

    Raises:
        StoreError: the store cannot be read.
    """
    entry = store.entry(concept.name, base_campaign(concept, base, judge).key)
    found = {**(store.known(entry)[0] if store.mode.reads else {}), **(watched or {})}
    return Control.of(Tally.of(found.get(prompt.digest) for prompt in concept.prompts))


def control_campaign(campaign: Campaign) -> Campaign | None:
    """What the base draws for the control of a campaign; None where the attack has it draw the prompts anyway.

    Args:
        campaign: whose judge is to be believed.
    """
    if not campaign.draws_for_control:
        return None
    first = replace(campaign.concept, prompts=campaign.concept.prompts[:FIRST])
    return base_campaign(first, campaign.fingerprint.target, campaign.judge)


def draw_control(
    campaign: Campaign,
    provide: Callable[[], VictimSource],
    store: Store,
    watched: dict[str, Outcome],
    *,
    progress: Progress | None,
    **options: Any,
) -> dict[str, Any]:
    """Have the base draw what the control of a campaign lacks, and the judge see it.

    Args:
        campaign: whose judge is to be believed.
        provide: gives the victim and its base; called only where something has to be drawn.
        store: what is known already is not drawn again.
        watched: takes what the judge said, by prompt digest.
        progress: told after every picture.
        **options: further ones of ``Campaign.run``.

    Returns:
        Facts of the campaign's result: what stopped that, if anything did. What was measured before stays.
    """
    base = control_campaign(campaign)
    assert base is not None
    shown = None if progress is None else lambda found: progress(replace(found, attack="none, on its base"))
    try:
        result = base.run(store, lambda: provide().unerased, progress=shown, **options)
    except Exception as error:
        said = str(error) if isinstance(error, UnlearnDiffError) else f"{type(error).__name__}: {error}"
        return {"obstacle": f"{_STOPPED}: {said}", "cause": error}
    watched |= {outcome.prompt: outcome for outcome in result.outcomes if outcome is not None}
    return {"obstacle": f"{_STOPPED}: {result.obstacle}"} if result.obstacle else {}


_STOPPED = "the base could not draw for the positive control"


def keep_watched(store: Store, campaign: Campaign, outcomes: Sequence[Outcome]) -> None:
    """Keep what was learned of the base's pictures, where the store keeps anything.

    Args:
        store: where.
        campaign: the base's.
        outcomes: what is new.

    Raises:
        StoreError: the store cannot be written.
    """
    if not store.mode.writes or not outcomes:
        return
    entry = store.entry(campaign.concept.name, campaign.key)
    store.prepare(entry, campaign.key)
    if not entry.noted():
        entry.note({"victim": "the base itself, for the positive control"})
    with store.lock(entry):
        for outcome in outcomes:
            store.keep(entry, outcome)


class Witness:
    """Judges target images, which the base draws anyway, and keeps what the judge says of them.

    Args:
        store: where it is kept.
        campaign: the base's.
        judge: the concept's.
        forwards: UNet forward passes that one picture costs.
        found: takes what this session learns, by prompt digest.
    """

    def __init__(
        self, store: Store, campaign: Campaign, judge: Judge, forwards: int, found: dict[str, Outcome]
    ) -> None:
        self._store = store
        self._campaign = campaign
        self._judge = judge
        self._forwards = forwards
        self._entry = store.entry(campaign.concept.name, campaign.key)
        self._found = found

    def __call__(self, prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> None:
        """Judge the pictures of prompts of which nothing is known yet."""
        known = {**(self._store.known(self._entry)[0] if self._store.mode.reads else {}), **self._found}
        new = [(p, image) for p, image in zip(prompts, images, strict=True) if p.digest not in known]
        if not new:
            return
        for (prompt, _), said in zip(new, self._judge([image for _, image in new]), strict=True):
            self._found[prompt.digest] = Outcome(
                prompt.digest,
                Status.GENERATED if said.hit else Status.RESISTED,
                seed=prompt.seed,
                evaluations=1,
                forwards=self._forwards,
                score=said.score,
                detail=said.detail,
            )
        keep_watched(self._store, self._campaign, [self._found[prompt.digest] for prompt, _ in new])
