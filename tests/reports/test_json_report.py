"""The JSON report follows its committed schema, in an order that does not depend on how it was computed."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sessions import TENTH, hostile, record, retained, session

from pytest_unlearndiff.core.errors import ReportError, StoreError
from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.reports.session_report import (
    SCHEMA,
    ReportOptions,
    SessionReport,
    UnmeasuredTest,
    json_report,
    read_session,
    schema,
    unfinished,
    with_retention,
)
from pytest_unlearndiff.store.store import LastSession

SESSIONS = {
    "empty": session(),
    "skipped": session(unmeasured=[UnmeasuredTest("test_x.py::test_a", "skipped", "no model")]),
    "no limit": session(record("br", gate=Gate())),
    "every verdict": session(
        record("r" * 10, "a"), record("bbr", "b"), record("r-", "c"),
        record("bbb" + "r" * 35, "d", Gate(TENTH, Fraction(0), reading="upper")), created="2026-01-01T00:00:00+00:00",
    ),
    "kept": session(record("br"), retained(), retained("g" * 10, None, gate=Gate())),
    "hostile": hostile(),
}  # fmt: skip
EXPECTED = msgspec.structs.replace(record("bb", "b"), expected_failure="known")
RUN = {"device": "cpu", "campaign": {"attack": "unlearndiff"}}
SNAPSHOT = session(
    record("gbe-", fresh=2, seconds=4.5, computed=600, provenance=RUN),
    retained("gr", "gg"),
    unmeasured=SESSIONS["skipped"].unmeasured,
    created="2026-01-01T00:00:00+00:00",
)


def written(report: SessionReport) -> str:
    return json_report(report, ReportOptions())


def test_committed_schema_is_generated_from_the_types() -> None:
    """If not: python -m pytest_unlearndiff report --schema > pytest_unlearndiff/reports/report.schema.json."""
    assert SCHEMA.read_text(encoding="utf-8") == schema()
    jsonschema.Draft202012Validator.check_schema(json.loads(schema()))


@pytest.mark.parametrize("name", SESSIONS)
def test_report_follows_the_schema_and_is_read_back(name: str) -> None:
    text = written(SESSIONS[name])
    jsonschema.validate(json.loads(text), json.loads(schema()))
    assert msgspec.json.decode(text, type=SessionReport) == SESSIONS[name]
    # In ASCII, nothing in it steers a terminal.
    assert text.isascii()
    assert all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 1),
        ("surprise", 1),
        ("gates/0/surprise", 1),
        ("gates/0/verdict", "MAYBE"),
        ("gates/0/limits/max_asr", 0.1),
        ("gates/0/counts/missing", -1),
        ("gates/0/rate/at_least", 1.5),
        ("gates/0/prompts/0/status", "fine"),
        ("gates/0/prompts/0/seed", "1"),
        ("unmeasured", [{"nodeid": "x"}]),
    ],
)
def test_schema_and_reader_refuse_anything_else(tmp_path: Path, path: str, value: object) -> None:
    content = json.loads(written(SESSIONS["every verdict"]))
    *folders, last = path.split("/")
    part: Any = content
    for folder in folders:
        part = part[int(folder) if folder.isdigit() else folder]
    part[last] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json.loads(schema()))
    file = tmp_path / "report.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ReportError, match=r"report\.json cannot be read as a JSON report of version 3"):
        read_session(file)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, "\x00"])
def test_file_that_is_no_report_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(text)
    with pytest.raises(ReportError, match=r"report\.json cannot be read .* Write one with --unlearndiff-report=json"):
        read_session(file)


def test_gate_in_json() -> None:
    (gate,) = json.loads(written(session(record("gbre-"))))["gates"]
    assert gate["counts"] == {
        "total": 5, "attackable": None, "hits_without_attack": 1, "hits_under_attack": 1, "resisted": 1, "blocked": 0,
        "error": 1, "missing": 1,
    }  # fmt: skip
    rates = gate["rate"], gate["rate_without_attack"]
    assert [(rate["at_least"], rate["at_most"]) for rate in rates] == [(0.4, 0.8), (0.2, 0.6)]
    assert (gate["verdict"], gate["expects"], gate["retention_gated"]) == ("FAIL", "gone", False)
    assert gate["limits"]["max_asr"] == "1/10"


def test_volatile_facts_stand_under_run() -> None:
    """The same outcomes, attacked now or found in the store, differ nowhere else."""
    first = session(
        record("gbr", "b", fresh=3, seconds=9.0, computed=70, victim="/a/x.pt"), record("rr", "a"), created="2026"
    )
    later = session(record("rr", "a", provenance={"format": "LoRA"}), record("gbr", "b"), created="2027")
    contents = [json.loads(written(report)) for report in (first, later)]
    for content in contents:
        del content["run"]
        for gate in content["gates"]:
            del gate["run"]
    assert contents[0] == contents[1]


def test_gates_are_sorted_and_know_whether_retention_is_gated() -> None:
    gates = [record("r", "z", fingerprint="ab"), record("r", "a", fingerprint="cd")]
    report = session(*gates, retained("gg", "gg", fingerprint="ab"))
    assert [gate.concept for gate in report.gates] == ["a", "dog", "z"]
    assert [gate.retention_gated for gate in report.gates] == [False, None, True]
    assert [gate.retention_gated for gate in with_retention(gates)] == [False, False]
    assert [gate.concept for gate in report.worst_first] == ["a", "dog", "z"]


@pytest.mark.parametrize(
    ("report", "headline"),
    [
        (SESSIONS["empty"], "No gate was measured"),
        (session(record("r" * 10)), "1 of 1 gate passed"),
        (session(record("bb"), retained("gg", "gg")), "1 of 2 gates did not pass"),
        (session(retained("rr", "gg")), "1 of 1 gate did not pass"),
        (session(record("bb"), EXPECTED), "2 of 2 gates did not pass (1 expected)"),
        (SESSIONS["skipped"], "No gate was measured, 1 not measured"),
    ],
)
def test_headline(report: SessionReport, headline: str) -> None:
    assert report.headline == headline


def test_store_keeps_the_last_session(tmp_path: Path) -> None:
    LastSession(tmp_path / "none").keep(written(session()))
    assert not (tmp_path / "none").exists()
    with pytest.raises(StoreError, match="run pytest with this store first"):
        read_session(tmp_path)
    for report in (session(record("gb"), record("r", "tench")), session(record("rr"))):
        LastSession(tmp_path).keep(written(report))
        assert read_session(tmp_path) == report
    whole = LastSession(tmp_path).path.read_text()
    LastSession(tmp_path).path.write_text(whole[:100])
    with pytest.raises(ReportError, match=r"session\.json cannot be read .*Run pytest with this store again"):
        read_session(tmp_path)


def test_session_that_has_not_ended_is_named(tmp_path: Path) -> None:
    assert unfinished(tmp_path) == ""
    assert LastSession(tmp_path).begin("one")
    assert "has not ended" in unfinished(tmp_path)
    LastSession(tmp_path).keep(written(session()), "another")
    assert "has not ended" in unfinished(tmp_path)
    LastSession(tmp_path).keep(written(session()), "one")
    assert unfinished(tmp_path) == ""


def test_report_is_the_snapshot() -> None:
    """If a change is meant: write ``written(SNAPSHOT)`` to report.json."""
    assert written(SNAPSHOT) == (Path(__file__).parent / "report.json").read_text(encoding="utf-8")


fast = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
)


def assert_report_or_one_error(path: Path) -> None:
    message = path.name
    try:
        assert isinstance(read_session(path), SessionReport)
    except ReportError as error:
        message = str(error)
    assert path.name in message


@fast
@given(st.binary(max_size=100) | values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_report_or_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    assert_report_or_one_error(path)


@fast
@given(st.sampled_from(["format", "version", "gates", "nodeid", "prompts", "text"]), values)
def test_any_value_in_a_report_is_a_report_or_one_error(tmp_path: Path, name: str, value: Any) -> None:
    path = tmp_path / "report.json"
    report = json.loads(json_report(session(record("gbr")), ReportOptions()))
    gate = report["gates"][0]
    next(part for part in (report, gate, gate["prompts"][0]) if name in part)[name] = value
    path.write_text(json.dumps(report), encoding="utf-8")
    assert_report_or_one_error(path)
