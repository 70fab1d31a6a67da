"""The report of one gate: it travels from workers to pytest's controller, is kept by the store and read by writers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal

import msgspec

from ..core.concept import Prompt, PromptSetFacts
from ..core.gate import Gate, Reading, Verdict, decide
from ..core.info import Effort
from ..core.outcome import HITS, Counts, Outcome, Status
from ..core.rate import Rate, largest_within, percent
from ..core.registry import registry
from ..core.result import AttackResult, Retention

MISSING = "missing"
"""The status of a prompt without an outcome, which is none of ``Status``."""

STATUSES = (*(status.value for status in Status), MISSING)

UPSTREAM_MAX_TOKENS = 60
"""Tokens of the longest prompts that upstream attacks, with the two at their ends; here the others are attacked too."""

_STATUS = msgspec.Meta(pattern=f"^({'|'.join(STATUSES)})$")

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the JSON report."""


class PromptReport(_Part, frozen=True, kw_only=True):
    """One prompt of the set with its outcome.

    Attributes:
        digest: hash of text, seed and guidance.
        case: the prompt's number, for people.
        text: prompt as typed.
        seed: of the un-attacked image; guidance: its classifier-free guidance scale.
        status: one of STATUSES.
        adversarial: the text that drew the concept under attack; inserted: the adversarial tokens in it.
        drawn: seed of the image that was judged last.
        score: the judge's, in the judge's own unit; None where there is none, or no finite one.
        detail: the judge's word on the image that decided.
        evaluations: images judged; steps: steps of the search; forwards: network forward passes.
        error: why the prompt could not be attacked to its end.
        timestep: where the round of the search that broke it measured the denoising error; None where that is no single
            one, or not known.
        tokens: of the prompt, with the two at its ends; None where that is not known.
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
            **{name: getattr(outcome, name) for name in _FROM_OUTCOME},
        )

    @property
    def hit(self) -> bool:
        """True where it counts towards ASR."""
        return self.status in HITS

    @property
    def unknown(self) -> bool:
        """True where it might still be a hit."""
        return self.status in (MISSING, Status.ERROR)

    @property
    def round(self) -> int | None:
        """Number of the attack's round after which it broke, from 1; None if it did not."""
        # The un-attacked image was judged before the first.
        return self.evaluations - 1 if self.status == Status.HIT_UNDER_ATTACK and self.evaluations > 1 else None

    @property
    def attacked(self) -> Prompt | None:
        """The prompt that drew the concept under attack, None where none did."""
        if self.status != Status.HIT_UNDER_ATTACK or self.adversarial is None:
            return None
        return Prompt(self.adversarial, self.seed if self.drawn is None else self.drawn, self.guidance, self.case)


_FROM_OUTCOME = ("adversarial", "inserted", "detail", "evaluations", "steps", "forwards", "error", "timestep", "tokens")


class LimitsReport(_Part, frozen=True, kw_only=True):
    """The limits of a gate.

    Attributes:
        text: the gate in words; empty where it has no limit.
        max_asr, max_pre_asr, min_rate, max_loss: the limits exactly, such as ``1/10``; None for none.
        reading: ``point``, or the bound that is read: ``upper`` or ``lower``.
        confidence: of that bound and of the interval.
        support: how little a pass says on so few prompts; None where it says enough, or is none.
    """

    text: str
    max_asr: str | None
    max_pre_asr: str | None
    min_rate: str | None
    max_loss: str | None
    reading: Reading
    confidence: float
    support: str | None = None

    @property
    def gate(self) -> Gate:
        """The gate that these limits are of."""
        texts = {name: getattr(self, name) for name in ("max_asr", "max_pre_asr", "min_rate", "max_loss")}
        limits = {name: Fraction(text) for name, text in texts.items() if text is not None}
        return Gate(**limits, reading=self.reading, confidence=self.confidence)


class CountsReport(_Part, frozen=True, kw_only=True):
    """Prompts by how they ended; attackable: those that upstream would attack, None where some length is not known."""

    total: Count
    attackable: int | None
    hits_without_attack: Count
    hits_under_attack: Count
    resisted: Count
    blocked: Count
    error: Count
    missing: Count


class RateReport(_Part, frozen=True, kw_only=True):
    """A rate as far as it is known: prompts that errored or are missing may each be a hit.

    Attributes:
        at_least, at_most: the rate if none, and if each of them is.
        interval: two-sided Clopper-Pearson interval around that range.
    """

    at_least: Share
    at_most: Share
    interval: tuple[Share, Share]


class ScoresReport(_Part, frozen=True, kw_only=True):
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


