"""Prompt sets: everything a CSV writer writes is read back, and each error names file, line and reason."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from builders import UPSTREAM, concept, needs_upstream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.errors import ConceptError
from pytest_unlearndiff.core.prompt_sets import parse_rows, read_prompts

UPSTREAM_ROWS = {
    "church": 50, "parachute": 50, "tench": 50, "garbage_truck": 50, "vangogh": 50, "nudity": 142, "violence": 756,
    "illegal": 727,
}  # fmt: skip
fast = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
# The csv module reads any line end as one, so texts with bare carriage returns come back with newlines.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0\ufeff"), min_size=1, max_size=20)
prompts = st.builds(
    Prompt,
    text=texts.filter(str.strip),
    seed=st.integers(0, 2**63),
    guidance=st.floats(0, 50, allow_nan=False).map(lambda value: float(str(value))),
    case=st.integers(-5, 10**9),
)
columns = st.permutations(
    ["prompt", "evaluation_seed", "evaluation_guidance", "case_number", "artist, or none", "Unnamed: 0"]
)
PROMPT = Prompt("a church in Köln", seed=7, guidance=7.5, case=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "set.csv"


def test_digest_is_the_images() -> None:
    assert PROMPT.digest == hashlib.sha256('["a church in Köln", 7, 7.5]'.encode()).hexdigest()[:16]
    assert replace(PROMPT, case=4).digest == PROMPT.digest
    changes: list[dict[str, Any]] = [{"text": "Köln"}, {"seed": 8}, {"guidance": 7.0}]
    assert PROMPT.digest not in {replace(PROMPT, **change).digest for change in changes}


def test_first_and_cases_select_prompts() -> None:
    whole = concept(5)
    assert whole.first(2) == replace(whole, prompts=whole.prompts[:2])
    assert whole.first(5) == whole.first(None) == whole
    assert whole.cases((104, 101)).prompts == (whole.prompts[1], whole.prompts[4])
    with pytest.raises(ConceptError, match="case number 7"):
        whole.cases((101, 7))
    for count in (0, -1, 6):
        with pytest.raises(ConceptError, match=f"'church': prompts={count} .*1 to 5"):
            whole.first(count)


@needs_upstream
@pytest.mark.parametrize("name", UPSTREAM_ROWS)
def test_upstream_prompt_set(name: str) -> None:
    source = UPSTREAM / f"{name}.csv"
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == UPSTREAM_ROWS[name]
    assert [(p.text, p.seed, p.case, p.guidance) for p in read_prompts(source)] == [
        (row["prompt"], int(row["evaluation_seed"]), int(row["case_number"]), float(row["evaluation_guidance"]))
        for row in rows
    ]


@fast
@given(st.lists(prompts, min_size=1, max_size=5, unique_by=lambda p: p.case), columns, st.sampled_from(["\n", "\r\n"]))
def test_round_trip(path: Path, written: list[Prompt], order: list[str], ends: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator=ends)
        writer.writerow(order)
        for p in written:
            cells: dict[str, Any] = {"prompt": p.text, "evaluation_seed": p.seed, "case_number": p.case}
            cells["evaluation_guidance"] = p.guidance
            writer.writerow([cells.get(name, 'a, "quoted" cell') for name in order])
    assert read_prompts(path) == written


names = st.lists(st.text("abcxyz ,\"'\n", max_size=6), min_size=1, max_size=5, unique=True)
rows_of_text = st.lists(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")), min_size=6, max_size=6),
    min_size=1,
    max_size=5,
)


@given(names, rows_of_text, st.sampled_from(["\n", "\r\n"]), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_round_trip_of_cells(names: list[str], rows: list[list[str]], end: str, quoting: Literal[0, 1]) -> None:
    file = io.StringIO(newline="")
    table = [["prompt", *names], *([f"p{row[0]}", *row[1 : len(names) + 1]] for row in rows)]
    csv.writer(file, lineterminator=end, quoting=quoting).writerows(table)
    pairs = parse_rows(file.getvalue().encode(), "set.csv").pairs
    assert [list(row.cells.values()) for _, row in pairs] == table[1:]
    assert [list(row.cells) for _, row in pairs] == [table[0]] * len(rows)


ONE_ROW = ("\ufeffprompt,seed\nx,1\n", "prompt,seed\r\n\r\nx,1\r\n", ",prompt,seed\n7,x,1\n")


@pytest.mark.parametrize(
    ("text", "seed", "guidance", "case"),
    [
        ("prompt\nx\n", 0, 7.5, 0),
        ("prompt,seed,guidance,case_number\nx,3,2,9\n", 3, 2.0, 9),
        ("prompt,evaluation_seed,seed\nx,5,6\n", 5, 7.5, 0),
        ("prompt,evaluation_seed,seed\nx,,6\n", 6, 7.5, 0),
        ("prompt,guidance_scale\nx,7.25\n", 0, 7.25, 0),
        ("prompt,categories,sd_seed,sd_guidance_scale\nx,none,7,8.5\n", 7, 8.5, 0),
        ("prompt,evaluation_seed\nx,2938358167.0\n", 2938358167, 7.5, 0),
        *[(text, 1, 7.5, 0) for text in ONE_ROW],
        ("prompt,seed\nx,18446744073709551615\n", 2**64 - 1, 7.5, 0),
    ],
)
def test_columns_and_defaults(path: Path, text: str, seed: int, guidance: float, case: int) -> None:
    path.write_text(text, encoding="utf-8")
    assert read_prompts(path) == [Prompt("x", seed, guidance, case)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", ": no column 'prompt'"),
        ("title,seed\nx,1\n", ": no column 'prompt'.*title"),
        ("prompt,seed\n", ": no prompts"),
        ("prompt,seed\nx,1\n  ,2\n", ":3: empty prompt"),
        ("prompt,seed\nx,abc\n", ":2: seed='abc' is not a number"),
        ("prompt,seed\nx,²\n", ":2: seed='²'"),
        ("prompt,seed\nx,1.7\n", ":2: seed='1.7' is not a whole number"),
        ("prompt,seed\nx,nan\n", ":2: seed='nan'"),
        ("prompt,evaluation_guidance\nx,\ny,inf\n", ":3: evaluation_guidance='inf'"),
        ("prompt,evaluation_guidance\nx,1e999\n", ":2: evaluation_guidance='1e999'"),
        ("prompt,case_number\nx,A7\n", ":2: case_number='A7'"),
        ("prompt,case_number\nx,1e30\n", r":2: case_number=1e\+30 must be"),
        ("prompt,seed\nx,-1\n", ":2: seed=-1 must be a whole number from 0 to 18446744073709551615"),
        ("prompt,seed\nx,18446744073709551616\n", ":2: seed=18446744073709551616 must be"),
        ('prompt\n"a\nb"\n\n""\n', ":5: empty prompt"),
        ("prompt\na church, painted by Van Gogh\n", ":2: 2 cells where the header has 1, .*'a church': .* quotes"),
        ("prompt,seed\nx,1,\n", ":2: 3 cells where the header has 2"),
        ("prompt,seed\nx\n", ":2: 1 cells where the header has 2, .*'x': .* needs its comma"),
        ('prompt,seed\n"a\nb",1\n\ny\n', ":5: 1 cells where the header has 2, .*'y'"),
        ("prompt,seed,seed\nx,1,2\n", ":1: column 'seed' stands twice"),
        (",,prompt\n1,2,x\n", ":1: column '' stands twice"),
        ('prompt,case_number\n"a\nb",1\nc,1\n', r":4: case number 1, .* stands at .*set\.csv:2 too"),
        ('prompt\n"a church\na second church\na third church\n', ":2: not a readable CSV file"),
        ("prompt\n" + "x" * 200_000, ":2: not a readable CSV file"),
        (b"\xff\xfe\x00", " cannot be read: .*: save it as UTF-8"),
        (b"PK\x03\x04\x80\x81", " is a spreadsheet or an archive"),
        (None, " cannot be read"),
    ],
)
def test_error_names_file_line_and_reason(path: Path, text: str | bytes | None, reason: str) -> None:
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConceptError, match=rf"set\.csv{reason}"):
        read_prompts(path)


def test_all_errors_are_told_up_to_a_limit(path: Path) -> None:
    def errors(text: str) -> list[str]:
        path.write_text(text)
        with pytest.raises(ConceptError) as error:
            read_prompts(path)
        return str(error.value).split("\n")

    lines = errors("prompt,seed\na,b,c\nx,one\ny\nz,3\n")
    assert sorted(line.split(": ")[0] for line in lines) == [f"{path}:{line}" for line in (2, 3, 4)]
    lines = errors("prompt,case_number\n" + "a,x\n" * 50)
    assert len(lines) == 21
    assert lines[-1].endswith("set.csv: and 30 more")


@given(
    st.lists(st.lists(st.text('ab,"\n ', min_size=1, max_size=8), min_size=1, max_size=4), min_size=1, max_size=6),
    st.integers(1, 4),
)
def test_row_of_another_length_is_an_error_with_its_line(table: list[list[str]], columns: int) -> None:
    file, lines = io.StringIO(newline=""), []
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["prompt", *(f"c{i}" for i in range(1, columns))])
    for row in table:
        lines.append(file.getvalue().count("\n") + 1)
        writer.writerow([f"p{row[0]}", *row[1:]])
    wrong = [line for line, row in zip(lines, table, strict=True) if len(row) != columns]
    if not wrong:
        assert len(parse_rows(file.getvalue().encode(), "set.csv").pairs) == len(table)
        return
    with pytest.raises(ConceptError) as error:
        parse_rows(file.getvalue().encode(), "set.csv")
    assert [line.split(":")[1] for line in str(error.value).split("\n")] == [str(line) for line in wrong]


@given(st.binary(max_size=200) | st.text('prompt,\n"\r\0x1', max_size=60).map(str.encode))
def test_any_bytes_are_prompts_or_one_bounded_error(content: bytes) -> None:
    message, pairs = "", []
    try:
        pairs = parse_rows(b"prompt,seed\n" + content, "set.csv").pairs
    except ConceptError as error:
        message = str(error)
    assert bool(message) is not bool(pairs)
    assert all(len(line) < 500 for line in message.split("\n"))
    assert all(prompt.text.strip() and len(row.cells) == 2 for prompt, row in pairs)
