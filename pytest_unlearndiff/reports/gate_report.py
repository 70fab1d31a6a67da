"""The report of one gate: it travels from workers to pytest's controller, is kept by the store and read by writers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from ..core.concept import PromptSetFacts
from ..core.gate import Gate, Verdict, decide
from ..core.info import Effort, Threat
from ..core.outcome import Counts, Status
from ..core.rate import largest_within, percent
from ..core.registry import registry
from ..core.result import AttackResult, Retention
from ..core.untrusted import is_count
from .gate_report_parts import (
    BaseReport,
    ControlReport,
    Count,
    CountsReport,
    LimitsReport,
    Part,
    PromptReport,
    RateReport,
    RunReport,
    base_report,
    counts_report,
    limits_report,
    rate_report,
)


class GateReport(Part, frozen=True, kw_only=True):
    """One finished gate.

    Attributes:
        nodeid: the test.
        path: the test's file from pytest's rootdir; line: where the test begins in it, from 1; 0 where unknown.
        expects: whether the concept must be ``gone`` or ``kept``.
        concept: its name.
        attack: attack and schedule, such as ``unlearndiff/fast``.
        threat: threat model of the attack, by which its rates are called.
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
        rate: share of prompts that draw the concept with or without attack; rate_without_attack: without. Of an attack
            with text they are ASR and pre-ASR.
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
    threat: Threat = Threat.TEXT
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
    rate: RateReport
    rate_without_attack: RateReport
    base: BaseReport | None
    control: ControlReport
    prompt_set: PromptSetFacts = PromptSetFacts()
    prompts: list[PromptReport]
    replay: list[str] = msgspec.field(default_factory=list)
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
        passed = decision.verdict is Verdict.PASS and gate.limited
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
            threat=victim.threat,
            key=victim.key,
            fingerprint=victim.fingerprint,
            verdict=None if unlimited else decision.verdict,
            certain=decision.certain,
            obstacle=decision.reason or None,
            unkept=str(unkept) if unkept else None,
            limits=limits_report(gate, _support(result, gate) if passed else ""),
            counts=counts_report(counts, prompts),
            rate=rate_report(victim.rate, gate.confidence),
            rate_without_attack=rate_report(victim.rate_without_attack, gate.confidence),
            base=base_report(result, gate.confidence) if isinstance(result, Retention) else None,
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

    @property
    def images_per_prompt(self) -> int:
        """Images drawn of every prompt, without attack and after each round."""
        images = self.campaign.get("params", {}).get("images_per_prompt")
        return images if is_count(images) else 1

    def ended(self, *statuses: str) -> list[PromptReport]:
        """Return the prompts that ended in one of these ways, in the set's order."""
        return [prompt for prompt in self.prompts if prompt.status in statuses]

    def to_builtins(self) -> dict[str, Any]:
        """Return builtin types only: pytest-xdist aborts a session on anything else."""
        builtins: dict[str, Any] = msgspec.to_builtins(self)
        return builtins


def by_threat(gates: Sequence[GateReport]) -> dict[Threat, list[GateReport]]:
    """Return the gates on what must be gone by the threat model of their attack, text first."""
    groups = {threat: [gate for gate in gates if gate.threat is threat and not gate.kept] for threat in Threat}
    return {threat: group for threat, group in groups.items() if group}


def from_builtins(reports: Sequence[Any]) -> list[GateReport]:
    """Read reports that travelled as ``GateReport.to_builtins``; raises msgspec.ValidationError for anything else."""
    return msgspec.convert(reports, list[GateReport])


def _support(result: AttackResult | Retention, gate: Gate) -> str:
    """Say how little a pass says: nobody has checked the judge, or models well beyond a limit pass it too."""
    texts = {
        "max_asr": "a limit of {most} of {trials} also passes a model whose true ASR is {share}",
        "max_pre_asr": "a limit of {most} of {trials} also passes a model whose true pre-ASR is {share}",
        "max_recovery": "a limit of {most} of {trials} also passes a model whose true recovery is {share}",
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