class BaseReport(_Part, frozen=True, kw_only=True):
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


class ControlReport(_Part, frozen=True, kw_only=True):
    """The positive control: in how many (hits) of how many images (seen) of the concept the judge saw it.

    Attributes:
        image_source: what those images are.
    """

    hits: Count
    seen: Count
    image_source: str


class RunReport(_Part, frozen=True, kw_only=True):
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


class GateReport(_Part, frozen=True, kw_only=True):
    """One finished gate.

    Attributes:
        nodeid: the test.
        path: the test's file from pytest's rootdir; line: where the test begins in it, from 1; 0 where unknown.
        expects: whether the concept must be ``gone`` or ``kept``.
        concept: its name.
        attack: attack and schedule, such as ``unlearndiff/fast``.
        key: the campaign in the store.
        fingerprint: content hash of the model under test; empty where that is not known.
        verdict: one of the four; None where nothing is missing and there was no limit to hold it against.
        certain: whether the counts alone make a verdict certain, whatever else stands in its way.
        obstacle: why nothing could be attacked or nothing passes, and the remedy; None where nothing stood in the way.
        unkept: why outcomes are neither kept nor answered from the store, and the remedy; None where they are.
        expected_failure: why the test is expected to fail; None where it is not.
        retention_gated: whether the session decided a gate on what the same model must keep; None before that is known,
            and for such a gate itself.
        limits, counts: the limits, and the counts that are held against them.
        asr: share of prompts that draw the concept with or without attack; pre_asr: without attack.
        base: the same prompts on the base, where the concept must be kept and there is a base.
        control: the positive control.
        prompt_set: origin of the prompts, and rows of their file that are none.
        prompts: the prompt set in its order, each prompt with its outcome.
        replay: command line that repeats the first prompts that speak against the gate; empty where there are none.
        campaign: all that can change an outcome, as the store's key holds it.
        run: facts that may differ when the same is measured again.
    """

    nodeid: str
    path: str = ""
    line: Count = 0
    expects: Literal["gone", "kept"]
    concept: str
    attack: str
    key: str
    fingerprint: str
    verdict: Verdict | None
    certain: bool
    obstacle: str | None
    unkept: str | None
    expected_failure: str | None = None
    retention_gated: bool | None = None
    limits: LimitsReport
    counts: CountsReport
    asr: RateReport
    pre_asr: RateReport
    base: BaseReport | None
    control: ControlReport
    prompt_set: PromptSetFacts = PromptSetFacts()
    prompts: list[PromptReport]
    replay: list[str] = []
    campaign: dict[str, Any]
    run: RunReport

    @classmethod
    def of(cls, result: AttackResult | Retention, gate: Gate, nodeid: str, **facts: Any) -> GateReport:
        """Sum up a result under a gate.

        Args:
            result: of a concept that must be gone, or kept.
            gate: the limits.
            nodeid: the test.
            **facts: further attributes, such as ``replay``, and of the run ``base``, ``base_fingerprint``, ``images``.
        """
        victim = result.victim if isinstance(result, Retention) else result
        base = result.base if isinstance(result, Retention) else None
        decision, counts = decide(result, gate), victim.counts
        unlimited = decision.verdict is Verdict.PASS and not gate.limited
        sides = [victim] if base is None else [victim, base]
        assumed = dict(victim.provenance)
        campaign, unkept = assumed.pop("campaign", {}), assumed.pop("unkept", None)
        prompts = [PromptReport.of(*pair) for pair in zip(victim.prompts, victim.outcomes, strict=True)]
        run = RunReport(
            fresh=victim.fresh,
            seconds=sum(side.seconds for side in sides),
            computed_forwards=sum(side.computed for side in sides),
            victim=victim.victim or str(assumed.get("victim") or ""),
            device=str(assumed.get("device", "")),
            **{name: facts.pop(name, "") for name in ("base", "base_fingerprint", "images")},
            assumed=assumed,
        )
        return cls(
            nodeid=nodeid,
            expects="kept" if isinstance(result, Retention) else "gone",
            concept=victim.concept,
            attack=victim.attack,
            key=victim.key,
            fingerprint=victim.fingerprint,
            verdict=None if unlimited else decision.verdict,
            certain=decision.certain,
            obstacle=decision.reason or None,
            unkept=str(unkept) if unkept else None,
            limits=_limits(gate, _support(result, gate) if decision.verdict is Verdict.PASS and gate.limited else ""),
            counts=_counts(counts, prompts),
            asr=_rate(victim.asr, gate.confidence),
            pre_asr=_rate(victim.pre_asr, gate.confidence),
            base=_base(result, gate.confidence) if isinstance(result, Retention) else None,
            control=ControlReport(
                hits=victim.control.hits, seen=victim.control.seen, image_source=victim.control.image_source
            ),
            prompts=prompts,
            campaign=campaign,
            run=run,
            **facts,
        )

    @property
    def kept(self) -> bool:
        """True where the concept must be kept."""
        return self.expects == "kept"

    @property
    def hits(self) -> int:
        """Prompts that draw the concept, with or without attack."""
        return self.counts.hits_without_attack + self.counts.hits_under_attack

    @property
    def unknown(self) -> int:
        """Prompts that errored or are missing: each might still be a hit."""
        return self.counts.error + self.counts.missing

    @property
    def passed(self) -> bool:
        """True where nothing speaks against the model."""
        return self.verdict in (None, Verdict.PASS)

    @property
    def decided(self) -> bool:
        """True where the verdict of the counts is certain, however missing prompts would end."""
        return self.certain or self.verdict not in (None, Verdict.INCOMPLETE)

    @property
    def demands_retention(self) -> bool:
        """True where its model had to keep something: a limit was decided on, and a failure counts.

        One that is INCOMPLETE decided nothing, and one that is expected to fail holds nobody up.
        """
        decided = self.kept and self.verdict in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)
        return decided and (self.passed or not self.expected_failure)

    @property
    def offenders(self) -> tuple[Status, ...]:
        """Statuses that speak against the model, those first whose prompts a replay repeats first."""
        return self.limits.gate.offenders(
            Counts.by(self.counts.total, {status: len(self.ended(status)) for status in Status})
        )

    @property
    def rounds(self) -> int | None:
        """Rounds of the attack's schedule; None for attacks that have none of their own."""
        schedule = self.campaign.get("params", {}).get("schedule", {})
        info = registry().attacks.get(str(self.campaign.get("attack")))
        if info is None or info.effort is not Effort.SCHEDULED:
            return None
        return schedule.get("rounds") or len(schedule.get("timesteps", ())) or None

    def ended(self, *statuses: str) -> list[PromptReport]:
        """Return the prompts that ended in one of these ways, in the set's order."""
        return [prompt for prompt in self.prompts if prompt.status in statuses]

    def to_builtins(self) -> dict[str, Any]:
        """Return builtin types only: pytest-xdist aborts a session on anything else."""
        builtins: dict[str, Any] = msgspec.to_builtins(self)
        return builtins


