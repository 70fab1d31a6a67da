"""The base model's own images, judged: kept as a campaign without attack, and read by gates as positive control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.attack_config import NO_ATTACK, AttackConfig
from ..core.concept import Concept, Prompt
from ..core.errors import UnlearnDiffError
from ..core.images import Evaluated
from ..core.outcome import Counts, Outcome, Status
from ..core.positive_control import MIN_IMAGES, Control
from ..store.campaign_dir import CampaignDir
from ..store.store import Store
from .campaign import Campaign, check_attackable
from .evaluation import evaluated
from .model_cache import Fingerprint, ModelCache, ModelSpec
from .progress import Progress
from .stop import StopCondition

if TYPE_CHECKING:
    from ..judges.base import Judge
    from ..models.generated_images import GeneratedImage
    from ..workers.distributed_engine import WorkerPoolConfig


def base_campaign(concept: Concept, base: str, judge: str) -> Campaign:
    """The un-erased model under no attack.

    Its key is base, judge and sampling, so that calibration, retention and every gate on a model of this base share
    what is known of it, prompt by prompt.

    Args:
        concept: with its prompts.
        base: fingerprint of the base, as ``Fingerprint.target``.
        judge: content hash of the judge's weights.
    """
    return Campaign(concept, AttackConfig(NO_ATTACK), Fingerprint(base, base), judge)


def known_control(
    store: Store, concept: Concept, base: str, judge: str, watched: Mapping[str, Outcome] | None = None
) -> Control:
    """What is known of the judge on the base's own images of these prompts; nothing is drawn.

    Args:
        store: asked where its mode allows.
        concept: with its prompts.
        base: fingerprint of the base, as ``Fingerprint.target``.
        judge: content hash of the judge's weights.
        watched: what this session has learned, which the store may not keep.

    Raises:
        StoreError: the store cannot be read.
    """
    entry = _entry(store, base_campaign(concept, base, judge))
    found = {**(store.outcomes(entry)[0] if store.mode.reads else {}), **(watched or {})}
    return Control.of(Counts.of((found.get(prompt.digest) for prompt in concept.prompts), concept.prompts))


def _entry(store: Store, campaign: Campaign) -> CampaignDir:
    return store.campaign(campaign.concept.name, campaign.key)


def sharing_control(store: Store, campaign: Campaign) -> AbstractContextManager[None]:
    """Tell the shared store what the judge sees in the meantime, so that nobody reads outcomes there and no control.

    Args:
        store: this session's.
        campaign: what is attacked.
    """
    return store.sharing(_entry(store, base_campaign(campaign.concept, campaign.fingerprint.target, campaign.judge)))


def control_of(campaign: Campaign, store: Store, watched: Mapping[str, Outcome], *, asked: bool = False) -> Control:
    """What is known of a campaign's judge, and how much has to be.

    Args:
        campaign: whose judge is to be believed.
        store: asked where its mode allows.
        watched: what this session has learned, which the store may not keep.
        asked: whether anything depends on it.

    Raises:
        StoreError: the store cannot be read.
    """
    if not campaign.fingerprint.target:
        return Control()
    needed = min(MIN_IMAGES, len(campaign.concept.prompts)) if asked else 0
    known = known_control(store, campaign.concept, campaign.fingerprint.target, campaign.judge, watched)
    if known.seen < needed:
        known = _known_of_others(campaign, store) or known
    if campaign.concept.images:
        known = replace(known, image_source="the concept's target images")
    return replace(known, needed=needed)


def control_required(tally: Counts, *, may_pass: bool) -> bool:
    """Whether a gate asks for a control: where it may pass and, so that another limit is free, once all is done."""
    return may_pass or not tally.unknown


def _known_of_others(campaign: Campaign, store: Store) -> Control | None:
    """What the judge saw in images of any prompts of this concept, such as those that were gated before these."""
    if not store.mode.reads:
        return None
    shown = base_campaign(campaign.concept, campaign.fingerprint.target, campaign.judge)
    outcomes = list(store.outcomes(_entry(store, shown))[0].values())
    # Only digests of their prompts are known, which is enough to see that the model ignores prompts and seeds.
    prompts = [Prompt(o.prompt, -1 if o.seed is None else o.seed, 0.0, case=-1) for o in outcomes]
    found = Control.of(Counts.of(outcomes, prompts))
    return found if found.seen >= MIN_IMAGES and not found.repeated else None


def control_campaign(campaign: Campaign) -> Campaign:
    """The first prompts without attack, drawn by the base for the control of a campaign.

    Args:
        campaign: whose judge is to be believed.
    """
    first = replace(campaign.concept, prompts=campaign.concept.prompts[:MIN_IMAGES])
    return base_campaign(first, campaign.fingerprint.target, campaign.judge)


def draw_control(
    campaign: Campaign,
    provide: Callable[[], ModelSpec],
    store: Store,
    watched: dict[str, Outcome],
    *,
    progress: Progress | None,
    **options: Any,
) -> dict[str, Any]:
    """Have the base draw what the control of a campaign lacks, or take the concept's own images, and the judge see it.

    Args:
        campaign: whose judge is to be believed.
        provide: gives the victim and its base; called only where something has to be looked at.
        store: what is known already is not drawn again.
        watched: takes what the judge said, by prompt digest.
        progress: told after every image.
        **options: further ones of ``Campaign.run``.

    Returns:
        Facts of the campaign's result: what stopped that, if anything did. What was measured before stays.
    """
    base = control_campaign(campaign)
    shown = None if progress is None else lambda found: progress(replace(found, attack="none, on its base"))
    try:
        if campaign.concept.images:
            with sharing_control(store, campaign):
                _look(base, provide, store, watched, **options)
            return {}
        result = base.run(store, lambda: provide().unerased, progress=shown, **options)
    except Exception as error:
        said = str(error) if isinstance(error, UnlearnDiffError) else f"{type(error).__name__}: {error}"
        return {"obstacle": f"{_STOPPED}: {said}", "cause": error}
    outcomes = [outcome for outcome in result.outcomes if outcome is not None]
    watched |= {outcome.prompt: outcome for outcome in outcomes}
    stopped = result.obstacle or next((str(outcome.error) for outcome in outcomes if outcome.error), "")
    return {"obstacle": f"{_STOPPED}: {stopped}"} if stopped else {}


_STOPPED = "the positive control could not be drawn and judged"


def _look(
    shown: Campaign,
    provide: Callable[[], ModelSpec],
    store: Store,
    watched: dict[str, Outcome],
    *,
    parts: ModelCache,
    ending: StopCondition,
    crew: WorkerPoolConfig | None,
    confirm: Callable[[], None],
    **_: Any,
) -> None:
    """Have the judge look at a concept's own images; here, since nothing has to be drawn.

    Raises:
        UnlearnDiffError: that cannot be done.
    """
    check_attackable(store.mode, ending, torch=True)
    from ..models.generated_images import GeneratedImage
    from ..models.target_images import supplied_image

    source = provide()
    # Workers have the GPUs, and this machine may have none.
    judge = parts.judge(shown.concept.judge, source if crew is None else source.on("cpu"))
    confirm()
    prompts = shown.concept.prompts
    images = [GeneratedImage(supplied_image(Path(shown.concept.images[prompt.digest]))) for prompt in prompts]
    ControlRecorder(store, shown, judge, 0, watched)(prompts, images)


def keep_watched(store: Store, campaign: Campaign, outcomes: Sequence[Outcome]) -> None:
    """Keep what was learned of the base's images, where the store keeps anything.

    Args:
        store: where.
        campaign: the base's.
        outcomes: what is new.

    Raises:
        StoreError: the store cannot be written.
    """
    if not store.mode.writes or not outcomes:
        return
    entry = _entry(store, campaign)
    store.create(entry, campaign.key)
    if not entry.metadata:
        entry.write_metadata({"victim": "the base itself, for the positive control"})
    with store.lock(entry):
        for outcome in outcomes:
            store.append(entry, outcome)


class ControlRecorder:
    """Judges target images, which the base draws anyway, and keeps what the judge says of them.

    Args:
        store: where it is kept.
        campaign: the base's.
        judge: the concept's.
        forwards: UNet forward passes that one image costs.
        found: takes what this session learns, by prompt digest.
    """

    def __init__(
        self, store: Store, campaign: Campaign, judge: Judge, forwards: int, found: dict[str, Outcome]
    ) -> None:
        self._store = store
        self._campaign = campaign
        self._judge = judge
        self._forwards = forwards
        self._entry = _entry(store, campaign)
        self._found = found

    def __call__(self, prompts: Sequence[Prompt], images: Sequence[GeneratedImage]) -> None:
        """Judge the images of prompts of which nothing is known yet; one that is no evidence is an error."""
        known = {**(self._store.outcomes(self._entry)[0] if self._store.mode.reads else {}), **self._found}
        new = [(p, image) for p, image in zip(prompts, images, strict=True) if p.digest not in known]
        if not new:
            return
        for (prompt, _), each in zip(new, evaluated([image for _, image in new], self._judge), strict=True):
            self._found[prompt.digest] = self._outcome(prompt, each)
        keep_watched(self._store, self._campaign, [self._found[prompt.digest] for prompt, _ in new])

    def _outcome(self, prompt: Prompt, evaluated: Evaluated) -> Outcome:
        judgement = evaluated.judgement
        drew = Outcome(prompt.digest, Status.ERROR, seed=prompt.seed, evaluations=1, forwards=self._forwards)
        if judgement is None:
            return replace(drew, error=evaluated.problem)
        return replace(
            drew,
            status=Status.HIT_WITHOUT_ATTACK if judgement.hit else Status.RESISTED,
            score=judgement.score,
            detail=judgement.detail,
            # One image of the user's may stand for several prompts.
            image=None if self._campaign.concept.images else evaluated.image,
        )
