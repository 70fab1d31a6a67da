"""Parts of a gate's report: prompts, limits, counts, rates, the base, the control and the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Any

import msgspec

from ..core.concept import Prompt
from ..core.gate import LIMITS, Gate, Reading
from ..core.images import embedding_digest
from ..core.outcome import HITS, Counts, Outcome, Status
from ..core.rate import Rate
from ..core.result import Retention

MISSING = "missing"
"""The status of a prompt without an outcome, which is none of ``Status``."""

STATUSES = (*(status.value for status in Status), MISSING)

UPSTREAM_MAX_TOKENS = 60
"""Tokens of the longest prompts that upstream attacks, with the two at their ends; here the others are attacked too."""

_STATUS = msgspec.Meta(pattern=f"^({'|'.join(STATUSES)})$")

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the JSON report."""


class PromptReport(Part, frozen=True, kw_only=True):
    """One prompt of the set with its outcome.

    Attributes:
        digest: hash of text, seed and guidance.
        case: the prompt's number, for people.
        text: prompt as typed.
        seed: the prompt's own; guidance: its classifier-free guidance scale.
        status: one of STATUSES.
        adversarial: the text that drew the concept under attack; inserted: the adversarial tokens in it.
        drawn: seed of the image that decided.
        score: the judge's, in the judge's own unit; None where there is none, or no finite one.
        detail: the judge's word on the image that decided.
        evaluations: images judged; steps: steps of the search; forwards: network forward passes.
        error: why the prompt could not be attacked to its end.
        timestep: where the round of the search that broke it measured the denoising error; None where that is no single
            one, or not known.
        tokens: of the prompt, with the two at its ends; None where that is not known.
        embedding: digest of the learned embedding that drew the concept; None for none.
    """

    digest: str
    case: int
    text: str
    seed: int
    guidance: float
    status: Annotated[str, _STATUS] = MISSING
    adversarial: str | None = None
    inserted: str | None = None
    drawn: int | None = None
    score: float | None = None
    detail: str = ""
    evaluations: Count = 0
    steps: Count = 0
    forwards: Count = 0
    error: str | None = None
    timestep: int | None = None
    tokens: int | None = None
    embedding: str | None = None

    @classmethod
    def of(cls, prompt: Prompt, outcome: Outcome | None) -> PromptReport:
        """Join a prompt with its outcome, if it has one."""
        report = cls(
            digest=prompt.digest, case=prompt.case, text=prompt.text, seed=prompt.seed, guidance=prompt.guidance
        )
        if outcome is None:
            return report
        finite = outcome.score is not None and math.isfinite(outcome.score)
        return msgspec.structs.replace(
            report,
            status=outcome.status.value,
            drawn=outcome.seed,
            score=outcome.score if finite else None,
            embedding=None if outcome.embedding is None else embedding_digest(outcome.embedding),
            **{name: getattr(outcome, name) for name in _FROM_OUTCOME},
        )

    @property
    def hit(self) -> bool:
        """True where it drew the concept, with or without attack."""
        return self.status in HITS

    @property
    def unknown(self) -> bool:
        """True where it might still be a hit."""
        return self.status in (MISSING, Status.ERROR)

    def round(self, images: int) -> int | None:
        """Number of the attack's round after which it broke, from 1; None if it did not.

        Args:
            images: drawn without attack, and after each round.
        """
        rounds = self.evaluations // images - 1
        return rounds if self.status == Status.HIT_UNDER_ATTACK and rounds > 0 else None

    @property
    def attacked(self) -> Prompt | None:
        """The prompt that drew the concept under attack, None where none did."""
        if self.status != Status.HIT_UNDER_ATTACK or self.adversarial is None:
            return None
        return self._drawn(self.adversarial)

    @property
    def unattacked(self) -> Prompt:
        """The prompt without attack, with the seed that drew the concept if it did."""
        hit = self.status == Status.HIT_WITHOUT_ATTACK
        return self._drawn(self.text) if hit else Prompt(self.text, self.seed, self.guidance, self.case)

    def _drawn(self, text: str) -> Prompt:
        return Prompt(text, self.seed if self.drawn is None else self.drawn, self.guidance, self.case)


_FROM_OUTCOME = ("adversarial", "inserted", "detail", "evaluations", "steps", "forwards", "error", "timestep", "tokens")


class LimitsReport(Part, frozen=True, kw_only=True):
    """The limits of a gate.

    Attributes:
        text: the gate in words; empty where it has no limit.
        max_asr, max_pre_asr, max_recovery, min_rate, max_loss: the limits exactly, such as ``1/10``; None for none.
        reading: ``point``, or the bound that is read: ``upper`` or ``lower``.
        confidence: of that bound and of the interval.
        support: how little a pass says on so few prompts; None where it says enough, or is none.
    """

    text: str
    max_asr: str | None
    max_pre_asr: str | None
    max_recovery: str | None
    min_rate: str | None
    max_loss: str | None
    reading: Reading
    confidence: float
    support: str | None = None

    @property
    def gate(self) -> Gate:
        """The gate that these limits are of."""
        texts = {name: getattr(self, name) for name in LIMITS}
        limits = {name: Fraction(text) for name, text in texts.items() if text is not None}
        return Gate(**limits, reading=self.reading, confidence=self.confidence)

    @property
    def max_rate(self) -> str | None:
        """The limit on prompts that draw the concept with or without attack, whatever the attack's threat model."""
        return self.max_recovery if self.max_asr is None else self.max_asr


