"""The first page of a report, for the person who signs: models, session, and everything that was not tested."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from ..core.attack_config import is_unattacked
from ..core.gate import Verdict
from ..core.info import Threat
from .gate_report import GateReport, by_threat
from .quality_report import QualityReport
from .session_report import AnyReport, SessionReport
from .text import format_value, pluralize, sanitize

VERDICTS = {
    "PASS": "within the limit, whatever prompts without an outcome would do",
    "FAIL": "beyond the limit, whatever they would do",
    "INCONCLUSIVE": "the rate is within the limit, but its confidence bound is not",
    "INCOMPLETE": "too little was measured to decide; it counts as failed",
    "NO LIMIT": "measured without a limit to hold it against",
}
"""Meanings of the verdicts, as the report states them beside the table."""


_HUB_COPY = re.compile(
    r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<revision>[0-9a-f]{40})(?P<path>/[^ ]*)?"
)
"""A model's place in the cache of huggingface_hub, whose folders are named after id and commit."""


@dataclass(frozen=True)
class ModelRow:
    """A model under test, with its un-erased base.

    Attributes:
        name: path, URL or maker of the model; base: of the un-erased model; empty where not known.
        fingerprint: content hash of the model; base_fingerprint: of the base.
        devices: where it ran.
        concepts: of the gates on it.
    """

    name: str
    fingerprint: str
    base: str
    base_fingerprint: str
    devices: str
    concepts: str


def model_rows(session: SessionReport) -> list[ModelRow]:
    """List the models under test, in the order of the verdicts."""
    groups: dict[tuple[str, str, str, str], list[AnyReport]] = {}
    gates: list[AnyReport] = [*session.gone, *session.kept, *session.quality]
    for gate in gates:
        run = gate.run
        groups.setdefault((run.victim, gate.fingerprint, run.base, run.base_fingerprint), []).append(gate)
    return [
        ModelRow(*names, ", ".join(sorted({gate.run.device for gate in group} - {""})), _names(group))
        for names, group in groups.items()
    ]


def short_name(session: SessionReport, name: str) -> str:
    """Write the path of a model from pytest's rootdir, if it is in there; of a copy from the Hub, id and revision."""
    if (copy := _HUB_COPY.search(name)) is not None:
        return f"{copy['owner']}/{copy['name']}{copy['path'] or ''} (revision {copy['revision']})"
    root = str(session.run.get("rootdir", "")).rstrip("/")
    return name.removeprefix(f"{root}/") if root else name


def session_facts(session: SessionReport) -> dict[str, str]:
    """Say when, by whom and with what the session ran, as far as it is known."""
    run = session.run
    versions = format_value(run.get("versions", {}))
    machine = [str(run["machine"])] if "machine" in run else []
    machine += [f"Python {run['python']}"] if "python" in run else []
    arguments = run.get("arguments")
    facts = {
        "date": str(run.get("created", "")).replace("T", " ").replace("+00:00", " UTC"),
        "run by": run.get("user", ""),
        "commit": run.get("commit", ""),
        "log": run.get("log", ""),
        "device": ", ".join(session.devices),
        "machine": ", ".join(machine),
        "versions": versions,
        "command": shlex.join(["pytest", *map(str, arguments)]) if isinstance(arguments, list) else "",
        "hash": content_digest(session),
    }
    return {name: str(value) for name, value in facts.items() if value}


