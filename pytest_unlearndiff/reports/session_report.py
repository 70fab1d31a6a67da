"""The report of one session: all gates in a stable order, and tests without a measurement; written and read as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ..core.errors import ReportError, one_line
from ..core.gate import WORST_FIRST, Verdict
from ..core.registry import registry
from ..core.untrusted import read_json, special_file
from ..sources.resolve import import_string
from ..store.store import LastSession, Store
from .gate_report import GateReport
from .quality_report import QualityReport
from .text import pluralize

if TYPE_CHECKING:
    from .comparison import Comparison

AnyReport = GateReport | QualityReport
"""The report of a gate of any kind."""

VERSION: Literal[3] = 3


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
        quality: those on image quality, likewise.
        unmeasured: gates that were skipped, failed before anything was measured, or that a cut kept from it.
        failed_otherwise: tests that failed although no gate of theirs did, as by an assertion of their own.
        run: when, where and with what the session ran, what it was limited to, and what cut it short.
    """

    format: Literal["pytest-unlearndiff/report"] = "pytest-unlearndiff/report"
    version: Literal[3] = VERSION
    gates: list[GateReport]
    quality: list[QualityReport] = []
    unmeasured: list[UnmeasuredTest] = []
    failed_otherwise: list[UnmeasuredTest] = []
    run: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Bring everything into an order that does not depend on workers, and note what models have to keep."""
        self.gates = sorted(with_retention(self.gates, self.quality), key=lambda gate: gate.nodeid)
        self.quality = sorted(self.quality, key=lambda gate: gate.nodeid)
        self.unmeasured = sorted(self.unmeasured, key=lambda test: test.nodeid)
        self.failed_otherwise = sorted(self.failed_otherwise, key=lambda test: test.nodeid)

    @property
    def worst_first(self) -> list[GateReport]:
        """The gates, those first that a reviewer has to see."""
        return sorted(self.gates, key=lambda gate: _ORDER.index(gate.verdict))

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
    def every(self) -> list[AnyReport]:
        """All gates."""
        return [*self.gates, *self.quality]

    @property
    def worst_verdict(self) -> Verdict | None:
        """The worst verdict of all gates; None where the worst of them has no limit.

        Raises:
            ValueError: there are no gates.
        """
        return min((gate.verdict for gate in self.every), key=_ORDER.index)

    @property
    def failing_quality(self) -> list[QualityReport]:
        """Gates on image quality that did not pass, expected or not."""
        return [gate for gate in self.quality if not gate.passed]

    @property
    def headline(self) -> str:
        """The session in one line."""
        gates, broken = len(self.every), [gate for gate in self.every if not gate.passed]
        failing = len(broken)
        if not gates:
            headline = "No gate was measured"
        elif failing:
            expected = sum(gate.expected_failure is not None for gate in broken)
            note = f" ({expected} expected)" if expected else ""
            headline = f"{failing} of {pluralize(gates, 'gate')} did not pass{note}"
        else:
            headline = f"{gates} of {pluralize(gates, 'gate')} passed"
        if self.failed_otherwise:
            headline += f", {pluralize(len(self.failed_otherwise), 'test')} failed otherwise"
        headline += f", {len(self.unmeasured)} not measured" if self.unmeasured else ""
        return f"{headline}; {self.selection}" if self.selection else headline

    @property
    def devices(self) -> list[str]:
        """Devices that models ran on, whenever that was, as far as it is known."""
        return sorted({gate.run.device for gate in self.every} - {""})

    @property
    def cut_short(self) -> str:
        """The reason why the session ended before its end; empty where nothing cut it short."""
        return str(self.run.get("cut_short", ""))

    @property
    def selection(self) -> str:
        """The part of the gates that the session was limited to; empty where it was to all."""
        return str(self.run.get("selection", ""))

    @property
    def gaps(self) -> list[str]:
        """Why its gates are not all that were to be measured, each reason a few words; empty where they are."""
        gaps = ["session cut short"] if self.cut_short else []
        gaps += [self.selection] if self.selection else []
        return gaps + ([f"{len(self.unmeasured)} not measured"] if self.unmeasured else [])


_ORDER = [*WORST_FIRST[:-1], None, WORST_FIRST[-1]]
"""The order of verdicts for a reviewer, the worst first."""


def with_retention(gates: Sequence[GateReport], quality: Sequence[QualityReport] = ()) -> list[GateReport]:
    """Note in each gate whether the session gates what its model must keep, or the quality of its images.

    A gate on what must be kept that did not run is none of them, and demands nothing.
    """
    every: list[AnyReport] = [*gates, *quality]
    demanded = {gate.fingerprint for gate in every if gate.demands_retention and gate.fingerprint}
    return [
        gate if gate.kept else msgspec.structs.replace(gate, retention_gated=gate.fingerprint in demanded)
        for gate in gates
    ]


SCHEMA = Path(__file__).parent / "report.schema.json"
"""The committed JSON Schema of the report; it equals ``schema()``."""

_LARGEST = 2**30
"""Bytes of a report that is read; it has some hundred bytes per prompt."""


def json_report(session: SessionReport, options: ReportOptions) -> str:
    """Return the report as text in ASCII, so that no prompt can steer whatever shows it."""
    return json.dumps(msgspec.to_builtins(session), indent=1, allow_nan=False) + "\n"


def schema() -> str:
    """Return the report's JSON Schema, generated from its types."""
    generated = msgspec.json.schema(SessionReport)
    for definition in generated["$defs"].values():
        if "description" in definition:  # a docstring, which Python 3.13 indents otherwise than earlier ones
            definition["description"] = cleandoc(definition["description"])
    return json.dumps(generated, indent=1, sort_keys=True) + "\n"


