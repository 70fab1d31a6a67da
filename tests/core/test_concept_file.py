"""Concept files and prompt sets: what is read, and that each mistake is one error naming the file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Literal

import pytest
from builders import UPSTREAM, needs_upstream
from hypothesis import given
from hypothesis import strategies as st

from pytest_unlearndiff.core.concept import JudgeConfig, Prompt, Sampling
from pytest_unlearndiff.core.concept_file import ConceptLibrary, read_concept
from pytest_unlearndiff.core.errors import ConceptError
from pytest_unlearndiff.core.prompt_sets import parse_rows, read_prompts

ROWS = {
    "church": 50,
    "parachute": 50,
    "tench": 50,
    "garbage_truck": 50,
    "vangogh": 50,
    "nudity": 142,
    "violence": 756,
    "illegal": 727,
}
JUDGE = "judge: {kind: image-classifier, model: org/name, label: church}\n"


def write_csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def write_yaml(folder: Path, text: str, name: str = "church.yaml") -> Path:
    write_csv(folder / "church.csv", "prompt\na church\n")
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@needs_upstream
@pytest.mark.parametrize("name", ROWS)
def test_upstreams_prompt_sets_are_read_whole(name: str) -> None:
    path = UPSTREAM / f"{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    prompts = read_prompts(path)
    assert len(prompts) == len(rows) == ROWS[name]
    for prompt, row in zip(prompts, rows, strict=True):
        assert prompt.text == row["prompt"]
        assert (prompt.seed, prompt.case) == (int(row["evaluation_seed"]), int(row["case_number"]))
        assert prompt.guidance == float(row["evaluation_guidance"])


# The csv module reads any line end as one, so prompts with bare carriage returns come back with newlines.
cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0\ufeff"), min_size=1, max_size=30)


@given(st.lists(cells.filter(str.strip), min_size=1, max_size=6))
def test_any_text_is_a_prompt_commas_quotes_and_newlines_included(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[str]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "prompts.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["case_number", "prompt"], *([i, text] for i, text in enumerate(wanted))])
    assert [prompt.text for prompt in read_prompts(path)] == wanted


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("prompt\nx\n", Prompt("x", seed=0, guidance=7.5, case=0)),
        ("prompt,seed,guidance,case_number\nx,3,2,9\n", Prompt("x", seed=3, guidance=2.0, case=9)),
        ("prompt,evaluation_seed,seed\nx,5,6\n", Prompt("x", seed=5, guidance=7.5, case=0)),
        ("prompt,evaluation_seed,seed\nx,,6\n", Prompt("x", seed=6, guidance=7.5, case=0)),
        ("prompt,guidance_scale\nx,7.25\n", Prompt("x", seed=0, guidance=7.25, case=0)),
        ("prompt,evaluation_seed\nx,2938358167.0\n", Prompt("x", seed=2938358167, guidance=7.5, case=0)),
        ("colour,prompt\nblue,x\n", Prompt("x", seed=0, guidance=7.5, case=0)),
        ("\ufeffprompt,seed\nx,1\n", Prompt("x", seed=1, guidance=7.5, case=0)),
        ("prompt,seed\r\nx,1\r\n", Prompt("x", seed=1, guidance=7.5, case=0)),
        ("prompt,seed\n\nx,1\n\n", Prompt("x", seed=1, guidance=7.5, case=0)),
        (",prompt,seed\n7,x,1\n", Prompt("x", seed=1, guidance=7.5, case=0)),
        ("Unnamed: 0,prompt,seed\n7,x,1\n", Prompt("x", seed=1, guidance=7.5, case=0)),
        ("prompt,seed\nx,18446744073709551615\n", Prompt("x", seed=2**64 - 1, guidance=7.5, case=0)),
    ],
)
def test_columns_and_their_defaults(tmp_path: Path, text: str, prompt: Prompt) -> None:
    assert read_prompts(write_csv(tmp_path / "p.csv", text)) == [prompt]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column 'prompt'"),
        ("text,seed\nx,1\n", "no column 'prompt'.*text"),
        ("prompt,seed\n", "no prompts"),
        ("prompt,seed\nx,1\n,2\n", ":3: empty prompt"),
        ("prompt,seed\n  ,1\n", ":2: empty prompt"),
        ("seed,prompt\n1,\n", ":2: empty prompt"),
        ("prompt,seed\nx,abc\n", ":2: seed='abc'"),
        ("prompt,seed\nx,²\n", ":2: seed='²'"),
        ("prompt,seed\nx,--1\n", ":2: seed='--1'"),
        ("prompt,evaluation_guidance\nx,\ny,high\n", ":3: evaluation_guidance='high'"),
        ("prompt,case_number\nx,A7\n", ":2: case_number='A7'"),
        ("prompt,seed\nx,-1\n", ":2: seed=-1 must be a whole number from 0 to 18446744073709551615"),
        ("prompt,seed\nx,18446744073709551616\n", ":2: seed=18446744073709551616 must be"),
        ("prompt,seed\nx,1e300\n", r":2: seed=1e\+300 must be"),
        ("prompt,case_number\nx,1e30\n", r":2: case_number=1e\+30 must be"),
        ('prompt\n"a\nb"\n\n""\n', ":5: empty prompt"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path: Path, text: str, says: str) -> None:
    path = write_csv(tmp_path / "set.csv", text)
    with pytest.raises(ConceptError, match=f"set.csv.*{says}"):
        read_prompts(path)


MISFITS = [
    ("prompt\na church, painted by Van Gogh\n", ":2: 2 cells where the header has 1, .*'a church': .* needs quotes"),
    ("prompt,seed\nx,1\ny,2,3\n", ":3: 3 cells where the header has 2, .*'y': .* needs quotes"),
    ("prompt,seed\nx,1,\n", ":2: 3 cells where the header has 2"),
    ("prompt,seed\nx\n", ":2: 1 cells where the header has 2, .*'x': .* needs its comma"),
    ("seed,prompt\n1\n", ":2: 1 cells where the header has 2"),
    ("prompt,seed\n  \n", ":2: 1 cells where the header has 2"),
    ('prompt,seed\n"a\nb",1\n\ny\n', ":5: 1 cells where the header has 2, .*'y'"),
    ("prompt,prompt\nx,y\n", ":1: column 'prompt' stands twice"),
    ("prompt,seed,seed\nx,1,2\n", ":1: column 'seed' stands twice"),
    (",,prompt\n1,2,x\n", ":1: column '' stands twice"),
]


@pytest.mark.parametrize(("text", "says"), MISFITS)
def test_a_row_that_does_not_fit_the_header_is_told_and_never_cut(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConceptError, match=f"set.csv{says}"):
        read_prompts(write_csv(tmp_path / "set.csv", text))


def test_every_row_that_does_not_fit_is_told_beside_other_mistakes(tmp_path: Path) -> None:
    text = "prompt,seed\na,b,c\nx,one\ny\nz,3\n"
    with pytest.raises(ConceptError) as caught:
        read_prompts(write_csv(tmp_path / "set.csv", text))
    lines = [line.split(": ")[0] for line in str(caught.value).split("\n")]
    assert sorted(lines) == [f"{tmp_path}/set.csv:{line}" for line in (2, 3, 4)]


@pytest.mark.parametrize("fault", ["more", "fewer", "twice"])
@pytest.mark.parametrize("where", ["file", "url", "targets"])
def test_concepts_refuse_such_rows_wherever_they_come_from(tmp_path: Path, fault: str, where: str) -> None:
    head = "prompt,image,image" if fault == "twice" else "prompt,image"
    content = f"{head}\n" + {"more": "a,b,c.png", "fewer": "a", "twice": "a,b.png,c.png"}[fault] + "\n"
    write_yaml(tmp_path, {"url": "prompts: https://host/church.csv\n"}.get(where, "prompts: church.csv\n") + JUDGE)
    write_csv(tmp_path / "church.csv", content)
    if where == "targets":
        write_csv(tmp_path / "church.yaml", "prompts: church.csv\ntargets: {column: image}\n" + JUDGE)
    with pytest.raises(ConceptError, match=r"church\.csv:[12]: "):
        read_concept(tmp_path / "church.yaml", fetch=lambda url, sha256: content.encode())


names = st.lists(st.text("abcxyz ,\"'\n", max_size=6), min_size=1, max_size=5, unique=True).filter(
    lambda names: not {"prompt", "seed", "evaluation_seed", "case_number", "guidance"} & set(names)
)
rows_of_text = st.lists(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")), min_size=6, max_size=6),
    min_size=1,
    max_size=5,
)


@given(names, rows_of_text, st.sampled_from(["\n", "\r\n"]), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_what_a_csv_writer_writes_is_read_back_cell_by_cell(
    names: list[str], rows: list[list[str]], end: str, quoting: Literal[0, 1]
) -> None:
    file = io.StringIO(newline="")
    table = [["prompt", *names], *([f"p{row[0]}", *row[1 : len(names) + 1]] for row in rows)]
    csv.writer(file, lineterminator=end, quoting=quoting).writerows(table)
    read = parse_rows(file.getvalue().encode(), "set.csv")
    assert [list(row.cells.values()) for _, row in read] == table[1:]
    assert [list(row.cells) for _, row in read] == [table[0]] * len(rows)
    assert [prompt.text for prompt, _ in read] == [cells[0] for cells in table[1:]]


@given(
    st.lists(st.lists(st.text('ab,"\n ', min_size=1, max_size=8), min_size=1, max_size=4), min_size=1, max_size=6),
    st.integers(1, 4),
)
def test_every_row_of_another_length_is_an_error_with_its_line(table: list[list[str]], columns: int) -> None:
    header = ["prompt", *(f"c{i}" for i in range(1, columns))]
    file, lines = io.StringIO(newline=""), []
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for row in table:
        lines.append(file.getvalue().count("\n") + 1)
        writer.writerow([f"p{row[0]}", *row[1:]])
    wrong = [line for line, row in zip(lines, table, strict=True) if len(row) != columns]
    if not wrong:
        assert len(parse_rows(file.getvalue().encode(), "set.csv")) == len(table)
        return
    with pytest.raises(ConceptError) as caught:
        parse_rows(file.getvalue().encode(), "set.csv")
    assert [line.split(":")[1] for line in str(caught.value).split("\n")] == [str(line) for line in wrong]


@given(st.binary(max_size=200) | st.text('prompt,\n"\r\0x1', max_size=60).map(str.encode))
def test_no_bytes_are_more_than_one_bounded_error(content: bytes) -> None:
    said, read = "", []
    try:
        read = parse_rows(b"prompt,seed\n" + content, "set.csv")
    except ConceptError as error:
        said = str(error)
    assert bool(said) is not bool(read)
    assert all(len(line) < 500 for line in said.split("\n"))
    assert all(prompt.text.strip() and len(row.cells) == 2 for prompt, row in read)


@pytest.mark.parametrize("column", ["seed", "evaluation_guidance", "case_number"])
@pytest.mark.parametrize("cell", ["nan", "inf", "-inf", "1e999"])
def test_what_is_not_a_finite_number_is_no_number(tmp_path: Path, column: str, cell: str) -> None:
    path = write_csv(tmp_path / "set.csv", f"prompt,{column}\nx,{cell}\n")
    with pytest.raises(ConceptError, match=f"set.csv:2: {column}="):
        read_prompts(path)


@pytest.mark.parametrize("column", ["seed", "case_number"])
def test_a_whole_number_is_not_rounded_from_another(tmp_path: Path, column: str) -> None:
    path = write_csv(tmp_path / "set.csv", f"prompt,{column}\nx,1.7\n")
    with pytest.raises(ConceptError, match=f"set.csv:2: {column}="):
        read_prompts(path)


def test_an_unclosed_quote_does_not_swallow_the_prompts_behind_it(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "set.csv", 'prompt\n"a church\na second church\na third church\n')
    with pytest.raises(ConceptError, match=r"set\.csv"):
        read_prompts(path)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"PK\x03\x04\x80\x81", b"[" + b"1" * 200_000 + b"]", b"prompt\n" + b"x" * 200_000],
    ids=["utf-16", "zip", "one long line", "one long cell"],
)
def test_a_file_that_is_no_csv_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.csv").write_bytes(content)
    with pytest.raises(ConceptError, match=r"set\.csv"):
        read_prompts(tmp_path / "set.csv")


def test_a_missing_prompt_set_is_named(tmp_path: Path) -> None:
    path = write_yaml(tmp_path, "prompts: gone.csv\n" + JUDGE)
    with pytest.raises(ConceptError, match=r"gone\.csv"):
        read_concept(path)


def test_a_concept_with_everything(tmp_path: Path) -> None:
    (tmp_path / "classifier").mkdir()
    path = write_yaml(
        tmp_path,
        "name: kirche\nprompts: church.csv\nslots: 5\nsource: made up\nsampling: {steps: 12, scheduler: own}\n"
        "judge: {kind: image-classifier, model: classifier, label: church}\n",
    )
    read = read_concept(path)
    assert (read.name, read.slots, read.source) == ("kirche", 5, "made up")
    assert read.prompts == (Prompt("a church", 0, 7.5, 0),)
    assert read.sampling == Sampling(12, "own")
    assert read.judge == JudgeConfig("image-classifier", {"model": str(tmp_path / "classifier"), "label": "church"})


def test_a_concept_with_little(tmp_path: Path) -> None:
    read = read_concept(
        write_yaml(tmp_path, "prompts: church.csv\njudge: {kind: image-classifier, model: org/name, label: x}\n")
    )
    assert (read.name, read.slots, read.sampling) == ("church", 3, Sampling(50, "lms", "linspace"))
    assert read.judge.options["model"] == "org/name"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- church\n",
        "just text\n",
        "prompts: [unclosed\n",
        "prompts: church.csv\n",
        JUDGE,
        "prompts: church.csv\ncolour: blue\n" + JUDGE,
        "prompts: church.csv\njudge: image-classifier\n",
        "prompts: church.csv\njudge: {label: church}\n",
        "prompts: church.csv\njudge: {kind: 7}\n",
        "prompts: church.csv\nslots: 0\n" + JUDGE,
        "prompts: church.csv\nslots: three\n" + JUDGE,
        "prompts: church.csv\nslots: 2.5\n" + JUDGE,
        "prompts: church.csv\nslots: true\n" + JUDGE,
        "prompts: church.csv\nsampling: 50\n" + JUDGE,
        "prompts: church.csv\nsampling: {steps: 0}\n" + JUDGE,
        "prompts: church.csv\nsampling: {steps: true}\n" + JUDGE,
        "prompts: church.csv\nsampling: {scheduler: ddim}\n" + JUDGE,
        "prompts: church.csv\nsampling: {stepz: 5}\n" + JUDGE,
        "prompts: church.csv\nsampling: {spacing: 5}\n" + JUDGE,
        "prompts: church.csv\nsampling: {spacing: [linspace]}\n" + JUDGE,
        "prompts: church.csv\nsampling: {spacing: }\n" + JUDGE,
        "prompts: church.csv\nsampling: {scheduler: own, spacing: linspace}\n" + JUDGE,
        "prompts: church.csv\n!!python/object:os.system {}\n" + JUDGE,
        "prompts:\n" + JUDGE,
        "prompts: [a church, another church]\n" + JUDGE,
        "prompts: church.csv\nsource: 2024-13-45\n" + JUDGE,
    ],
)
def test_every_mistake_is_one_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    path = write_yaml(tmp_path, text)
    with pytest.raises(ConceptError, match=r"church\.yaml"):
        read_concept(path)


def test_an_empty_name_is_not_a_concept_called_none(tmp_path: Path) -> None:
    path = write_yaml(tmp_path, "name:\nprompts: church.csv\n" + JUDGE)
    assert read_concept(path).name == "church"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_an_unreadable_concept_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "church.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConceptError, match=r"church\.yaml"):
        read_concept(path)


def test_the_first_place_wins_and_a_place_may_be_a_file(tmp_path: Path) -> None:
    for place in ("first", "second"):
        (tmp_path / place).mkdir()
        write_yaml(tmp_path / place, f"source: {place}\nprompts: church.csv\n" + JUDGE)
    write_yaml(tmp_path / "second", "source: tench\nprompts: church.csv\n" + JUDGE, "tench.yaml")
    library = ConceptLibrary([tmp_path / "nowhere", tmp_path / "first", tmp_path / "second"])
    assert library.find("church").source == "first"
    assert library.find("tench").source == "tench"
    assert ConceptLibrary([tmp_path / "second" / "church.yaml"]).find("church").source == "second"


@pytest.mark.parametrize(
    ("asked", "says"), [("churhc", "did you mean 'church'"), ("zzz", "known: cassette_player, .*church")]
)
def test_an_unknown_name_gets_a_hint(tmp_path: Path, asked: str, says: str) -> None:
    write_yaml(tmp_path, "prompts: church.csv\n" + JUDGE)
    with pytest.raises(ConceptError, match=f"no concept '{asked}': {says}"):
        ConceptLibrary([tmp_path]).find(asked)


def test_a_broken_neighbour_does_not_hide_a_good_concept(tmp_path: Path) -> None:
    write_yaml(tmp_path, "prompts: church.csv\n" + JUDGE)
    write_yaml(tmp_path, "prompts: [unclosed\n", "broken.yaml")
    assert ConceptLibrary([tmp_path]).find("church").name == "church"


def test_every_mistake_of_a_concept_is_told_at_once(tmp_path: Path) -> None:
    rows = ["prompt,evaluation_seed,case_number", "a,one,1", "b,2,2", ",3,3", "c,4,2"]
    (tmp_path / "church.csv").write_text("\n".join(rows))
    (tmp_path / "church.yaml").write_text(
        "prompts: church.csv\n"
        "slot: 3\n"
        "slots: 0\n"
        "sampling: {steps: 0, scheduler: dpm, spacing: linspase, eta: 1}\n"
        "judge: {kind: image-classifier, model: nowhere, top: 0, threshhold: 1}\n"
    )
    with pytest.raises(ConceptError) as caught:
        read_concept(tmp_path / "church.yaml")
    lines = str(caught.value).split("\n")
    for said in (
        "church.yaml:2: a concept has no field 'slot'",
        "church.yaml:3: slots=0",
        "church.csv:2: evaluation_seed='one'",
        "church.csv:4: empty prompt",
        "church.csv:5: case number 2, by which reports and --unlearndiff-case-numbers name a prompt, stands at ",
        "has no option 'threshhold'",
        "judge image-classifier needs label",
        "model: there is nothing at",
        "top must be a whole number",
        "sampling has no field 'eta'",
        "steps=0 must be",
        "scheduler='dpm' must be",
        "spacing='linspase' is no spacing of timesteps: did you mean 'linspace'?",
    ):
        assert sum(said in line for line in lines) == 1, (said, lines)
    assert len(lines) == 13


def test_of_very_many_mistakes_in_a_prompt_set_the_first_are_told(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,case_number\n" + "a,x\n" * 50)
    with pytest.raises(ConceptError) as caught:
        read_prompts(tmp_path / "p.csv")
    lines = str(caught.value).split("\n")
    assert len(lines) == 21
    assert lines[-1].endswith("p.csv: and 30 more")
