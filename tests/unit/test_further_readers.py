"""Gate files, JSON reports and Q16's vectors: whatever is in them, what was meant or one error that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sessions import record, session

from pytest_unlearndiff.core.errors import ErrorCollector, JudgeError, ReportError
from pytest_unlearndiff.judges.q16 import _vectors
from pytest_unlearndiff.plugin.gate_files import FileGate, read_gates
from pytest_unlearndiff.reports.session_report import ReportOptions, SessionReport, json_report
from pytest_unlearndiff.reports.session_report import read_session as read_report

fast = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
printable = texts.filter(str.isprintable)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
)


def outcome(read: Any, error: type[Exception]) -> tuple[Any, str]:
    """What is read, or None and what the one error says."""
    try:
        return read(), ""
    except error as found:
        return None, str(found)


@fast
@given(st.binary(max_size=120) | texts.map(lambda text: f"gates:\n  {text}".encode()))
def test_any_bytes_are_gates_or_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "release.unlearndiff.yaml"
    path.write_bytes(content)
    found = read_gates(path, mistakes := ErrorCollector())
    assert found or mistakes, "a file that gates nothing is a mistake"
    assert all(path.name in said for said in mistakes)
    assert all(isinstance(gate, FileGate) for gate in found)


@fast
@given(st.dictionaries(st.sampled_from(["gates", "retains", "model", "base", "gate"]), values, max_size=4))
def test_any_mapping_is_gates_or_one_error(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "release.unlearndiff.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    found = read_gates(path, mistakes := ErrorCollector())
    assert found or mistakes, "a file that gates nothing is a mistake"
    assert all(path.name in said for said in mistakes)
    assert all(isinstance(gate, FileGate) for gate in found)


@fast
@given(
    st.dictionaries(
        printable.filter(bool),
        st.dictionaries(st.sampled_from(["max_asr", "prompts", "concept"]), printable | st.integers(), max_size=2),
        min_size=1,
        max_size=3,
    )
)
def test_every_gate_comes_back_with_its_line(tmp_path: Path, gates: dict[str, dict[str, Any]]) -> None:
    path = tmp_path / "release.unlearndiff.yaml"
    written = {json.dumps(name, ensure_ascii=False): json.dumps(k, ensure_ascii=False) for name, k in gates.items()}
    lines = [f"  {name}: {keywords}" for name, keywords in written.items()]
    path.write_text("\n".join(["gates:", *lines]) + "\n", encoding="utf-8")
    found = read_gates(path, mistakes := ErrorCollector())
    assert not mistakes
    assert [(gate.name, gate.line) for gate in found] == [(name, i) for i, name in enumerate(gates, start=2)]
    assert [gate.keywords for gate in found] == [{"concept": name, **keywords} for name, keywords in gates.items()]


@fast
@given(st.binary(max_size=100) | values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_report_or_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    found, said = outcome(lambda: read_report(path), ReportError)
    assert path.name in said if found is None else isinstance(found, SessionReport)


@fast
@given(st.sampled_from(["format", "version", "gates", "nodeid", "prompts", "text"]), values)
def test_any_value_in_a_report_is_a_report_or_one_error(tmp_path: Path, name: str, value: Any) -> None:
    path = tmp_path / "report.json"
    report = json.loads(json_report(session(record("gbr")), ReportOptions()))
    gate = report["gates"][0]
    place = next(part for part in (report, gate, gate["prompts"][0]) if name in part)
    place[name] = value
    path.write_text(json.dumps(report), encoding="utf-8")
    found, said = outcome(lambda: read_report(path), ReportError)
    assert path.name in said if found is None else isinstance(found, SessionReport)


@fast
@given(st.sampled_from(["npz", "npy", "safetensors"]), st.binary(max_size=100))
def test_any_bytes_are_vectors_or_one_error(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"q16.{ending}"
    path.write_bytes(content)
    found, said = outcome(lambda: _vectors(path), JudgeError)
    assert found is None
    assert path.name in said


@pytest.mark.parametrize("shape", [(2, 4), (3, 4), (2,), (2, 0), (2, 2, 2)])
def test_only_two_vectors_are_two_vectors(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.savez(tmp_path / "q16.npz", np.ones(shape, dtype=np.float32))
    found, said = outcome(lambda: _vectors(tmp_path / "q16.npz"), JudgeError)
    if shape == (2, 4):
        assert found.shape == shape
    else:
        assert "q16.npz" in said