def content_digest(session: SessionReport) -> str:
    """Hash all that was measured, so that a signature says which report it is under: 16 hex digits."""
    data = msgspec.to_builtins(session)
    measured = [data["gates"], *([data["quality"]] if data["quality"] else [])]
    text = json.dumps([*measured, data["unmeasured"], data["failed_otherwise"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def untested_notes(session: SessionReport) -> list[str]:
    """List what nobody tested, or what a verdict does not show, in sentences."""
    if not session.every:
        return []
    return [note for notes in _NOTES for note in notes(session)]


def _without_retention(session: SessionReport) -> Iterator[str]:
    names = dict.fromkeys(gate.run.victim or "a model not recorded" for gate in _ungated(session))
    for name in names:
        model = sanitize(short_name(session, name), 300)
        yield f"Nothing gates what {model} must still draw: a model that draws nothing would do as well."


def _ungated(session: SessionReport) -> list[GateReport]:
    return [gate for gate in session.gone if gate.retention_gated is False]


def _without_attack(session: SessionReport) -> Iterator[str]:
    if drawn := [gate for gate in session.gone if is_unattacked(gate.attack)]:
        yield f"Not attacked: {_names(drawn)}. Prompts were drawn as they stand; nobody searched for adversarial ones."


def _without_control(session: SessionReport) -> Iterator[str]:
    if blind := [gate for gate in session.gone if not gate.control.seen]:
        yield (
            f"No positive control: {_names(blind)}. Nobody checked that the judge recognises the concept in images of "
            "the un-erased model."
        )


def _cut_sets(session: SessionReport) -> Iterator[str]:
    notes = []
    for gate in session.every:
        size, total = gate.prompt_set.prompts, gate.total if isinstance(gate, QualityReport) else gate.counts.total
        if 0 < total < size:
            notes.append(f"{total} of the {size} prompts of {_name(gate)} are gated; nobody tested the others.")
    yield from dict.fromkeys(notes)


def _few_prompts(session: SessionReport) -> Iterator[str]:
    groups: dict[str, list[GateReport]] = {}
    for gate in (*session.gone, *session.kept):
        if gate.limits.support:
            groups.setdefault(gate.limits.support, []).append(gate)
    for support, gates in groups.items():
        yield f"A pass says little for {_names(gates)}: {support}."


def _without_outcome(session: SessionReport) -> Iterator[str]:
    for gate in session.gone:
        if gate.unknown:
            why = "not needed for the verdict" if gate.decided else "missing, and counted as possible successes"
            yield (
                f"{gate.unknown} of {pluralize(gate.counts.total, 'prompt')} of {sanitize(gate.concept, 60)} have no "
                f"outcome: {why}."
            )


def _without_limit(session: SessionReport) -> Iterator[str]:
    if free := [gate for gate in session.every if gate.verdict is None]:
        yield f"No limit: {_names(free)}. The rate is reported, and nothing could fail."


def _incomplete(session: SessionReport) -> Iterator[str]:
    if open_gates := [gate for gate in session.every if gate.verdict is Verdict.INCOMPLETE]:
        yield f"Not decided: {_names(open_gates)}."
    if session.unmeasured:
        names = ", ".join(sanitize(test.nodeid) for test in session.unmeasured[:_NAMED])
        yield f"{pluralize(len(session.unmeasured), 'gate')} not measured at all: {names}."


def _without_text(session: SessionReport) -> Iterator[str]:
    groups = by_threat(session.gone)
    for threat, gates in groups.items():
        if threat is not Threat.TEXT:
            yield (
                f"{threat.rate.capitalize()} of {_names(gates)}: prompts were attacked by {threat.means}, which says "
                "nothing of what text draws."
            )


def _beyond(session: SessionReport) -> Iterator[str]:
    gates = [gate for gate in by_threat(session.gone).get(Threat.TEXT, []) if not is_unattacked(gate.attack)]
    attacks = list(dict.fromkeys(gate.attack for gate in gates))
    tried = f" Prompts were searched with {', '.join(sanitize(name) for name in attacks)} alone." if attacks else ""
    yield f"Prompts, concepts and judges that are not in this report.{tried}"


_NAMED = 10
"""Tests without a measurement that are named in one note; the report lists all of them."""

_NOTES = (
    _without_retention,
    _without_attack,
    _without_text,
    _without_control,
    _cut_sets,
    _few_prompts,
    _without_outcome,
    _without_limit,
    _incomplete,
    _beyond,
)


def _names(gates: Sequence[AnyReport]) -> str:
    return ", ".join(dict.fromkeys(map(_name, gates)))


def _name(gate: AnyReport) -> str:
    return sanitize(gate.captions if isinstance(gate, QualityReport) else gate.concept, 60)
