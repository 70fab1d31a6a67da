"""A finished retention gate as builtin types, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..core.concept import Prompt
from ..core.decision import decide
from ..core.gate import Gate, Verdict
from ..core.outcome import Outcome, Status
from ..core.rate import fine_percent, largest_within, percent
from ..core.result import AttackResult, Retention
from .text import UNKEPT, command, count, duration, many, safe, share, share_in_words, table, told_model, told_models

_SHOWN = 5
_COLUMNS = ("retained", "base", "victim", "lost", "interval", "verdict")


@dataclass(frozen=True)
class RetentionReport:
    """One finished retention gate.

    Attributes:
        nodeid: the test.
        concept: what should have been kept.
        keys: the campaigns in the store, the victim's and the base's.
        verdict: one of the four; empty where nothing is missing and there was no limit to hold it against.
        total: prompts in the set.
        drawn: prompts whose image by the victim shows the concept.
        base_drawn: the same by the base; None where there was no base.
        lost: prompts that the base draws and the victim does not.
        lost_undecided: prompts that may be lost too.
        undecided: prompts of the victim that errored or are missing.
        base_undecided: the same of the base.
        low: lower end of the two-sided interval of the victim's rate, in [0, 1]; high: its upper end.
        confidence: of that interval.
        limits: the gate in words.
        control_failed: whether the base itself does not reach what is asked of the victim.
        fresh: images judged in this session.
        seconds: wall-clock time of this session.
        missed_prompts: the first few prompts that the victim does not draw, each with case, text and what was seen.
        obstacle: why nothing could be drawn, and the mend; empty where nothing stood in the way.
        expected: why the test is expected to fail; empty where it is not.
        replay: command line that draws the first missed prompts again; empty where none is missed.
        computed: UNet forward passes computed in this session for its images, copies that fill batches up among them.
        support: how little a pass says, where it says little; else empty.
        victim: what was drawn with, for people; empty where that is not recorded.
        fingerprint: content hash of it, by which gates on one model are told; empty where that is not known.
        unkept: why the victim's images are neither kept nor answered from the store, and the remedy; empty where they
            are.
        device: where the models ran; empty where that is not known.
        blocked: prompts whose image the victim's own safety checker blocked.
    """

    nodeid: str
    concept: str
    keys: list[str]
    verdict: str
    total: int
    drawn: int
    base_drawn: int | None
    lost: int
    undecided: int
    base_undecided: int
    low: float
    high: float
    confidence: float
    limits: str
    control_failed: bool
    fresh: int
    seconds: float
    missed_prompts: list[dict[str, Any]]
    obstacle: str
    lost_undecided: int = 0
    expected: str = ""
    replay: list[str] = field(default_factory=list)
    computed: int = 0
    support: str = ""
    victim: str = ""
    fingerprint: str = ""
    unkept: str = ""
    device: str = ""
    blocked: int = 0

    @classmethod
    def of(cls, retention: Retention, gate: Gate, nodeid: str, replay: Sequence[str] = ()) -> RetentionReport:
        """Sum up what was kept, under a gate."""
        victim, base = retention.victim, retention.base
        sides = [victim] if base is None else [victim, base]
        decision = decide(retention, gate)
        verdict = decision.verdict
        low, high = retention.rate.interval(gate.confidence)
        return cls(
            nodeid=nodeid,
            concept=retention.concept,
            keys=[side.key for side in sides],
            verdict="" if verdict is Verdict.PASS and not str(gate) else verdict.value,
            total=retention.rate.trials,
            drawn=retention.rate.successes,
            base_drawn=base.tally.hits_without_attack if base is not None else None,
            lost=retention.lost.successes,
            lost_undecided=retention.lost.undecided,
            undecided=victim.tally.unknown,
            base_undecided=base.tally.unknown if base is not None else 0,
            low=low,
            high=high,
            confidence=gate.confidence,
            limits=str(gate),
            control_failed=decision.reason.startswith("the un-erased model itself"),
            fresh=sum(side.fresh for side in sides),
            seconds=sum(side.seconds for side in sides),
            computed=sum(side.computed for side in sides),
            missed_prompts=[
                {"case": prompt.case, "text": prompt.text, "seen": outcome.detail}
                for prompt, outcome in _missed(victim)[:_SHOWN]
            ],
            obstacle=decision.reason,
            replay=list(replay),
            support=_support(gate, retention.rate.trials) if verdict is Verdict.PASS else "",
            victim=victim.victim,
            fingerprint=victim.fingerprint,
            unkept=str(victim.provenance.get("unkept", "")),
            device=str(victim.provenance.get("device", "")),
            blocked=victim.tally.blocked,
        )

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return self.verdict in ("", Verdict.PASS.value)

    @property
    def model(self) -> str:
        """The model under test; empty where that is not recorded."""
        return self.victim

    @property
    def gates(self) -> bool:
        """Whether its model had to keep something: a limit was decided on, and a failure counts.

        One that is INCOMPLETE decided nothing, and one that is expected to fail holds nobody up.
        """
        decided = self.verdict in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)
        return decided and (self.passed or not self.expected)

    def to_wire(self) -> dict[str, Any]:
        """Builtin types only: pytest-xdist aborts a session on anything else."""
        return asdict(self)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> RetentionReport:
        """Read what ``to_wire`` wrote."""
        return cls(**data)

    @property
    def losses(self) -> str:
        """How many were lost, as far as that is known."""
        if self.base_drawn is None:
            return "-"
        return f"{self.lost}..{self.lost + self.lost_undecided}" if self.lost_undecided else str(self.lost)

    @property
    def blockings(self) -> str:
        """Say how many images were blocked."""
        return f"{many(self.blocked, 'image')} blocked by the model's own safety checker, which counts as not drawn"


def _support(gate: Gate, trials: int) -> str:
    """How little a pass says on so few prompts; empty where it says enough, as for attack gates."""
    misses, loss = (gate.also_passes(name, trials) for name in ("min_rate", "max_loss"))
    rate = None if misses is None else 1 - misses
    said = []
    if gate.min_rate is not None and rate is not None:
        least = trials - largest_within(1 - gate.min_rate, trials)
        said.append(f"a limit of at least {least} of {trials} also passes a model that draws {percent(rate)}")
    if gate.max_loss is not None and loss is not None:
        most = largest_within(gate.max_loss, trials)
        said.append(f"a limit of {most} lost of {trials} also passes a model that loses {percent(loss)}")
    return "; ".join(f"{each} one time in five" for each in said)


def _missed(victim: AttackResult) -> list[tuple[Prompt, Outcome]]:
    """The prompts that the victim does not draw, in the set's order."""
    missed = {prompt.digest for status in (Status.RESISTED, Status.BLOCKED) for prompt, _ in victim.ended(status)}
    pairs = zip(victim.prompts, victim.outcomes, strict=True)
    return [(prompt, outcome) for prompt, outcome in pairs if outcome is not None and prompt.digest in missed]


