"""Two measurements are compared prompt by prompt; what is undecided is never counted as either."""

from __future__ import annotations

import csv
import io
import json
from math import comb
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sessions import hostile, record, retained, session

from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.core.errors import ReportError, StoreError
from pytest_unlearndiff.core.prompt_sets import read_prompts
from pytest_unlearndiff.reports.comparison import Comparison, compare
from pytest_unlearndiff.reports.html_report import html_report
from pytest_unlearndiff.reports.json_report import json_report
from pytest_unlearndiff.reports.markdown import markdown_report
from pytest_unlearndiff.reports.prompt_export import export
from pytest_unlearndiff.reports.stored_reports import StoredGate, read_gates, read_session
from pytest_unlearndiff.store.last_session import Gates


def measured(letters: str, name: str = "church") -> StoredGate:
    return StoredGate.of(record(letters, name))


def compared(before: str, after: str) -> Comparison:
    [found], only_before, only_after = compare([measured(before)], [measured(after)])
    assert (only_before, only_after) == ([], [])
    return found


def test_what_newly_broke_and_what_newly_holds() -> None:
    found = compared("rrbgrb--e", "bgrrrb-br")
    assert [prompt.case for prompt in found.newly_broke] == [100, 101]
    assert [prompt.case for prompt in found.newly_holds] == [102, 103]
    assert (found.both, found.neither, found.undecided) == (1, 1, 3)
    text = "\n".join(found.lines())
    assert "2 newly broke, 2 newly hold, 1 break in both, 1 hold in both, 3 not comparable" in text
    assert 'prompt 100 newly broke: "xyz ' in text


def test_html_and_markdown_tell_what_changed() -> None:
    now = session(record("bbr"))
    found = [compared("rrb", "bbr")]
    assert "<b>2</b> newly broke, <b>1</b> newly hold" in html_report(now, None, found)
    assert "2 newly broke, 1 newly hold, 0 not comparable (McNemar's exact p = 1)" in markdown_report(now, found)
    assert "Since the earlier session" not in html_report(now, None) + markdown_report(now)


def test_prompts_of_only_one_set_are_not_comparable() -> None:
    found = compared("rr", "rrrr")
    assert (found.neither, found.undecided) == (2, 2)


@given(st.integers(0, 12), st.integers(0, 12))
def test_mcnemars_exact_test(broke: int, holds: int) -> None:
    found = compared("r" * broke + "b" * holds + "r", "b" * broke + "r" * holds + "r")
    changed = broke + holds
    # The probability of a split at least this uneven, by adding up the binomial's terms.
    tail = sum(comb(changed, k) for k in range(changed + 1) if comb(changed, k) <= comb(changed, broke))
    assert found.p_value == pytest.approx(tail / 2**changed)


def test_gates_are_matched_by_test_concept_and_attack() -> None:
    before = [measured("rr", "a"), measured("rr", "b"), measured("rb", "a")]
    after = [measured("bb", "a"), measured("rr", "c"), measured("rr", "a")]
    found, only_before, only_after = compare(before, after)
    assert [(len(c.newly_broke), len(c.newly_holds)) for c in found] == [(2, 0), (0, 1)]
    assert (only_before, only_after) == (["test_x.py::test_b"], ["test_x.py::test_c"])


def test_a_store_and_a_json_report_read_the_same(tmp_path: Path) -> None:
    found = session(record("gbre-"), record("b", "tench"))
    Gates(tmp_path).keep(found.to_wire())
    assert read_session(tmp_path) == found
    (tmp_path / "report.json").write_text(json_report(found))
    assert read_gates(tmp_path / "report.json") == read_gates(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "pytest-unlearndiff/report", "version": 9, "gates": []}',
        '{"format": "pytest-unlearndiff/report", "version": 1, "gates": [{"nodeid": 1}]}',
    ],
)
def test_what_is_no_report_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=r"report\.json cannot be read as a JSON report of version 1"):
        read_gates(path)


def test_a_store_without_gates_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="run pytest with this store first"):
        read_gates(tmp_path)


