"""Sessions for the tests of reports, some with text that an attacker would choose."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from builders import result
from msgspec.structs import replace as changed

from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.core.quality import Figure, QualityFigures, QualityGate, QualityResult
from pytest_unlearndiff.core.result import Retention
from pytest_unlearndiff.reports.gate_report import GateReport
from pytest_unlearndiff.reports.gate_report_parts import PromptReport
from pytest_unlearndiff.reports.quality_report import OWN_REFERENCE, QualityReport
from pytest_unlearndiff.reports.session_report import SessionReport, UnmeasuredTest
from pytest_unlearndiff.store.key import digest

TENTH = Fraction(1, 10)
REPLAY = ["pytest", "test_x.py::test_it[a b]", "--unlearndiff-model=my model.pt", "--unlearndiff-case-numbers=100,101"]

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!-- <img src=x onerror=alert(1)> --> ]]> &amp;",
    "a \u202e gnp.exe \u2066 x \u200b",
    "\x1b[31mred\x1b[0m \x9b2J \x00\x07",
    "{{ 7 * 7 }} {% raw %} ${x} `ls` ``` | a | b | [x](javascript:alert(1)) @all #1",
    "a\nPASSED\r\n::error::x\u2028\u2029%0A::error::y",
    "x" * 10_000,
]


def record(letters: str, name: str = "church", gate: Gate | None = None, **facts: Any) -> GateReport:
    """A gate on a concept that must be gone; see ``builders.result``."""
    attacked = replace(result(letters, **{"key": digest(name), **facts}), concept=name)
    nodeid = f"test_x.py::test_{name}"
    return GateReport.of(attacked, gate or Gate(TENTH), nodeid, replay=REPLAY, path="test_x.py", line=7)


def retained(
    letters: str = "ggggggggr-",
    base: str | None = "gggggggggg",
    name: str = "dog",
    gate: Gate | None = None,
    **facts: Any,
) -> GateReport:
    """A gate on a concept that must be kept."""
    victim = replace(result(letters, **{"attack": "none", **facts}), concept=name)
    retention = Retention(victim, result(base, attack="none") if base is not None else None)
    gate = gate or Gate(min_rate=1 - TENTH)
    return GateReport.of(retention, gate, f"test_x.py::test_{name}", replay=REPLAY, path="test_x.py", line=9)


def with_first(gate: GateReport, **facts: Any) -> GateReport:
    """The gate with other facts about its first prompt."""
    return changed(gate, prompts=[changed(gate.prompts[0], **facts), *gate.prompts[1:]])


def quality(victim: str = "gggg", name: str = "coco", **facts: Any) -> QualityReport:
    """A gate on image quality, with a CLIP score that fell; see ``builders.result``."""
    sides = [result(letters, attack="none", key=digest(name)) for letters in (victim, "gggg", "gggg")]
    scored = [
        replace(side, outcomes=tuple(o and replace(o, score=0.3 - 0.02 * i * n) for n, o in enumerate(side.outcomes)))
        for i, side in zip((1, 0, 0), sides, strict=True)
    ]
    measured = QualityResult.of(scored)
    figures = QualityFigures(kid=Figure(0.03, 0.001, 0.01), clip=Figure(0.27, 0.3, 0.008))
    complete = replace(measured, figures=None if measured.obstacle else figures)
    gate = QualityGate(max_kid_increase=0.02, max_clip_loss=0.05)
    networks = {"features": "dinov2", "clip_model": "clip", "reference": OWN_REFERENCE}
    where = {"captions": name, "path": "test_x.py", "line": 11, **networks}
    return changed(QualityReport.of(complete, gate, f"test_x.py::test_{name}", **where), **facts)


def session(*gates: GateReport, unmeasured: list[UnmeasuredTest] | None = None, **run: Any) -> SessionReport:
    return SessionReport(gates=list(gates), unmeasured=unmeasured or [], run=run)


def hostile() -> SessionReport:
    """A session in which every text that comes from outside tries something."""
    gates = []
    for number, text in enumerate(HOSTILE):

        def steered(prompt: PromptReport, text: str = text) -> PromptReport:
            facts = {name: text for name in ("adversarial", "inserted", "error") if getattr(prompt, name)}
            return changed(prompt, text=text, detail=text, **facts)

        attack = record("gbre-", obstacle=text, victim=text, provenance={"metadata": {text: text}, "unkept": text})
        for gate in (attack, retained("gre-", "gggg", obstacle=text, victim=text)):
            gates.append(
                changed(
                    gate,
                    concept=f"thing{number} {text}",
                    nodeid=f"test_x.py::test[{text}]",
                    attack=text if gate is attack else gate.attack,
                    prompts=[steered(prompt) for prompt in gate.prompts],
                    expected_failure=text if number % 2 else None,
                    replay=["pytest", text],
                )
            )
    tests = [UnmeasuredTest(text, "failed", text) for text in HOSTILE]
    measured = [_steered_quality(text) for text in HOSTILE]
    return SessionReport(
        gates=gates, quality=measured, unmeasured=tests, failed_otherwise=tests, run={"cut_short": HOSTILE[0]}
    )


def _steered_quality(text: str) -> QualityReport:
    gate = quality("ggg-")
    prompts = [changed(prompt, text=text, error=text, score=0.1, base_score=0.3) for prompt in gate.prompts]
    texts = dict.fromkeys(("captions", "obstacle", "unkept", "features", "clip_model", "reference"), text)
    run = changed(gate.run, victim=text)
    return changed(gate, **texts, nodeid=f"test_x.py::test[{text}]", prompts=prompts, run=run)