def retention_text(record: RetentionReport) -> str:
    """What a retention gate says that did not pass."""
    return "\n".join([_headline(record), *_evidence(record)])


def _headline(record: RetentionReport) -> str:
    start = f"retained concept {record.concept!r}: "
    counts = f"the victim draws {share_in_words(record.drawn, record.undecided, record.total)}"
    if record.control_failed:
        return f"{start}{record.obstacle}"
    match record.verdict:
        case "FAIL":
            return f"{start}{counts}, but the gate wants {record.limits}"
        case "INCONCLUSIVE":
            return (
                f"{start}{counts} is within the limit, but its bound is not: the gate wants {record.limits}. "
                "More prompts may decide it"
            )
        case _:
            missing = record.undecided + record.base_undecided
            if record.obstacle and not missing:
                return f"{start}{counts}, but {safe(record.obstacle, 1000)}"
            images = f"{many(missing, 'image')} {'is' if missing == 1 else 'are'}"
            why = f". {safe(record.obstacle, 1000)}" if record.obstacle else ""
            return (
                f"{start}{images} missing or errored, so the gate cannot be decided ({counts}). "
                f"Missing is never safe{why}"
            )


def _evidence(record: RetentionReport) -> list[str]:
    lines = [
        f"  {fine_percent(record.confidence)} interval {percent(record.low)}..{percent(record.high)}, {_base(record)}"
    ]
    for prompt in record.missed_prompts:
        seen = f"judge saw {safe(prompt['seen'])}"
        lines.append(f'  prompt {prompt["case"]} not drawn: "{safe(prompt["text"])}" ({seen})')
    lines += [f"  {safe(record.unkept, UNKEPT)}"] * bool(record.unkept)
    more = record.total - record.drawn - record.undecided - len(record.missed_prompts)
    lines += [f"  and {more} more not drawn"] * (more > 0)
    lines += [f"  {record.blockings}"] * bool(record.blocked)
    if record.replay:
        lines.append(f"  replay: {safe(command(record.replay), 4000)}")
    return lines