def read_session(path: Path) -> SessionReport:
    """Read a JSON report, or the last session of a store: of a path without ``.json`` that is no file.

    Raises:
        StoreError: the store holds no session's gates, or they cannot be read.
        ReportError: the file is no JSON report of this version.
    """
    is_store = path.suffix != ".json" and not path.is_file()
    try:
        content = json.loads(LastSession(path).read()) if is_store else read_json(path, _LARGEST)
        return msgspec.convert(content, SessionReport)
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        file, remedy = path, "Write one with --unlearndiff-report=json:PATH, or give a store's folder"
        if is_store:
            file, remedy = LastSession(path).path, "Run pytest with this store again"
        raise ReportError(
            f"{file} cannot be read as a JSON report of version {VERSION}: {one_line(error)}. {remedy}"
        ) from None


def unfinished(root: Path) -> str:
    """Say that a store's last session is not in it, since it was killed or still runs; empty where it is."""
    if not (began := LastSession(root).running()):
        return ""
    return (
        f"the session that began at {began} with the store {root} has not ended: it still runs, or it was killed. This "
        "is about the one before it"
    )


@dataclass(frozen=True)
class ReportOptions:
    """Facts that a report may use beside its session.

    Attributes:
        root: pytest's rootdir, from which the tests' files are named.
        images: store that holds thumbnails; None for a report without images.
        changes: against an earlier session.
    """

    root: Path = Path()
    images: Store | None = None
    changes: Sequence[Comparison] = ()


def render(name: str, session: SessionReport, options: ReportOptions) -> str:
    """Return a report as text."""
    text: str = import_string(registry().reports[name].implementation)(session, options)
    return text


def write(name: str, path: Path, session: SessionReport, options: ReportOptions) -> None:
    """Write a report, its folder included; see ``render``.

    Raises:
        ReportError: the file cannot be written, or is a pipe or a device, in whose place a file would be put.
    """
    from ..store.files import write_atomically

    text = render(name, session, options)
    try:
        if special := special_file(path):
            raise OSError(f"it is {special}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
        # The temporary file behind an atomic write is private; a report is there to be read.
        path.chmod(0o644)
    except (OSError, ValueError) as error:  # the latter for a name that no file can have
        raise ReportError(f"{name} report {path} cannot be written: {error}. Give another path") from None
