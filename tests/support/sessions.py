"""Sessions for the tests of reports, some with text that an attacker would choose."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from builders import result

from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.reports.gate_report import GateReport
from pytest_unlearndiff.reports.retention import RetentionReport
from pytest_unlearndiff.reports.session import SessionReport, UnmeasuredTest
from pytest_unlearndiff.store.hashing import digest

TENTH = Fraction(1, 10)

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
    """A gate on these outcomes; see ``builders.result``."""
    replay = ["pytest", f"test_x.py::test_{name}", "--unlearndiff-case-numbers=100", "--unlearndiff-cache=off"]
    found = result(letters, **{"key": digest(name), **facts})
    found = replace(found, concept=name)
    return GateReport.of(found, gate or Gate(TENTH), f"test_x.py::test_{name}", replay, ("test_x.py", 7))


def retained(name: str = "dog", **facts: Any) -> RetentionReport:
    """A retention gate: 8 of 10 drawn, 1 undecided."""
    known: dict[str, Any] = {
        "nodeid": f"test_x.py::test_{name}", "concept": name, "keys": ["a", "b"], "verdict": "INCOMPLETE", "total": 10,
        "drawn": 8, "base_drawn": 10, "lost": 1, "undecided": 1, "base_undecided": 0,
        "lost_undecided": 1, "low": 0.44, "high": 0.99,
        "confidence": 0.95, "limits": "rate >= 90.0%", "control_failed": False, "fresh": 3, "seconds": 2.0,
        "missed_prompts": [{"case": 1, "text": "a dog", "seen": "cat 0.9"}], "obstacle": "",
    }  # fmt: skip
    return RetentionReport(**(known | facts))


def session(*records: GateReport, unmeasured: list[UnmeasuredTest] | None = None, **run: Any) -> SessionReport:
    return SessionReport(list(records), unmeasured or [], run)


def hostile() -> SessionReport:
    """Every text that comes from outside tries something."""
    records = []
    for number, text in enumerate(HOSTILE):
        plain = record("gbre-", f"thing{number}", obstacle=text, victim=text, provenance={"metadata": {text: text}})
        prompts = [
            replace(
                prompt,
                text=text,
                adversarial=f"{text} {text}" if prompt.adversarial else None,
                inserted=text if prompt.inserted else None,
                detail=text,
                error=text if prompt.error else None,
            )
            for prompt in plain.prompts
        ]
        named: dict[str, Any] = {
            "concept": f"thing{number} {text}",
            "nodeid": f"test_x.py::test[{text}]",
            "attack": text,
        }
        expected = text if number % 2 else ""
        records.append(replace(plain, **named, prompts=prompts, expected=expected, replay=["pytest", text]))
    missed = [[{"case": 1, "text": text, "seen": text}] for text in HOSTILE]
    kept = [
        retained(nodeid=f"test_x.py::{text}", concept=text, obstacle=text, missed_prompts=prompts)
        for text, prompts in zip(HOSTILE, missed, strict=True)
    ]
    unmeasured = [UnmeasuredTest(text, "failed", text) for text in HOSTILE]
    return SessionReport(records, unmeasured, {"cut_short": HOSTILE[0]}, kept)
