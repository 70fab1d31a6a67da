"""The positive control: the base model's own images as the judge sees them, kept as a campaign without attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..core.attack_config import NO_ATTACK, AttackConfig
from ..core.concept import Concept, Prompt
from ..core.errors import describe_error
from ..core.images import Evaluated
from ..core.outcome import Counts, Outcome, Status
from ..core.result import MIN_IMAGES, Control
from ..store.store import Store
from .campaign import Campaign
from .evaluation import evaluated
from .model_spec import Fingerprint, ModelSpec

if TYPE_CHECKING:
    from ..judges.base import Judge
    from ..models.generated_images import GeneratedImage

_STOPPED = "the positive control could not be drawn and judged"


def base_campaign(concept: Concept, base: str, judge: str) -> Campaign:
    """The un-erased model under no attack.

    Its key is base, judge and sampling, so that calibration, retention and every gate on a model of this base share
    its outcomes, prompt by prompt.

    Args:
        concept: with its prompts.
        base: fingerprint of the base, as ``Fingerprint.targets_digest``.
        judge: content hash of the judge's weights.
    """
    return Campaign(concept, AttackConfig(NO_ATTACK), Fingerprint(base, base), judge)


def control_campaign(campaign: Campaign) -> Campaign:
    """The prompts of a campaign on its base, without attack; the images are its positive control."""
    return base_campaign(campaign.concept, campaign.fingerprint.targets_digest, campaign.judge)


def first_control_prompts(campaign: Campaign) -> Campaign:
    """Return the first prompts of ``control_campaign``, as many as have to be drawn if none is stored."""
    first = replace(campaign.concept, prompts=campaign.concept.prompts[:MIN_IMAGES])
    return base_campaign(first, campaign.fingerprint.targets_digest, campaign.judge)


def known_control(control: Campaign, store: Store, recorded: Mapping[str, Outcome] | None = None) -> Control:
    """Read stored and recorded judgements on the base's own images; nothing is drawn.

    Args:
        control: the base's campaign.
        store: read where its mode allows.
        recorded: outcomes of this session, which the store may not keep.

    Raises:
        StoreError: the store cannot be read.
    """
    return Control.of(control.counts({**store.outcomes(control.folder(store))[0], **(recorded or {})}))


def control_of(
    campaign: Campaign, store: Store, recorded: Mapping[str, Outcome] | None = None, *, required: bool = False
) -> Control:
    """Read the control of a campaign's judge, and how many images it needs.

    Args:
        campaign: the campaign of that judge.
        store: read where its mode allows.
        recorded: outcomes of this session, which the store may not keep.
        required: true if a verdict depends on it.

    Raises:
        StoreError: the store cannot be read.
    """
    if not campaign.fingerprint.targets_digest:
        return Control()
    needed = min(MIN_IMAGES, len(campaign.concept.prompts)) if required else 0
    base = control_campaign(campaign)
    control = known_control(base, store, recorded)
    if control.seen < needed:
        control = _control_of_other_prompts(base, store) or control
    if campaign.concept.images:
        control = replace(control, image_source="the concept's target images")
    return replace(control, needed=needed)


def control_required(counts: Counts, *, may_pass: bool) -> bool:
    """Tell whether a gate needs a control: where it may pass and, so that another limit is free, once all is done."""
    return may_pass or not counts.unknown


def _control_of_other_prompts(base: Campaign, store: Store) -> Control | None:
    """Read what the judge saw in images of any prompts of this concept, such as those that were gated before these."""
    outcomes = list(store.outcomes(base.folder(store))[0].values())
    # Only digests of their prompts are known, which is enough to see that the model ignores prompts and seeds.
    prompts = [Prompt(o.prompt, -1 if o.seed is None else o.seed, 0.0, case=-1) for o in outcomes]
    control = Control.of(Counts.of(outcomes, prompts))
    return control if control.seen >= MIN_IMAGES and not control.repeated else None


class ControlRecorder:
    """Keeps what the judge sees in the base's own images, which are drawn for the control or as target images.

    Args:
        campaign: the base's.
        store: keeps outcomes, where its mode allows.

    Attributes:
        outcomes: of this session, by prompt digest.
    """

    def __init__(self, campaign: Campaign, store: Store) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self._campaign = campaign
        self._store = store
        self._stored: frozenset[str] | None = None

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Keep outcomes of prompts that have none yet.

        Raises:
            StoreError: the store cannot be written.
        """
        new = [outcome for outcome in outcomes if not self._is_known(outcome.prompt)]
        if not new:
            return
        self.outcomes.update({outcome.prompt: outcome for outcome in new})
        folder = self._campaign.folder(self._store)
        self._store.create(folder, self._campaign.key)
        if not folder.metadata:
            self._store.write_metadata(folder, {"victim": "the base itself, for the positive control"})
        with self._store.lock(folder):
            for outcome in new:
                self._store.append(folder, outcome)

    def judge(self, prompts: Sequence[Prompt], images: Sequence[GeneratedImage], judge: Judge, forwards: int) -> None:
        """Judge images of prompts that have no outcome yet; an unusable image is an error.

        Args:
            prompts: the prompts.
            images: one per prompt.
            judge: the concept's.
            forwards: forward passes that one image cost.
        """
        new = [(p, image) for p, image in zip(prompts, images, strict=True) if not self._is_known(p.digest)]
        results = evaluated([image for _, image in new], [prompt.text for prompt, _ in new], judge) if new else []
        self.add([self._outcome(prompt, result, forwards) for (prompt, _), result in zip(new, results, strict=True)])

    def judge_supplied_images(self, control: Campaign, judge: Judge, spec: ModelSpec) -> None:
        """Judge a concept's own images, which nothing has to draw, with the arithmetic and batches of an engine.

        Args:
            control: the base's campaign, with the prompts whose images are needed.
            judge: the concept's.
            spec: the victim, whose device and precision these are.
        """
        from ..models.device import full_batches
        from ..models.target_images import supplied_images

        prompts = control.concept.prompts
        images = supplied_images(prompts, control.concept.images)
        with full_batches(spec.device, spec.dtype):
            self.judge(prompts, images, judge, 0)

    def _is_known(self, prompt: str) -> bool:
        if self._stored is None:
            self._stored = frozenset(self._store.outcomes(self._campaign.folder(self._store))[0])
        return prompt in self._stored or prompt in self.outcomes

    def _outcome(self, prompt: Prompt, result: Evaluated, forwards: int) -> Outcome:
        judgement = result.judgement
        outcome = Outcome(prompt.digest, Status.ERROR, seed=prompt.seed, evaluations=1, forwards=forwards)
        if judgement is None:
            return replace(outcome, error=result.problem)
        return replace(
            outcome,
            status=Status.HIT_WITHOUT_ATTACK if judgement.hit else Status.RESISTED,
            score=judgement.score,
            detail=judgement.detail,
            # One image of the user's may stand for several prompts.
            image=None if self._campaign.concept.images else result.image,
        )


