"""Every registered report: whatever prompts, names and errors say, they steer neither the reader nor a program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sessions import HOSTILE, hostile, record, retained, session

from pytest_unlearndiff.core.registry import registry
from pytest_unlearndiff.reports import destination_form, parse_destinations
from pytest_unlearndiff.reports.failure_text import failure_text
from pytest_unlearndiff.reports.junit import html_extras, properties
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