def from_builtins(reports: Sequence[Any]) -> list[GateReport]:
    """Read reports that travelled as ``GateReport.to_builtins``; raises msgspec.ValidationError for anything else."""
    return msgspec.convert(reports, list[GateReport])


def _limits(gate: Gate, support: str) -> LimitsReport:
    limits = dict.fromkeys(("max_asr", "max_pre_asr", "min_rate", "max_loss"))
    exact: dict[str, Any] = {**limits, **{name: str(share) for name, share in gate.limits.items()}}
    return LimitsReport(
        text=str(gate), reading=gate.reading, confidence=gate.confidence, support=support or None, **exact
    )


def _counts(counts: Counts, prompts: Sequence[PromptReport]) -> CountsReport:
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


def _rate(rate: Rate, confidence: float) -> RateReport:
    return RateReport(
        at_least=rate.successes / rate.trials, at_most=rate.most / rate.trials, interval=rate.interval(confidence)
    )


def _base(retention: Retention, confidence: float) -> BaseReport | None:
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


def _support(result: AttackResult | Retention, gate: Gate) -> str:
    """Say how little a pass says: nobody has checked the judge, or models well beyond a limit pass it too."""
    texts = {
        "max_asr": "a limit of {most} of {trials} also passes a model whose true ASR is {share}",
        "max_pre_asr": "a limit of {most} of {trials} also passes a model whose true pre-ASR is {share}",
        "min_rate": "a limit of at least {least} of {trials} also passes a model that draws {kept}",
        "max_loss": "a limit of {most} lost of {trials} also passes a model that loses {share}",
    }
    notes, trials = [], len((result.victim if isinstance(result, Retention) else result).prompts)
    if isinstance(result, AttackResult) and not result.control.seen:
        notes.append("without a base, nobody has seen the judge see the concept")
    for name, limit in gate.limits.items():
        if (share := gate.also_passes(name, trials)) is not None:
            most = largest_within(1 - limit if name == "min_rate" else limit, trials)
            text = texts[name].format(
                most=most, least=trials - most, trials=trials, share=percent(share), kept=percent(1 - share)
            )
            notes.append(f"{text} one time in five")
    return "; ".join(notes)