def _base(record: RetentionReport) -> str:
    if record.base_drawn is None:
        return "no base to compare with"
    return f"the base draws {_of_base(record)}, {record.losses} lost"


def _of_base(record: RetentionReport) -> str:
    """How many the base draws, where there is one."""
    return count(record.base_drawn or 0, record.base_undecided, record.total)


def retention_properties(record: RetentionReport) -> list[tuple[str, str]]:
    """What JUnit XML and other listeners get of a retention gate, all text; of several in a test, each has its name."""
    values = {
        "verdict": record.verdict or "none",
        "gate": record.limits or "none",
        "prompts": record.total,
        "drawn": record.drawn,
        "blocked": record.blocked,
        "base_drawn": "none" if record.base_drawn is None else record.base_drawn,
        "lost": record.losses,
        "undecided": record.undecided + record.base_undecided,
        "interval": f"{record.low:.6g} {record.high:.6g}",
        "keys": " ".join(record.keys),
        **({"support": record.support} if record.support else {}),
        "unkept": record.unkept,
        "device": record.device,
    }
    values = {name: value for name, value in values.items() if value != ""}
    return [(f"unlearndiff_retains_{record.concept}_{name}", safe(str(value), 2000)) for name, value in values.items()]


def retention_lines(records: Sequence[RetentionReport], *, verbosity: int = 0) -> list[tuple[str, str]]:
    """Lines of the summary with the verdict that colours each, or an empty string.

    Args:
        records: finished retention gates.
        verbosity: pytest's; below zero only gates are shown that did not pass, or whose pass says little.
    """
    shown = [record for record in records if verbosity >= 0 or not record.passed or record.support]
    if not shown:
        return []
    head, *rows = table(_COLUMNS, [_row(record) for record in shown])
    lines = [(head, "")]
    of_all = told_models([record.model for record in shown])
    for record, row in zip(shown, rows, strict=True):
        lines.append((row, record.verdict))
        lacking = f", {record.undecided} missing or errored" if record.undecided else ""
        kept = "from the store" if record.undecided else "all from the store"
        why = [f"  {safe(record.obstacle, 500)}"] if record.obstacle and not record.passed else []
        took = (f"{record.fresh} images in {duration(record.seconds)}" if record.fresh else kept) + lacking
        lines.append((f"  {record.nodeid}: {record.limits or 'no limit'}, {took}", ""))
        lines += [(line, "") for line in why]
        lines += [(f"  {told_model(record.model)}", "")] * (not of_all)
        lines += [(f"  {record.support}", "")] * bool(record.support)
        lines += [(f"  {record.blockings}", "")] * bool(record.blocked)
        lines += [(f"  {safe(record.unkept, UNKEPT)}", "")] * bool(record.unkept)
    return lines + [(f"  {of_all}", "")] * bool(of_all)


def _row(record: RetentionReport) -> tuple[str, ...]:
    return (
        record.concept,
        "-" if record.base_drawn is None else _of_base(record),
        share(record.drawn, record.undecided, record.total),
        record.losses,
        f"{percent(record.low)}..{percent(record.high)}",
        record.verdict or "-",
    )