class PositiveControl:
    """The positive control of one run of a campaign.

    Args:
        campaign: the campaign.
        store: has and keeps the judgements.

    Attributes:
        recorder: judgements on the base's images in this session.
        seen: what the judge saw, as far as ``complete`` was called.
        obstacle: why a gate that may pass lacks images; empty if it does not.
        cause: the exception that is the obstacle.
    """

    def __init__(self, campaign: Campaign, store: Store) -> None:
        self.recorder = ControlRecorder(control_campaign(campaign), store)
        self.seen = Control()
        self.obstacle = ""
        self.cause: Exception | None = None
        self._campaign = campaign
        self._store = store

    def complete(
        self, counts: Counts, may_pass: Callable[[Counts], bool] | None, judge_missing: Callable[[Campaign], str]
    ) -> None:
        """Read stored and recorded judgements and, if the gate needs more images, have them judged.

        Args:
            counts: the campaign's.
            may_pass: tells if the gate may pass with these counts; None without images that show the concept.
            judge_missing: has images of these prompts judged; returns the obstacle, if any.

        Raises:
            StoreError: the store cannot be read.
        """
        passes = may_pass is not None and may_pass(counts)
        required = may_pass is not None and control_required(counts, may_pass=passes)
        self.seen = control_of(self._campaign, self._store, self.recorder.outcomes, required=required)
        if not self.seen.insufficient:
            return
        cause = None
        try:
            obstacle = judge_missing(first_control_prompts(self._campaign))
        except Exception as error:
            obstacle, cause = describe_error(error), error
        self.seen = control_of(self._campaign, self._store, self.recorder.outcomes, required=required)
        if self.seen.insufficient and passes and obstacle:
            self.obstacle, self.cause = f"{_STOPPED}: {obstacle}", cause
