"""Concept files: every value anywhere is a concept or one error that names file, line, reason and remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_unlearndiff.core.concept import Concept, JudgeConfig, Prompt, PromptSetFacts, Sampling
from pytest_unlearndiff.core.concept_file import ConceptLibrary, read_concept
from pytest_unlearndiff.core.errors import ConceptError
from pytest_unlearndiff.core.judge_options import problems
from pytest_unlearndiff.core.registry import registry
from pytest_unlearndiff.core.yaml_file import read_yaml
from pytest_unlearndiff.judges.options import labels_of

fast = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0\ufeff"), min_size=1, max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))

JUDGE = "judge: {kind: image-classifier, model: org/name, label: church}\n"


@pytest.fixture
def concept(tmp_path: Path) -> Path:
    (tmp_path / "church.csv").write_text("prompt\na church\n")
    return tmp_path / "church.yaml"


def write_yaml(folder: Path, text: str, name: str = "church.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "church.csv").write_text("prompt\na church\n")
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_all_fields(concept: Path) -> None:
    (concept.parent / "classifier").mkdir()
    concept.write_text(
        "name: kirche\nprompts: church.csv\nslots: 5\nsource: made up\nsampling: {steps: 12, scheduler: own}\n"
        "judge: {kind: image-classifier, model: classifier, label: church}\n"
    )
    judge = JudgeConfig("image-classifier", {"model": str(concept.parent / "classifier"), "label": "church"})
    prompts = (Prompt("a church", 0, 7.5, 0),)
    read = read_concept(concept)
    assert read == Concept("kirche", prompts, judge, 5, Sampling(12, "own"))
    assert read.prompt_set == PromptSetFacts("made up", rows=1)


@pytest.mark.parametrize("name", ["", "name:\n"])
def test_defaults(concept: Path, name: str) -> None:
    concept.write_text(f"{name}prompts: church.csv\n" + JUDGE)
    read = read_concept(concept)
    assert (read.name, read.slots, read.sampling) == ("church", 3, Sampling(50, "lms", "linspace"))
    assert read.judge.options["model"] == "org/name"


PROMPTS = "prompts: church.csv\n"
MISTAKES: list[str | bytes | None] = [
    "", "- church\n", "just text\n", PROMPTS, JUDGE, "prompts:\n" + JUDGE, "prompts: gone.csv\n" + JUDGE,
    "prompts: [a church, another church]\n" + JUDGE, b"\xff\xfe\x00", None,
    *(f"{PROMPTS}judge: {judge}\n" for judge in ("image-classifier", "{label: church}", "{kind: 7}")),
    *(f"{PROMPTS}{line}\n{JUDGE}" for line in (
        "slots: three", "slots: 2.5", "slots: true", "sampling: 50", "sampling: {steps: true}",
        "sampling: {spacing: 5}", "sampling: {spacing: }", "sampling: {scheduler: own, spacing: linspace}",
        "!!python/object:os.system {}", "source: 2024-13-45",
    )),
]  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_mistake_is_one_error_that_names_the_file(concept: Path, text: str | bytes | None) -> None:
    if text is None:
        concept.mkdir()
    else:
        concept.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConceptError, match=r"church\.yaml|gone\.csv"):
        read_concept(concept)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("slots: 0\njudge: {kind: q16}\n", 2, "slots=0"),
        ("slot: 3\njudge: {}\n", 2, "did you mean 'slots'?"),
        ("sampling:\n  scheduler: lms\n  steps: 0\njudge: {kind: nudenet}\n", 4, "steps=0"),
        ("sampling:\n  scheduler: ddim\njudge: {kind: nudenet}\n", 3, "must be lms or own"),
        ("judge:\n  kind: image-clasifier\n", 3, "did you mean 'image-classifier'"),
        ("judge:\n  kind: image-classifier\n  model: a/b\n", 2, "needs label"),
        ("judge:\n  kind: q16\n  model: a/b\n  vectors: x\n", 5, "no option 'vectors'"),
        ('judge:\n  kind: q16\n  model: "a\\0b"\n', 2, "holds a NUL character"),
        ("judge:\n  kind: nudenet\n  classes: [FACE_FEMALE,\n    FACE]\n", 4, "names 'FACE'"),
        ("judge:\n  kind: any-of\n  judges:\n    - kind: nudenet\n      floor: 1\n", 6, "'floor'"),
        ("slots: 3\nslots: 5\njudge: {}\n", 3, "slots is given twice"),
        ("judge:\n  kind: q16\n  model: a/b\n  kind: vlm\n", 5, "kind is given twice"),
        ("judge: [unclosed\nslots: 3\n", 3, "not a readable YAML file"),
    ],
)
def test_mistake_names_its_line(concept: Path, text: str, line: int, reason: str) -> None:
    concept.write_text(PROMPTS + text)
    with pytest.raises(ConceptError) as error:
        read_concept(concept)
    assert str(error.value).startswith(f"{concept}:{line}: ")
    assert reason in str(error.value)


def test_all_mistakes_are_told_at_once(concept: Path) -> None:
    rows = ["prompt,evaluation_seed,case_number", "a,one,1", "b,2,2", ",3,3", "c,4,2"]
    (concept.parent / "church.csv").write_text("\n".join(rows))
    concept.write_text(
        "prompts: church.csv\n"
        "slot: 3\n"
        "slots: 0\n"
        "sampling: {steps: 0, scheduler: dpm, spacing: linspase, eta: 1}\n"
        "judge: {kind: image-classifier, model: nowhere, top: 0, threshhold: 1}\n"
    )
    with pytest.raises(ConceptError) as error:
        read_concept(concept)
    lines = str(error.value).split("\n")
    for reason in (
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
        assert sum(reason in line for line in lines) == 1, (reason, lines)
    assert len(lines) == 13


@pytest.mark.parametrize(
    "fault", ["prompt,image\na,b,c.png\n", "prompt,image\na\n", "prompt,image,image\na,b.png,c.png\n"]
)
@pytest.mark.parametrize(
    "where", ["prompts: church.csv", "prompts: https://host/church.csv", "targets: {column: image}"]
)
def test_misfit_rows_are_refused_from_every_source(concept: Path, fault: str, where: str) -> None:
    concept.write_text((where if "prompts" in where else f"prompts: church.csv\n{where}") + "\n" + JUDGE)
    (concept.parent / "church.csv").write_text(fault)
    with pytest.raises(ConceptError, match=r"church\.csv:[12]: "):
        read_concept(concept, fetch=lambda url, sha256: fault.encode())


@fast
@given(st.text(max_size=120) | st.binary(max_size=120))
def test_any_content_is_a_concept_or_one_error(concept: Path, content: str | bytes) -> None:
    concept.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    is_concept_or_error(concept)


def is_concept_or_error(path: Path) -> None:
    try:
        assert isinstance(read_concept(path), Concept)
    except ConceptError as error:
        assert any(name in str(error) for name in ("church.yaml", "prompt set", ".csv"))  # noqa: PT017


VALID: dict[str, Any] = {
    "name": "church",
    "prompts": {"file": "church.csv", "rows": 1},
    "slots": 3,
    "source": "here",
    "sampling": {"steps": 5, "scheduler": "lms"},
    "judge": {"kind": "image-classifier", "model": "org/name", "label": "church", "top": 1, "threshold": 0.5},
}

PINNED = {
    **VALID,
    "prompts": {"file": "church.csv", "rows": 1, "sha256": "0" * 64},
    "targets": {"folder": ".", "column": "image"},
}

CHOSEN = {
    **VALID,
    "prompts": {
        "file": "church.csv",
        "column": ["prompt"],
        "seed": 3,
        "guidance": 2.5,
        "case": "prompt",
        "header": True,
        "where": {"prompt": "a church"},
        "template": ["old {}"],
        "split": "test",
        "config": "own",
    },
    "sets": {"near": {"slots": 1}},
}


def places(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield place
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*place, name))


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    return {**value, place[0]: replaced(value[place[0]], place[1:], new)} if place else new


@fast
@given(st.sampled_from([(data, place) for data in (VALID, PINNED, CHOSEN) for place in places(data)]), values)
def test_any_value_anywhere_is_a_concept_or_one_error(concept: Path, at: tuple[Any, Any], value: Any) -> None:
    concept.write_text(json.dumps(replaced(*at, value)), encoding="utf-8")
    is_concept_or_error(concept)


@pytest.mark.parametrize(
    "text", ["a: &x [*x]\n", "a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]\n", "[" * 5000, "? [1, 2]\n: 3\n"]
)
def test_strange_yaml_ends(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    try:
        read_yaml(tmp_path / "odd.yaml")
    except ConceptError as error:
        assert "odd.yaml" in str(error)  # noqa: PT017


def test_line_of_a_missing_value_is_its_mappings(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("slots: 3\njudge:\n  kind: q16\n  clip: x\n")
    file = read_yaml(path)
    places = [("judge", "clip"), ("judge", "prompts", "from"), ("sampling", "steps")]
    assert [file.at(*place) for place in places] == [f"{path}:4", f"{path}:2", f"{path}:1"]


OBJECT = "judges/object"


@pytest.mark.parametrize(
    ("model", "label", "reason"),
    [
        (OBJECT, "churhc", "yaml:5: judge model .*object has no label 'churhc': did you mean 'church'?"),
        (OBJECT, "7", "church.yaml:5: judge model .*object has no label 7: known: church, fish"),
        (OBJECT, "[church, fsh]", "church.yaml:5: judge model .*object has no label 'fsh': did you mean 'fish'"),
        (OBJECT, "[]", "church.yaml:5: label must be a label of the model, .*or a list of labels"),
        ("judges/objct", "church", "church.yaml:4: model: there is nothing at .*objct: did you mean 'object'?"),
        ("./jugdes/object", "church", "church.yaml:4: model: there is nothing at .*jugdes is not there either"),
        ("resnet", "church", "church.yaml:4: model: there is nothing at .*resnet"),
        *[
            (model, label, None)
            for model, label in ((OBJECT, "fish"), (OBJECT, "[fish, 0]"), (OBJECT, "1"), ("jugdes/object", "church"))
        ],
        ("microsoft/resnet-50", "497", None),
    ],
)
def test_judge_folder_is_checked_without_torch(concept: Path, model: str, label: str, reason: str | None) -> None:
    folder = concept.parent / "judges" / "object"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "church", "1": "fish"}}))
    concept.write_text(f"{PROMPTS}judge:\n  kind: image-classifier\n  model: {model}\n  label: {label}\n")
    if reason is None:
        assert read_concept(concept).judge.options["model"] in (model, str(folder))
    else:
        with pytest.raises(ConceptError, match=reason):
            read_concept(concept)


@fast
@given(values | st.fixed_dictionaries({"id2label": values}))
def test_any_judge_config_has_labels_or_none(tmp_path: Path, data: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(data))
    labels = labels_of(str(tmp_path))
    assert labels is None or all(isinstance(label, str) for label in labels)


@settings(max_examples=20)
@pytest.mark.parametrize("kind", registry().judges)
@given(data=st.data())
def test_any_judge_option_is_right_or_a_problem(kind: str, data: st.DataObject) -> None:
    options = {name: data.draw(values) for name in registry().judges[kind].options}
    for place, problem in problems(kind, options, measures=True):
        assert isinstance(problem, str)
        assert problem
        assert not place or place[0] in options or place[0] == "kind"
    nested = {name: [[None]] for name in options}
    assert {place[0] for place, _ in problems(kind, nested, measures=True) if place} == set(options)


def test_library_takes_the_first_place(tmp_path: Path) -> None:
    for place in ("first", "second"):
        write_yaml(tmp_path / place, f"source: {place}\n{PROMPTS}{JUDGE}")
    write_yaml(tmp_path / "second", f"source: tench\n{PROMPTS}{JUDGE}", "tench.yaml")
    write_yaml(tmp_path / "second", "prompts: [unclosed\n", "broken.yaml")
    library = ConceptLibrary([tmp_path / "nowhere", tmp_path / "first", tmp_path / "second"])
    assert library.find("church").prompt_set.source == "first"
    assert library.find("tench").prompt_set.source == "tench"
    assert ConceptLibrary([tmp_path / "second" / "church.yaml"]).find("church").prompt_set.source == "second"
    for name, hint in (("churhc", "did you mean 'church'"), ("zzz", "known: broken, cassette_player, .*church")):
        with pytest.raises(ConceptError, match=f"no concept '{name}': {hint}"):
            library.find(name)
