"""A finished gate as builtin types: what travels on pytest's reports, and what every writer reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

from ..core.concept import Prompt
from ..core.decision import decide
from ..core.gate import Gate, Reading, Verdict
from ..core.info import Effort
from ..core.outcome import Counts, Outcome, Status
from ..core.registry import registry
from ..core.result import AttackResult

MISSING = "missing"
"""The status of a prompt without an outcome, which is none of ``Status``."""

STATUSES = (*(status.value for status in Status), MISSING)

_CAMPAIGN, _UNKEPT = "campaign", "unkept"

LONGEST = 60
"""Tokens of the longest prompts that upstream attacks, with the two at their ends; here the others are attacked too."""


@dataclass(frozen=True)
class PromptRecord:
    """One prompt of the set and what became of it.

    Attributes:
        digest: hash of text, seed and guidance.
        case: the prompt's number, for people.
        text: what is typed.
        seed: of the un-attacked image; guidance: its classifier-free guidance scale.
        status: one of STATUSES.
        adversarial: the text that drew the concept under attack; inserted: the adversarial tokens in it.
        drawn: seed of the image that was judged last.
        score: the judge's, in the judge's own unit; None where there is none, or no finite one.
        detail: the judge's word on the image that decided.
        evaluations: images judged; steps: steps of the search; forwards: UNet forward passes.
        error: why the prompt could not be attacked to its end.
        timestep: where the block of the search that broke it measured the denoising error; None where that is no single
            one, or not known.
        tokens: of the prompt, with the two at its ends; None where that is not known.
    """

    digest: str
    case: int
    text: str
    seed: int
    guidance: float
    status: str = MISSING
    adversarial: str | None = None
    inserted: str | None = None
    drawn: int | None = None
    score: float | None = None
    detail: str = ""
    evaluations: int = 0
    steps: int = 0
    forwards: int = 0
    error: str | None = None
    timestep: int | None = None
    tokens: int | None = None

    @classmethod
    def of(cls, prompt: Prompt, outcome: Outcome | None) -> PromptRecord:
        """A prompt with its outcome, if it has one."""
        asked = cls(prompt.digest, prompt.case, prompt.text, prompt.seed, prompt.guidance)
        if outcome is None:
            return asked
        score = outcome.score
        found = {
            "status": outcome.status.value,
            "drawn": outcome.seed,
            "score": score if score is None or math.isfinite(score) else None,
            **{name: getattr(outcome, name) for name in _FROM_OUTCOME},
        }
        return replace(asked, **found)

    @property
    def success(self) -> bool:
        """Whether it counts towards ASR."""
        return self.status in (Status.HIT_WITHOUT_ATTACK, Status.HIT_UNDER_ATTACK)

    @property
    def undecided(self) -> bool:
        """Whether it might still be a success."""
        return self.status in (MISSING, Status.ERROR)

    @property
    def round(self) -> int | None:
        """After which of the attack's rounds it broke, from 1: a image is judged after each. None if it did not."""
        # The un-attacked image was judged before the first.
        return self.evaluations - 1 if self.status == Status.HIT_UNDER_ATTACK and self.evaluations > 1 else None

    @property
    def attacked(self) -> Prompt | None:
        """The prompt that drew the concept under attack, None where none did."""
        if self.status != Status.HIT_UNDER_ATTACK or self.adversarial is None:
            return None
        return Prompt(self.adversarial, self.seed if self.drawn is None else self.drawn, self.guidance, self.case)


_FROM_OUTCOME = ("adversarial", "inserted", "detail", "evaluations", "steps", "forwards", "error", "timestep", "tokens")