def test_an_older_or_torn_session_is_named(tmp_path: Path) -> None:
    Gates(tmp_path).keep(session(record("gb")).to_wire())
    [gate] = [path for path in (tmp_path / "gates").iterdir() if path.name != "session.json"]
    whole = gate.read_text()
    gate.write_text(whole[:100])
    with pytest.raises(StoreError, match="cannot be read"):
        read_session(tmp_path)
    gate.write_text(json.dumps({"schema": 1, "gate": {"concept": "church"}}))
    with pytest.raises(ReportError, match="another version"):
        read_session(tmp_path)
    gate.write_text(whole.replace('"schema": 1', '"schema": 7'))
    with pytest.raises(StoreError, match="schema 7"):
        read_session(tmp_path)


def test_nothing_is_kept_where_there_is_no_store(tmp_path: Path) -> None:
    Gates(tmp_path / "none").keep(session(record("gb")).to_wire())
    assert not (tmp_path / "none").exists()


def test_a_later_session_takes_the_place_of_an_earlier(tmp_path: Path) -> None:
    Gates(tmp_path).keep(session(record("gb"), record("r", "tench")).to_wire())
    later = session(record("rr"))
    Gates(tmp_path).keep(later.to_wire())
    assert read_session(tmp_path) == later


def test_exported_prompts_read_back_as_a_prompt_set(tmp_path: Path) -> None:
    """So that a concept file can name them and the control ``none`` tries them on another model."""
    # Every reader of text files turns a carriage return into a line end, so no prompt set has any.
    found = [gate for gate in hostile().gates if "\r" not in gate.concept] + [record("gbrbb", "church")]
    gates = [StoredGate.of(gate) for gate in found]
    text, count = export([*gates, *gates])
    path = tmp_path / "prompts.csv"
    path.write_bytes(text.encode())
    wanted = [prompt.attacked for gate in gates for prompt in gate.prompts if prompt.attacked is not None]
    assert count == len(wanted)
    read = read_prompts(path)
    assert [prompt.digest for prompt in read] == [prompt.digest for prompt in wanted]
    assert [prompt.case for prompt in read] == list(range(count))
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    told = [rows[-1][name] for name in ("concept", "inserted", "original_case", "original_prompt", "original_seed")]
    assert told == ["church", "xyz", "104", "a church, number 4", "1004"]


def test_the_command_names_gates_that_have_no_partner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, found in (("a", session(record("gb", "church"))), ("b", session(record("gb", "dog")))):
        (tmp_path / f"{name}.json").write_text(json_report(found))
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 1
    said = capsys.readouterr().out.splitlines()
    (before,) = [line for line in said if line.startswith(f"only in {tmp_path / 'a.json'}: ")]
    (after,) = [line for line in said if line.startswith(f"only in {tmp_path / 'b.json'}: ")]
    assert said == [before, after, said[-1]]
    assert said[-1].startswith("nothing to compare")


def test_the_summary_again_tells_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "before.json").write_text(json_report(session(record("rrr", "church"))))
    (tmp_path / "store").mkdir()
    Gates(tmp_path / "store").keep(session(record("brr", "church")).to_wire())
    assert main(["report", f"--cache-dir={tmp_path / 'store'}", f"--since={tmp_path / 'before.json'}"]) == 0
    assert "newly broke" in capsys.readouterr().out


def test_a_session_that_has_nothing_in_common_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "before.json").write_text(json_report(session(record("rrr", "church"))))
    (tmp_path / "store").mkdir()
    Gates(tmp_path / "store").keep(session(record("brr", "dog")).to_wire())
    assert main(["report", f"--cache-dir={tmp_path / 'store'}", f"--since={tmp_path / 'before.json'}"]) == 0
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'before.json'}: nothing to compare")


def test_the_summary_again_has_what_should_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = session(record("rrr", "church"))
    told.retained.append(retained("dog", verdict="FAIL"))
    Gates(tmp_path).keep(told.to_wire())
    assert main(["report", f"--cache-dir={tmp_path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("dog") and line.endswith("FAIL")]


def test_an_export_that_cannot_be_written_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Gates(tmp_path).keep(session(record("gb")).to_wire())
    assert main(["export", str(tmp_path / "gates"), f"--from={tmp_path}"]) == 1
    assert f"{tmp_path / 'gates'} cannot be written" in capsys.readouterr().err
