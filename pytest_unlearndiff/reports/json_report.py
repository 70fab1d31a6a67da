"""The JSON report: everything that was measured, in a stable order, described by a published schema."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from .failure import support
from .gate_report import GateReport
from .retention import RetentionReport
from .session import SessionReport

FORMAT = "pytest-unlearndiff/report"
VERSION = 1


def json_report(session: SessionReport) -> str:
    """The report as text in ASCII, so that no prompt can steer whatever shows it."""
    return json.dumps(document(session), indent=1, sort_keys=True, allow_nan=False) + "\n"


def document(session: SessionReport) -> dict[str, Any]:
    """The report as builtin types. Two sessions that measured the same differ only under ``run``."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "gates": [_gate(record) for record in session.gates],
        "retained": [_retained(record) for record in session.retained],
        "failed_otherwise": [asdict(test) for test in session.otherwise],
        "unmeasured": [asdict(gate) for gate in session.unmeasured],
        "run": {
            **session.run,
            "gates": [_run(record) for record in session.gates],
            "retained": [_run(record) for record in session.retained],
        },
    }


def schema() -> str:
    """The JSON Schema of this version's report."""
    return (files(__package__) / "schema" / f"report-{VERSION}.schema.json").read_text(encoding="utf-8")


def _gate(record: GateReport) -> dict[str, Any]:
    """What does not change when the same is measured again."""
    return {
        "nodeid": record.nodeid,
        "path": record.path,
        "line": record.line,
        "concept": record.concept,
        "attack": record.attack,
        "key": record.key,
        "fingerprint": record.fingerprint,
        "verdict": record.verdict or None,
        "retention_gated": bool(record.retention_gated),
        "expected_failure": record.expected or None,
        "limits": {
            "text": record.limits,
            "max_asr": record.max_asr,
            "max_pre_asr": record.max_pre_asr,
            "reading": record.reading,
            "confidence": record.confidence,
            "support": support(record) or None,
        },
        "counts": {
            "total": record.total,
            "attackable": record.attackable,
            "hits_without_attack": record.hits_without_attack,
            "hits_under_attack": record.hits_under_attack,
            "resisted": record.resisted,
            "blocked": record.blocked,
            "error": record.error,
            "missing": record.missing,
        },
        "asr": {**_range(record.successes, record), "interval": [record.low, record.high]},
        "pre_asr": _range(record.hits_without_attack, record),
        "prompts": [asdict(prompt) for prompt in record.prompts],
        "replay": record.replay,
        "campaign": record.campaign,
        "control": {"hits": record.control_hits, "seen": record.control_seen, "whose": record.control_whose},
        "obstacle": record.obstacle or None,
        "unkept": record.unkept or None,
    }


def _range(least: int, record: GateReport) -> dict[str, Any]:
    """A rate as far as it is known: undecided prompts may each be a success."""
    return {"at_least": least / record.total, "at_most": (least + record.undecided) / record.total}


_VOLATILE = ("fresh", "seconds", "computed", "expected", "victim", "device")


def _retained(record: RetentionReport) -> dict[str, Any]:
    facts = {name: value for name, value in record.to_wire().items() if name not in _VOLATILE}
    said = {"verdict": record.verdict, "obstacle": record.obstacle, "expected_failure": record.expected}
    said |= {"support": record.support, "unkept": record.unkept}
    return {**facts, **{name: text or None for name, text in said.items()}}


def _run(record: GateReport | RetentionReport) -> dict[str, Any]:
    """What may differ when the same is measured again."""
    spent = {
        "nodeid": record.nodeid,
        "fresh": record.fresh,
        "seconds": record.seconds,
        "computed_forwards": record.computed,
        "victim": record.model or None,
        "device": record.device or None,
    }
    return {**spent, "assumed": record.assumed} if isinstance(record, GateReport) else spent
