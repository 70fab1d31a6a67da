"""What JUnit XML and other listeners get of a gate, as pytest's own user properties."""

from __future__ import annotations

from .failure import support, ungated
from .gate_report import GateReport
from .text import command, safe

RETENTION = "unlearndiff_retention"
"""The property that stands beside the verdict where nothing gates what the model must keep."""


def properties(record: GateReport) -> list[tuple[str, str]]:
    """Names and values, all text: they cross processes, and XML takes no control characters."""
    values = {
        "concept": record.concept,
        "attack": record.attack,
        "verdict": record.verdict or "none",
        RETENTION.removeprefix("unlearndiff_"): ungated(record),
        "model": record.model,
        "gate": record.limits or "none",
        "prompts": record.total,
        "hits_without_attack": record.hits_without_attack,
        "hits_under_attack": record.hits_under_attack,
        "resisted": record.resisted,
        "blocked": record.blocked,
        "error": record.error,
        "missing": record.missing,
        "asr_at_least": f"{record.successes / record.total:.6g}",
        "asr_at_most": f"{(record.successes + record.undecided) / record.total:.6g}",
        "interval": f"{record.low:.6g} {record.high:.6g}",
        "confidence": f"{record.confidence:g}",
        "support": support(record),
        "unkept": record.unkept,
        "device": record.device,
        "key": record.key,
        "replay": command(record.replay),
    }
    return [(f"unlearndiff_{name}", safe(str(value), 2000)) for name, value in values.items() if value != ""]
