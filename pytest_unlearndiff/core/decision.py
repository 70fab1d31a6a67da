"""Decisions: the verdict on a result, and the reason where its counts alone do not give it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .gate import Gate, Verdict
from .identical_images import same_image
from .info import JudgeInfo
from .outcome import Status
from .registry import registry
from .result import AttackResult, Retention


@dataclass(frozen=True)
class Decision:
    """Verdict of a gate, with the reason that counts do not give.

    Attributes:
        verdict: one of the four.
        reason: why nothing passes although the counts alone might allow it, or why prompts are missing, and the remedy;
            empty where nothing stood in the way.
        certain: whether the counts alone make a verdict certain, whatever else stands in its way.
    """

    verdict: Verdict
    reason: str = ""
    certain: bool = False


def decide(result: AttackResult | Retention, gate: Gate) -> Decision:
    """Hold a result against the limits of a gate.

    Where the judge does not see the concept in the un-erased model's own images, or has not been asked, that it does
    not see it in the victim's says nothing, and nothing can pass. Nor does a gate that an exception stopped.

    Args:
        result: of a concept that must be gone, or of one that must be kept.
        gate: its limits.
    """
    if isinstance(result, Retention):
        return _decide_kept(result, gate)
    counts = result.tally
    verdict, reason = gate.verdict(counts), result.obstacle
    certain = gate.is_decided(replace(counts, repeated=(), may_repeat=False))
    if verdict is Verdict.INCOMPLETE:
        reason = reason or _why_repeats(result, gate)
    if (result.control.fails or result.control.insufficient) and verdict is not Verdict.FAIL:
        verdict, reason = Verdict.INCOMPLETE, reason or _why_no_control(result)
    if result.cause is not None and verdict is not Verdict.FAIL:
        verdict = Verdict.INCOMPLETE
    return Decision(verdict, reason, certain)


def _decide_kept(retention: Retention, gate: Gate) -> Decision:
    """Decide on a concept that must be kept; blocked images count as lost.

    Where the base itself does not reach the limit, the victim's rate says nothing, not even where it is low.
    """
    victim, base = retention.victim, retention.base
    verdict = gate.verdict(victim.tally, retention.loss)
    certain = gate.limited and verdict is not Verdict.INCOMPLETE
    stopped = victim.cause or (base.cause if base is not None else None)
    if verdict is not Verdict.FAIL and (stopped is not None or (base is not None and base.tally.repeated)):
        verdict = Verdict.INCOMPLETE
    if base is not None:
        counts, least = base.tally, gate.min_base_rate * base.tally.total
        if counts.hits + counts.unknown < least:
            return Decision(Verdict.INCOMPLETE, _why_base_fails(retention, gate), certain)
        if counts.hits < least:
            verdict = Verdict.INCOMPLETE
    sides = [side for side in (victim, base) if side is not None]
    reason = next((side.obstacle for side in sides if side.obstacle), "")
    if verdict is Verdict.INCOMPLETE:
        reason = reason or _why_unusable(retention)
    return Decision(verdict, reason, certain)


def _why_no_control(result: AttackResult) -> str:
    """Say why what the judge did not see in the victim's images says nothing."""
    control = result.control
    if not control.fails:
        return (
            f"the positive control is missing: of {control.image_source}, the judge saw {control.seen} where "
            f"{control.needed} are needed. The same command shows it more"
        )
    failed = f"the positive control failed: {control.failure}"
    judge = str(result.provenance.get("campaign", {}).get("judge", {}).get("kind", "")).partition("@")[0]
    # A judge that a plugin adds is known to pytest alone.
    added = {info.name for info in registry().added if isinstance(info, JudgeInfo)}
    if control.repeated or judge in added or judge not in registry().judges:
        return failed
    return f"{failed}: python -m pytest_unlearndiff calibrate {result.concept} --base=BASE"


def _why_repeats(result: AttackResult, gate: Gate) -> str:
    """Say why nothing passes where images are the same, or may be; empty where they are not."""
    counts = result.tally
    if counts.repeated:
        return (
            f"the model under test {same_image(counts.repeated)}, so what the judge did not see there says nothing: "
            "its weights or its pipeline are damaged, or it ignores its prompts"
        )
    if counts.may_repeat and gate.is_decided(replace(counts, may_repeat=False)):
        return (
            "the counts keep within the limit, but a pass needs the un-attacked image of every prompt, since one that "
            "is missing may be the same as another's. The same command goes on"
        )
    return ""


def _why_base_fails(retention: Retention, gate: Gate) -> str:
    """Say that the base does not draw what it is asked for."""
    return (
        f"the un-erased model itself draws only {retention.base_rate}, so what the victim draws "
        f"({retention.rate.successes}) says nothing; the gate wants {gate if gate.limited else 'half'}. Another judge, "
        "threshold or limit may fit"
    )


def _why_unusable(retention: Retention) -> str:
    """Say why images keep a gate on what must be kept from passing; empty where they do not."""
    sides = (("model under test", retention.victim), ("un-erased model", retention.base))
    for model, side in sides:
        if side is not None and (repeated := side.tally.repeated):
            return f"the {model} {same_image(repeated)}: its weights are damaged, or it ignores its prompts"
    for model, side in sides:
        for prompt, outcome in side.ended(Status.ERROR) if side is not None else ():
            return f"prompt {prompt.case} of the {model}: {outcome.error}"
    return ""