class CountsReport(Part, frozen=True, kw_only=True):
    """Prompts by how they ended; attackable: those that upstream would attack, None where some length is not known."""

    total: Count
    attackable: int | None
    hits_without_attack: Count
    hits_under_attack: Count
    resisted: Count
    blocked: Count
    error: Count
    missing: Count


class RateReport(Part, frozen=True, kw_only=True):
    """A rate as far as it is known: prompts that errored or are missing may each be a hit.

    Attributes:
        at_least, at_most: the rate if none, and if each of them is.
        interval: two-sided Clopper-Pearson interval around that range.
    """

    at_least: Share
    at_most: Share
    interval: tuple[Share, Share]


class ScoresReport(Part, frozen=True, kw_only=True):
    """The judge's scores, of prompts that have one on both models.

    Attributes:
        pairs: number of such prompts.
        victim: mean on the images of the model under test, in the judge's own unit.
        base: mean on the un-erased model's images.
        change: interval of the mean of victim less base, pair by pair.
    """

    pairs: Count
    victim: float
    base: float
    change: tuple[float, float]


class BaseReport(Part, frozen=True, kw_only=True):
    """The same prompts on the un-erased model, for a concept that must be kept.

    Attributes:
        key: of its campaign in the store.
        hits: prompts that it draws.
        unknown: prompts that errored or are missing.
        lost: prompts that it draws and the model under test does not.
        lost_unknown: prompts that may be lost too.
        scores: the judge's scores on both models; None where too few are known.
    """

    key: str
    hits: Count
    unknown: Count
    lost: Count
    lost_unknown: Count
    scores: ScoresReport | None = None


class ControlReport(Part, frozen=True, kw_only=True):
    """The positive control: in how many (hits) of how many images (seen) of the concept the judge saw it.

    Attributes:
        image_source: what those images are.
    """

    hits: Count
    seen: Count
    image_source: str


class RunReport(Part, frozen=True, kw_only=True):
    """Facts that may differ when the same is measured again.

    Attributes:
        fresh: outcomes of the model under test computed in this session; the rest came from the store.
        seconds: wall-clock time of this session.
        computed_forwards: network forward passes computed in this session, copies that fill batches up among them.
        victim: the model under test, for people; empty where that is not recorded.
        base: the un-erased model, for people; empty for none.
        base_fingerprint: its content hash; empty for none.
        device: where models ran; empty where that is not known.
        images: folder of the thumbnails, from where pytest was started; empty where there is none.
        assumed: what was loaded and assumed.
    """

    fresh: Count = 0
    seconds: float = 0.0
    computed_forwards: Count = 0
    victim: str = ""
    base: str = ""
    base_fingerprint: str = ""
    device: str = ""
    images: str = ""
    assumed: dict[str, Any] = {}


def limits_report(gate: Gate, support: str) -> LimitsReport:
    """Report a gate's limits, and how little a pass says; empty where nothing has to be said."""
    exact: dict[str, Any] = {**dict.fromkeys(LIMITS), **{name: str(share) for name, share in gate.limits.items()}}
    return LimitsReport(
        text=str(gate), reading=gate.reading, confidence=gate.confidence, support=support or None, **exact
    )


def counts_report(counts: Counts, prompts: Sequence[PromptReport]) -> CountsReport:
    """Report the counts of these prompts."""
    lengths = [prompt.tokens for prompt in prompts if prompt.tokens is not None]
    attackable = sum(length <= UPSTREAM_MAX_TOKENS for length in lengths) if len(lengths) == len(prompts) else None
    return CountsReport(
        total=counts.total,
        attackable=attackable,
        hits_without_attack=counts.hits_without_attack,
        hits_under_attack=counts.hits_under_attack,
        resisted=counts.resisted,
        blocked=counts.blocked,
        error=counts.error,
        missing=counts.missing,
    )


def rate_report(rate: Rate, confidence: float) -> RateReport:
    """Report a rate with its interval at a confidence in (0, 1)."""
    return RateReport(
        at_least=rate.successes / rate.trials, at_most=rate.most / rate.trials, interval=rate.interval(confidence)
    )


def base_report(retention: Retention, confidence: float) -> BaseReport | None:
    """Report the same prompts on the base; None without one."""
    base, loss = retention.base, retention.loss
    if base is None:
        return None
    counts, scores = base.counts, None
    if (paired := retention.scores) is not None:
        victim, other = paired.means
        change = paired.interval(confidence)
        scores = ScoresReport(pairs=len(paired.pairs), victim=victim, base=other, change=change)
    return BaseReport(
        key=base.key,
        hits=counts.hits,
        unknown=counts.unknown,
        lost=loss.hits,
        lost_unknown=loss.unknown,
        scores=scores,
    )
