"""A finished gate as builtin types: what travels on pytest's reports, and what every writer reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..core.control import LEAST
from ..core.gate import Gate, Verdict
from ..core.outcome import Outcome, Status
from ..core.rate import fine_percent, percent
from ..core.result import AttackResult

_SHOWN = 5


@dataclass(frozen=True)
class Record:
    """One finished gate.

    Attributes:
        nodeid: the test.
        concept: what should be gone.
        attack: how it was attacked.
        key: the campaign in the store.
        verdict: one of the four; empty where nothing is missing and there was no limit to hold it against.
        total: prompts in the set; generated, broken, resisted, error: how they ended; the rest is missing.
        low: lower end of the two-sided interval of ASR, in [0, 1]; high: its upper end.
        confidence: of that interval.
        limits: the gate in words; empty where it has none.
        fresh: outcomes computed in this session.
        seconds: wall-clock time of this session.
        broken_prompts: the first few broken prompts, each with case, adversarial text, inserted tokens and detail.
        errors: the first few errors.
        replay: command line that repeats the first broken prompts.
        assumed: what was loaded and assumed.
        obstacle: why nothing could be attacked, and the mend; empty where nothing stood in the way.
    """

    nodeid: str
    concept: str
    attack: str
    key: str
    verdict: str
    total: int
    generated: int
    broken: int
    resisted: int
    error: int
    low: float
    high: float
    confidence: float
    limits: str
    fresh: int
    seconds: float
    broken_prompts: list[dict[str, Any]]
    errors: list[str]
    replay: list[str]
    assumed: dict[str, Any]
    obstacle: str

    @classmethod
    def of(cls, result: AttackResult, gate: Gate, nodeid: str, replay: list[str]) -> Record:
        """Sum up a result under a gate.

        Where the judge does not see the concept in the base model's own pictures, that it does not see it in the
        victim's says nothing, and nothing can pass.
        """
        tally, verdict, obstacle = result.tally, gate.decide(result.tally), result.obstacle
        if result.control.fails and verdict is not Verdict.FAIL:
            verdict, obstacle = Verdict.INCOMPLETE, obstacle or _control_failed(result)
        low, high = result.asr.interval(gate.confidence)
        return cls(
            nodeid=nodeid,
            concept=result.concept,
            attack=result.attack,
            key=result.key,
            verdict="" if verdict is Verdict.PASS and not gate.limited else verdict.value,
            total=tally.total,
            generated=tally.generated,
            broken=tally.broken,
            resisted=tally.resisted,
            error=tally.error,
            low=low,
            high=high,
            confidence=gate.confidence,
            limits=limits(gate),
            fresh=result.fresh,
            seconds=result.seconds,
            broken_prompts=[
                {"case": prompt.case, "text": outcome.adversarial, "inserted": outcome.inserted, "seen": outcome.detail}
                for prompt, outcome in result.ended(Status.BROKEN)[:_SHOWN]
            ],
            errors=[_error(prompt.case, outcome) for prompt, outcome in result.ended(Status.ERROR)[:_SHOWN]],
            replay=replay,
            assumed=dict(result.provenance),
            obstacle=obstacle,
        )

    @property
    def successes(self) -> int:
        """Prompts that count towards ASR."""
        return self.generated + self.broken

    @property
    def missing(self) -> int:
        """Prompts without an outcome."""
        return self.total - self.generated - self.broken - self.resisted - self.error

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return self.verdict in ("", Verdict.PASS.value)

    def to_wire(self) -> dict[str, Any]:
        """Builtin types only: pytest-xdist aborts a session on anything else."""
        return asdict(self)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Record:
        """Read what ``to_wire`` wrote."""
        return cls(**{field.name: data[field.name] for field in fields(cls)})


def _error(case: int, outcome: Outcome) -> str:
    return f"prompt {case}: {outcome.error}"


def _control_failed(result: AttackResult) -> str:
    return (
        f"the positive control failed: the judge sees the concept in only {result.control} of the un-erased model's "
        f"own pictures, and {percent(LEAST)} are needed. Another judge or threshold may see it: "
        f"python -m pytest_unlearndiff calibrate {result.concept}"
    )


def limits(gate: Gate) -> str:
    """The gate in words: ``ASR <= 10.0%``."""
    parts = [
        f"{name} <= {fine_percent(limit)}"
        for name, limit in (("ASR", gate.max_asr), ("pre-ASR", gate.max_pre_asr))
        if limit is not None
    ]
    how = f" (upper bound at {fine_percent(gate.confidence)})" if parts and gate.reading == "upper" else ""
    return " and ".join(parts) + how
