"""Every registered report: whatever prompts, names and errors say, they steer neither the reader nor a program."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from sessions import HOSTILE, TENTH, hostile, record, retained, session

from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.core.info import AttackInfo, Threat
from pytest_unlearndiff.core.registry import Registry, registry, set_registry
from pytest_unlearndiff.reports import destination_form, parse_destinations
from pytest_unlearndiff.reports.comparison import compare
from pytest_unlearndiff.reports.failure_text import failure_text
from pytest_unlearndiff.reports.gate_report import GateReport
from pytest_unlearndiff.reports.junit import html_extras, properties
from pytest_unlearndiff.reports.leaderboard import badge, leaderboard
from pytest_unlearndiff.reports.model_card import update_model_card
from pytest_unlearndiff.reports.session_report import ReportOptions, render, write
from pytest_unlearndiff.reports.terminal import summary_lines

REPORTS = [*registry().reports]
STEERING = {"\x1b", "\x00", "\x07", "\x9b", "\r", "\u202e", "\u2066", "\u200b", "\u2028", "\u2029"}


@pytest.mark.parametrize("name", REPORTS)
def test_hostile_text_steers_nothing(name: str) -> None:
    text = render(name, hostile(), ReportOptions())
    assert not STEERING & set(text)
    assert "\nPASSED" not in text
    assert "\n::error::" not in text
    if name not in ("html", "json"):  # whose data hold texts whole
        assert "x" * 5_000 not in text


@pytest.mark.parametrize("name", REPORTS)
def test_concept_verdict_and_counts_are_in_it(name: str) -> None:
    text = render(name, session(record("bb" + "r" * 8), retained("g" + "r" * 9)), ReportOptions())
    for part in ("church", "dog", "FAIL", "2/10" if name != "json" else '"hits_under_attack": 2'):
        assert part in text


BEYOND_TEXT = [threat for threat in Threat if threat is not Threat.TEXT]
EXPORTS = {"leaderboard": leaderboard, "badge": badge, "model card": lambda session: update_model_card("", session)}


@pytest.fixture
def beyond_text(request: pytest.FixtureRequest) -> Iterator[GateReport]:
    """A failed gate on an attack of this threat model, which a plugin registers."""
    before = registry()
    row = AttackInfo("beyond", "package.module:attack", "1", threat=request.param)
    set_registry(Registry([*before.added, row]))
    yield record("gbre" + "r" * 6, gate=Gate(max_recovery=TENTH), attack="beyond", provenance={"torch": "2"})
    set_registry(before)


@pytest.mark.parametrize("beyond_text", BEYOND_TEXT, indirect=True, ids=str)
def test_rate_of_an_attack_that_leaves_text_is_never_called_asr(beyond_text: GateReport) -> None:
    alone, rate = session(beyond_text), beyond_text.threat.rate
    lines = [line for line, _ in summary_lines([beyond_text], verbosity=1)]
    texts = {
        name: render(name, alone, ReportOptions(changes=compare([beyond_text], [beyond_text])[0])) for name in REPORTS
    }
    texts |= {name: export(alone) for name, export in EXPORTS.items()}
    texts |= {
        "terminal": "\n".join(lines),
        "failure": failure_text(beyond_text),
        "junit": repr(properties(beyond_text)),
    }
    texts |= {"comparison": "\n".join(compare([beyond_text], [beyond_text])[0][0].lines())}
    for name, text in texts.items():
        assert "ASR" not in text, name
        if name not in ("json", "junit", "comparison", "leaderboard"):  # the last has no table for it
            assert rate in text or rate.capitalize() in text, name
    assert json.loads(texts["json"])["gates"][0]["threat"] in repr(properties(beyond_text))
    assert "asr_at" not in texts["junit"]
    assert leaderboard(alone) == ""

    both = session(record("bbbb" + "r" * 6), beyond_text)
    assert f"church ASR 40.0% (unlearndiff/fast), church {rate} up to 30.0% (beyond)" in badge(both)
    assert f"Attacks that leave text, which these tables do not count:\n\n- esd.pt: church {rate} up to 30.0%" in (
        leaderboard(both).replace("&#45;", "-").replace("&#58;", ":").replace("&#40;", "(")
    )
    metrics = ModelCard(update_model_card("", both)).data.eval_results
    assert [metric.metric_value for metric in metrics if metric.metric_type == "attack-success-rate"] == [40.0]
    assert [metric.metric_value for metric in metrics if metric.metric_type == rate.replace(" ", "-")] == [30.0]


@pytest.mark.parametrize("name", [name for name in REPORTS if registry().reports[name].takes_path])
def test_report_is_written_with_its_folder_and_readable(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new" / f"report.{name}"
    write(name, path, session(record("bb")), ReportOptions())
    assert path.read_text(encoding="utf-8") == render(name, session(record("bb")), ReportOptions())
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("gate", hostile().gates, ids=range(2 * len(HOSTILE)))
def test_hostile_text_draws_nothing_on_the_terminal(gate: object) -> None:
    lines = [line for line, _ in summary_lines([gate], verbosity=1)]  # type: ignore[list-item]
    texts = [*lines, *(value for _, value in properties(gate))]  # type: ignore[arg-type]
    texts += failure_text(gate).split("\n")  # type: ignore[arg-type]
    assert all(character.isprintable() for text in texts for character in text)
    assert max(map(len, texts)) < 6_000
    (extra,) = html_extras([gate])  # type: ignore[list-item]
    assert not re.search(r"<(?!/?pre)", extra["content"])


@pytest.mark.parametrize(
    ("text", "destinations"),
    [
        ("html:out.html", (("html", "out.html"),)),
        ("json:a,b.json, github,md:c.md", (("json", "a,b.json"), ("github", ""), ("md", "c.md"))),
    ],
)
def test_destinations(text: str, destinations: tuple[tuple[str, str], ...]) -> None:
    assert parse_destinations(text) == destinations


@pytest.mark.parametrize("text", ["", "html", "pdf:x", "github:x", "html:a,github:x", ","])
def test_malformed_destinations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(destination_form())):
        parse_destinations(text)
