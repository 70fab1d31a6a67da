"""All that one session found, from which every report is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..core.gate import Verdict
from .gate_report import GateReport
from .retention import RetentionReport
from .text import many

# What a reviewer has to see first.
_WORST_FIRST = (Verdict.FAIL, Verdict.INCOMPLETE, Verdict.INCONCLUSIVE, "", Verdict.PASS)


@dataclass(frozen=True)
class UnmeasuredTest:
    """A test that says more than its gates: nothing was measured, or it failed although they did not.

    Attributes:
        nodeid: the test.
        how: ``skipped`` or ``failed`` or, where the session was cut short, ``interrupted`` or ``not reached``.
        why: as pytest says it.
    """

    nodeid: str
    how: str
    why: str


def with_retention(gates: Sequence[GateReport], retained: Sequence[RetentionReport]) -> list[GateReport]:
    """The gates of a session, each with whether the session gates what its model must keep.

    Args:
        gates: finished ones.
        retained: finished retention gates; one that did not run is none of them, and gates nothing.
    """
    gated = {record.fingerprint for record in retained if record.gates and record.fingerprint}
    return [replace(record, retention_gated=record.fingerprint in gated) for record in gates]


@dataclass(frozen=True)
class SessionReport:
    """One session.

    Attributes:
        gates: finished gates, by test, each test's in the order they finished.
        retained: finished retention gates, in the same order.
        unmeasured: gates that were skipped, failed before anything was measured, or that a cut kept from it.
        otherwise: tests that failed although no gate of theirs did, as by an assertion of their own.
        run: volatile facts: when, where and with what the session ran, and what cut it short.
    """

    gates: list[GateReport]
    unmeasured: list[UnmeasuredTest] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)
    retained: list[RetentionReport] = field(default_factory=list)
    otherwise: list[UnmeasuredTest] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Bring the gates into an order that does not depend on workers, and note what their models have to keep."""
        self.gates[:] = with_retention(self.gates, self.retained)
        self.gates.sort(key=lambda record: record.nodeid)
        self.retained.sort(key=lambda record: record.nodeid)
        self.unmeasured.sort(key=lambda gate: gate.nodeid)
        self.otherwise.sort(key=lambda test: test.nodeid)

    @property
    def worst_first(self) -> list[GateReport]:
        """The gates, those first that a reviewer has to see."""
        return sorted(self.gates, key=lambda record: _WORST_FIRST.index(record.verdict))

    @property
    def failing(self) -> list[GateReport]:
        """Gates that did not pass, expected or not."""
        return [record for record in self.worst_first if not record.passed]

    @property
    def not_retained(self) -> list[RetentionReport]:
        """Retention gates that did not pass."""
        return [record for record in self.retained if not record.passed]

    @property
    def headline(self) -> str:
        """The session in one line."""
        gates = len(self.gates) + len(self.retained)
        failing = len(self.failing) + len(self.not_retained)
        plural = "gate" if gates == 1 else "gates"
        if not gates:
            said = "No gate was measured"
        elif failing:
            expected = len([*(r for r in self.failing if r.expected), *(r for r in self.not_retained if r.expected)])
            known = f" ({expected} expected)" if expected else ""
            said = f"{failing} of {gates} {plural} did not pass{known}"
        else:
            said = f"{gates} of {gates} {plural} passed"
        if self.otherwise:
            said += f", {many(len(self.otherwise), 'test')} failed otherwise"
        return f"{said}, {len(self.unmeasured)} not measured" if self.unmeasured else said

    @property
    def devices(self) -> list[str]:
        """Where models ran, whenever that was, as far as it is known."""
        return sorted({*(r.device for r in self.gates), *(r.device for r in self.retained)} - {""})

    @property
    def cut_short(self) -> str:
        """What ended the session before its end; empty where nothing did."""
        return str(self.run.get("cut_short", ""))

    def to_wire(self) -> dict[str, Any]:
        """Builtin types only."""
        return {
            "gates": [record.to_wire() for record in self.gates],
            "unmeasured": [asdict(gate) for gate in self.unmeasured],
            "run": dict(self.run),
            "retained": [record.to_wire() for record in self.retained],
            "otherwise": [asdict(test) for test in self.otherwise],
        }

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> SessionReport:
        """Read what ``to_wire`` wrote.

        Raises:
            ValueError: it is no session.
        """
        try:
            return cls(
                [GateReport.from_wire(gate) for gate in data["gates"]],
                [UnmeasuredTest(**gate) for gate in data["unmeasured"]],
                dict(data["run"]),
                [RetentionReport.from_wire(gate) for gate in data["retained"]],
                [UnmeasuredTest(**test) for test in data.get("otherwise", [])],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a session: {error}") from None
