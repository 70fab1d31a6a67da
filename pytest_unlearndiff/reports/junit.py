"""User properties of a gate, for JUnit XML and other listeners, and its row in a pytest-html report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape
from typing import Any

from .failure_text import losses, ungated
from .gate_report import GateReport
from .quality_report import QualityReport
from .terminal import quality_lines, summary_lines
from .text import sanitize

RETENTION = "unlearndiff_retention"
"""The property beside the verdict where nothing gates what the model must keep."""


def properties(gate: GateReport) -> list[tuple[str, str]]:
    """Return names and values, all text: they cross processes, and XML takes no control characters.

    Names of gates on what must be kept have the concept in them, since a test may have several.
    """
    counts, base = gate.counts, gate.base
    rate = gate.threat.limit.removeprefix("max_")
    low, high = gate.rate.interval
    values: dict[str, Any] = {
        "concept": gate.concept,
        "attack": gate.attack,
        "threat": gate.threat.value,
        "verdict": gate.verdict or "none",
        RETENTION.removeprefix("unlearndiff_"): ungated(gate),
        "model": gate.run.victim,
        "gate": gate.limits.text or "none",
        "prompts": counts.total,
        "prompt_set": str(gate.prompt_set),
    }
    if gate.kept:
        values |= {
            "drawn": gate.hits,
            "blocked": counts.blocked,
            "base_drawn": "none" if base is None else base.hits,
            "lost": losses(gate),
            "undecided": gate.unknown + (base.unknown if base is not None else 0),
        }
    else:
        values |= {
            "hits_without_attack": counts.hits_without_attack,
            "hits_under_attack": counts.hits_under_attack,
            "resisted": counts.resisted,
            "blocked": counts.blocked,
            "error": counts.error,
            "missing": counts.missing,
            f"{rate}_at_least": f"{gate.rate.at_least:.6g}",
            f"{rate}_at_most": f"{gate.rate.at_most:.6g}",
        }
    values |= {
        "interval": f"{low:.6g} {high:.6g}",
        "confidence": f"{gate.limits.confidence:g}",
        "support": gate.limits.support or "",
        "unkept": gate.unkept or "",
        "device": gate.run.device,
        "key": gate.key if base is None else f"{gate.key} {base.key}",
        "replay": shlex.join(gate.replay),
    }
    prefix = f"unlearndiff_retains_{gate.concept}" if gate.kept else "unlearndiff"
    return [(f"{prefix}_{name}", sanitize(str(value), 2000)) for name, value in values.items() if value != ""]


def quality_properties(gate: QualityReport) -> list[tuple[str, str]]:
    """Return names and values of a gate on image quality, with the captions' name in them, all text."""
    values: dict[str, Any] = {
        "verdict": gate.verdict or "none",
        "model": gate.run.victim,
        "gate": gate.limits.text or "none",
        "captions": gate.total,
        "missing": gate.missing,
        "reference": gate.reference or "",
        "unkept": gate.unkept or "",
        "key": f"{gate.key} {gate.base_key}",
    }
    for name, figure in (("kid", gate.kid), ("fid", gate.fid), ("clip", gate.clip)):
        if figure is not None:
            values |= {name: f"{figure.victim:.6g}", f"base_{name}": f"{figure.base:.6g}"}
            values[f"{name}_interval"] = " ".join(f"{end:.6g}" for end in figure.interval or ())
    prefix = f"unlearndiff_quality_{gate.captions}"
    return [(f"{prefix}_{name}", sanitize(str(value), 2000)) for name, value in values.items() if value != ""]


def html_extras(gates: Sequence[GateReport], quality: Sequence[QualityReport] = ()) -> list[dict[str, Any]]:
    """Return one extra per test in the form of ``pytest_html.extras.html``: builtin types, so that it travels."""
    text = escape("\n".join(line for line, _ in (*summary_lines(gates), *quality_lines(quality))))
    content = f'<pre class="unlearndiff">{text}</pre>'
    return [{"name": None, "format_type": "html", "content": content, "mime_type": None, "extension": None}]