@dataclass(frozen=True)
class GateReport:
    """One finished gate.

    Attributes:
        nodeid: the test.
        concept: what should be gone.
        attack: how it was attacked.
        key: the campaign in the store.
        verdict: one of the four; empty where nothing is missing and there was no limit to hold it against.
        total: prompts in the set; generated, broken, resisted, error, blocked: how they ended; the rest is missing.
        low: lower end of the two-sided interval of ASR if no undecided prompt is a success, in [0, 1]; high: its upper
            end if each is.
        confidence: of that interval, and of the bound where the gate reads one.
        limits: the gate in words; empty where it has none.
        max_asr: the limit exactly, such as ``1/10``; None for none; max_pre_asr: the same for pre-ASR.
        reading: ``point`` or ``upper``.
        fresh: outcomes computed in this session.
        seconds: wall-clock time of this session.
        prompts: the prompt set in its order, each prompt with its outcome.
        replay: command line that repeats the first prompts that speak against the gate (``offenders``).
        campaign: all that can change an outcome, as the store's key holds it.
        assumed: what was loaded and assumed.
        obstacle: why nothing could be attacked, and the mend; empty where nothing stood in the way.
        control_hits, control_seen: in how many of how many images that show it the judge saw the concept; 0 of 0
            where that is not known.
        control_whose: what those images are.
        victim: what was attacked, for people; empty where that is not recorded.
        fingerprint: content hash of the victim, by which gates on one model are told; empty where that is not known.
        retention_gated: whether the session decided a retention gate on the same model; None before that is known.
        path: the test's file from pytest's rootdir; line: where the test begins in it, from 1; 0 where unknown.
        expected: why the test is expected to fail; empty where it is not.
        images: folder of the thumbnails, from where pytest was started; empty where there is none.
        certain: whether the counts alone make a verdict certain, whatever else stands in its way.
        computed: UNet forward passes computed in this session, copies that fill batches up among them.
        unkept: why its outcomes are neither kept nor answered from the store, and the remedy; empty where they are.
    """

    nodeid: str
    concept: str
    attack: str
    key: str
    verdict: str
    total: int
    hits_without_attack: int
    hits_under_attack: int
    resisted: int
    error: int
    low: float
    high: float
    confidence: float
    limits: str
    max_asr: str | None
    max_pre_asr: str | None
    reading: str
    fresh: int
    seconds: float
    prompts: list[PromptRecord]
    replay: list[str]
    campaign: dict[str, Any]
    assumed: dict[str, Any]
    obstacle: str
    control_hits: int = 0
    control_seen: int = 0
    control_whose: str = ""
    victim: str = ""
    path: str = ""
    line: int = 0
    expected: str = ""
    images: str = ""
    certain: bool = False
    computed: int = 0
    fingerprint: str = ""
    retention_gated: bool | None = None
    unkept: str = ""
    blocked: int = 0

    @classmethod
    def of(
        cls, result: AttackResult, gate: Gate, nodeid: str, replay: list[str], place: tuple[str, int] = ("", 0)
    ) -> GateReport:
        """Sum up a result under a gate.

        Args:
            result: of the campaign.
            gate: the limits.
            nodeid: the test.
            replay: command line that repeats the first prompts that speak against the gate.
            place: the test's file from pytest's rootdir, and the line where it begins, from 1.

        Where the judge does not see the concept in the base model's own images, or has not been asked, that it does
        not see it in the victim's says nothing, and nothing can pass.
        """
        tally, decision = result.tally, decide(result, gate)
        verdict = decision.verdict
        low, high = result.asr.interval(gate.confidence)
        assumed = dict(result.provenance)
        return cls(
            nodeid=nodeid,
            concept=result.concept,
            attack=result.attack,
            key=result.key,
            verdict="" if verdict is Verdict.PASS and not gate.limited else verdict.value,
            total=tally.total,
            hits_without_attack=tally.hits_without_attack,
            hits_under_attack=tally.hits_under_attack,
            resisted=tally.resisted,
            error=tally.error,
            blocked=tally.blocked,
            low=low,
            high=high,
            confidence=gate.confidence,
            limits=str(gate),
            max_asr=_exact(gate.max_asr),
            max_pre_asr=_exact(gate.max_pre_asr),
            reading=gate.reading,
            fresh=result.fresh,
            seconds=result.seconds,
            computed=result.computed,
            prompts=[PromptRecord.of(*pair) for pair in zip(result.prompts, result.outcomes, strict=True)],
            replay=replay,
            campaign=assumed.pop(_CAMPAIGN, {}),
            unkept=assumed.pop(_UNKEPT, ""),
            assumed=assumed,
            obstacle=decision.reason,
            control_hits=result.control.hits,
            control_seen=result.control.seen,
            control_whose=result.control.image_source,
            victim=result.victim,
            certain=decision.certain,
            fingerprint=result.fingerprint,
            path=place[0],
            line=place[1],
        )

    @property
    def model(self) -> str:
        """The model under test, as this session calls it or it was called where it was attacked; empty for neither."""
        return self.victim or str(self.assumed.get("victim") or "")

    @property
    def device(self) -> str:
        """Where the models ran; empty where that is not known."""
        return str(self.assumed.get("device", ""))

    @property
    def decided(self) -> bool:
        """Whether what the counts say is certain, however missing prompts would end."""
        return self.certain or self.verdict not in ("", Verdict.INCOMPLETE.value)

    @property
    def offenders(self) -> tuple[Status, ...]:
        """How the prompts ended that speak against the gate, those first that are repeated first."""
        asr, pre_asr = (None if limit is None else Fraction(limit) for limit in (self.max_asr, self.max_pre_asr))
        reading: Reading = "upper" if self.reading == "upper" else "point"
        gate = Gate(asr, pre_asr, reading=reading, confidence=self.confidence)
        by_status = {status: len(self.ended(status)) for status in Status}
        return gate.offenders(Counts.by(self.total, by_status))

    @property
    def successes(self) -> int:
        """Prompts that count towards ASR."""
        return self.hits_without_attack + self.hits_under_attack

    @property
    def missing(self) -> int:
        """Prompts without an outcome."""
        return self.undecided - self.error

    @property
    def undecided(self) -> int:
        """Prompts that errored or are missing: each might still be a success."""
        return self.total - self.hits_without_attack - self.hits_under_attack - self.resisted - self.blocked

    @property
    def attackable(self) -> int | None:
        """N_attackable, how many prompts upstream would attack; None where some prompt's length is not known."""
        lengths = [prompt.tokens for prompt in self.prompts if prompt.tokens is not None]
        return sum(length <= LONGEST for length in lengths) if len(lengths) == self.total else None

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return self.verdict in ("", Verdict.PASS.value)

    @property
    def rounds(self) -> int | None:
        """How many rounds the search of the attack has; None for attacks that search nothing."""
        schedule = self.campaign.get("params", {}).get("schedule", {})
        info = registry().attacks.get(str(self.campaign.get("attack")))
        if info is None or info.effort is not Effort.SCHEDULED:
            return None
        return schedule.get("rounds") or len(schedule.get("timesteps", ())) or None

    def ended(self, *statuses: str) -> list[PromptRecord]:
        """The prompts that ended in one of these ways, in the set's order."""
        return [prompt for prompt in self.prompts if prompt.status in statuses]

    def to_wire(self) -> dict[str, Any]:
        """Builtin types only: pytest-xdist aborts a session on anything else."""
        return {**vars(self), "prompts": [dict(vars(prompt)) for prompt in self.prompts]}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> GateReport:
        """Read what ``to_wire`` wrote.

        Raises:
            ValueError: a field is missing, or is not one of a record's.
        """
        try:
            facts = {name.name: data[name.name] for name in fields(cls) if name.name in data}
            return cls(**{**facts, "prompts": [PromptRecord(**prompt) for prompt in data["prompts"]]})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a record: {error}") from None


def _exact(limit: Fraction | None) -> str | None:
    return None if limit is None else str(limit)
