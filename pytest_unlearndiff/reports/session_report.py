"""The report of one session: all of its gates in a stable order, and tests that were not measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from ..core.gate import WORST_FIRST
from .gate_report import GateReport
from .text import pluralize

VERSION: Literal[2] = 2


class UnmeasuredTest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A test that says more than its gates: nothing was measured, or it failed although they did not.

    Attributes:
        nodeid: the test.
        how: ``skipped`` or ``failed`` or, where the session was cut short, ``interrupted`` or ``not reached``.
        why: as pytest says it.
    """

    nodeid: str
    how: Literal["skipped", "failed", "interrupted", "not reached"]
    why: str


class SessionReport(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One session.

    Two sessions that measured the same differ only under ``run``, their own and that of each gate.

    Attributes:
        gates: finished gates, by test, each test's in the order they finished.
        unmeasured: gates that were skipped, failed before anything was measured, or that a cut kept from it.
        failed_otherwise: tests that failed although no gate of theirs did, as by an assertion of their own.
        run: when, where and with what the session ran, and what cut it short.
    """

    format: Literal["pytest-unlearndiff/report"] = "pytest-unlearndiff/report"
    version: Literal[2] = VERSION
    gates: list[GateReport]
    unmeasured: list[UnmeasuredTest] = []
    failed_otherwise: list[UnmeasuredTest] = []
    run: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Bring everything into an order that does not depend on workers, and note what models have to keep."""
        self.gates = sorted(with_retention(self.gates), key=lambda gate: gate.nodeid)
        self.unmeasured = sorted(self.unmeasured, key=lambda test: test.nodeid)
        self.failed_otherwise = sorted(self.failed_otherwise, key=lambda test: test.nodeid)

    @property
    def worst_first(self) -> list[GateReport]:
        """The gates, those first that a reviewer has to see."""
        order = [*WORST_FIRST[:-1], None, WORST_FIRST[-1]]
        return sorted(self.gates, key=lambda gate: order.index(gate.verdict))

    @property
    def gone(self) -> list[GateReport]:
        """Gates on concepts that must be gone, the worst first."""
        return [gate for gate in self.worst_first if not gate.kept]

    @property
    def kept(self) -> list[GateReport]:
        """Gates on concepts that must be kept, the worst first."""
        return [gate for gate in self.worst_first if gate.kept]

    @property
    def failing(self) -> list[GateReport]:
        """Gates that did not pass, expected or not."""
        return [gate for gate in self.worst_first if not gate.passed]

    @property
    def headline(self) -> str:
        """The session in one line."""
        gates, failing = len(self.gates), len(self.failing)
        if not gates:
            headline = "No gate was measured"
        elif failing:
            expected = sum(gate.expected_failure is not None for gate in self.failing)
            note = f" ({expected} expected)" if expected else ""
            headline = f"{failing} of {pluralize(gates, 'gate')} did not pass{note}"
        else:
            headline = f"{gates} of {pluralize(gates, 'gate')} passed"
        if self.failed_otherwise:
            headline += f", {pluralize(len(self.failed_otherwise), 'test')} failed otherwise"
        return f"{headline}, {len(self.unmeasured)} not measured" if self.unmeasured else headline

    @property
    def devices(self) -> list[str]:
        """Devices that models ran on, whenever that was, as far as it is known."""
        return sorted({gate.run.device for gate in self.gates} - {""})

    @property
    def cut_short(self) -> str:
        """The reason why the session ended before its end; empty where nothing cut it short."""
        return str(self.run.get("cut_short", ""))


def with_retention(gates: Sequence[GateReport]) -> list[GateReport]:
    """Note in each gate whether the session gates what its model must keep.

    A gate on what must be kept that did not run is none of them, and demands nothing.
    """
    demanded = {gate.fingerprint for gate in gates if gate.demands_retention and gate.fingerprint}
    return [
        gate if gate.kept else msgspec.structs.replace(gate, retention_gated=gate.fingerprint in demanded)
        for gate in gates
    ]
