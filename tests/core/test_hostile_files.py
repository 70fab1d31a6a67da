"""Whatever a file holds, a reader gives what was meant or one error that names the file; never anything else."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_unlearndiff.core.concept import Concept, Prompt
from pytest_unlearndiff.core.concept_file import read_concept
from pytest_unlearndiff.core.errors import ConceptError
from pytest_unlearndiff.core.judge_options import problems
from pytest_unlearndiff.core.prompt_sets import read_prompts
from pytest_unlearndiff.core.registry import registry
from pytest_unlearndiff.core.yaml_file import read_yaml
from pytest_unlearndiff.judges.options import labels_of

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
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


def or_one_error(read: Callable[[], Any], *names: str) -> Any:
    """What is read, or None where there was one error that names the file."""
    try:
        return read()
    except ConceptError as error:
        message = str(error)
    assert any(name in message for name in names)
    return None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "set.csv"


def write(path: Path, found: list[Prompt], order: list[str], ends: str = "\n") -> None:
    """Prompts as a CSV file with these columns."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator=ends)
        writer.writerow(order)
        for p in found:
            cells = {
                "prompt": p.text,
                "evaluation_seed": p.seed,
                "evaluation_guidance": p.guidance,
                "case_number": p.case,
            }
            writer.writerow([cells.get(name, 'a, "quoted" cell') for name in order])


@fast
@given(st.lists(prompts, min_size=1, max_size=5, unique_by=lambda p: p.case), columns, st.sampled_from(["\n", "\r\n"]))
def test_every_prompt_comes_back(path: Path, wanted: list[Prompt], order: list[str], ends: str) -> None:
    write(path, wanted, order, ends)
    assert read_prompts(path) == wanted


@fast
@given(st.lists(prompts, min_size=1, max_size=4, unique_by=lambda p: p.case), st.data())
def test_a_case_number_that_stands_twice_is_named(path: Path, found: list[Prompt], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(found) - 1))
    twice = Prompt("again", 1, 7.5, found[first].case)
    write(path, [*found, twice], ["prompt", "case_number"])
    line = 2 + sum(prompt.text.count("\n") + 1 for prompt in found[:first])
    last = path.read_text().count("\n")
    with pytest.raises(ConceptError) as caught:
        read_prompts(path)
    assert str(caught.value) == (
        f"{path}:{last}: case number {twice.case}, by which reports and --unlearndiff-case-numbers name a prompt, "
        f"stands at {path}:{line} too"
    )


@fast
@given(st.lists(prompts, min_size=1, max_size=3), columns)
def test_without_a_prompt_column_nothing_is_guessed(path: Path, found: list[Prompt], order: list[str]) -> None:
    write(path, found, [name for name in order if name != "prompt"])
    with pytest.raises(ConceptError, match=r"set\.csv: no column 'prompt'"):
        read_prompts(path)


@fast
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_bytes_are_prompts_or_one_error(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    found = or_one_error(lambda: read_prompts(path), "set.csv")
    assert found is None or all(isinstance(prompt, Prompt) for prompt in found)


def test_ten_thousand_rows(path: Path) -> None:
    wanted = [Prompt(f'row {i}, "quoted"\nand on a second line', i, 7.5, i) for i in range(10_000)]
    write(path, wanted, ["case_number", "prompt", "evaluation_seed", "evaluation_guidance"])
    assert read_prompts(path) == wanted


def test_the_columns_of_the_i2p_data_set(path: Path) -> None:
    path.write_text("prompt,categories,sd_seed,sd_guidance_scale\nx,none,7,8.5\n")
    assert read_prompts(path) == [Prompt("x", 7, 8.5, 0)]


@pytest.fixture
def concept(tmp_path: Path) -> Path:
    (tmp_path / "church.csv").write_text("prompt\na church\n")
    return tmp_path / "church.yaml"


@fast
@given(st.text(max_size=120) | st.binary(max_size=120))
def test_any_content_is_a_concept_or_one_error(concept: Path, content: str | bytes) -> None:
    concept.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    found = or_one_error(lambda: read_concept(concept), "church.yaml")
    assert found is None or isinstance(found, Concept)


def _replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    return {**value, place[0]: _replaced(value[place[0]], place[1:], new)}


_WHOLE: dict[str, Any] = {
    "name": "church",
    "prompts": "church.csv",
    "slots": 3,
    "source": "here",
    "sampling": {"steps": 5, "scheduler": "lms"},
    "judge": {"kind": "image-classifier", "model": "org/name", "label": "church", "top": 1, "threshold": 0.5},
}


def _places(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield place
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _places(inner, (*place, name))


@fast
@given(st.sampled_from(list(_places(_WHOLE))), values)
def test_any_value_anywhere_is_a_concept_or_one_error(concept: Path, place: tuple[str, ...], value: Any) -> None:
    concept.write_text(json.dumps(_replaced(_WHOLE, place, value)), encoding="utf-8")
    found = or_one_error(lambda: read_concept(concept), "church.yaml", "prompt set", ".csv")
    assert found is None or isinstance(found, Concept)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("prompts: church.csv\nslots: 0\njudge: {kind: q16}\n", 2, "slots=0"),
        ("prompts: church.csv\n\n\ncolour: blue\njudge: {}\n", 4, "no field 'colour'"),
        ("prompts: church.csv\nslot: 3\njudge: {}\n", 2, "did you mean 'slots'?"),
        ("prompts: church.csv\nsampling:\n  scheduler: lms\n  steps: 0\njudge: {kind: nudenet}\n", 4, "steps=0"),
        ("prompts: church.csv\nsampling:\n  scheduler: ddim\njudge: {kind: nudenet}\n", 3, "must be lms or own"),
        ("prompts: church.csv\njudge:\n  kind: image-clasifier\n", 3, "did you mean 'image-classifier'"),
        ("prompts: church.csv\njudge:\n  kind: image-classifier\n  model: a/b\n", 2, "needs label"),
        ("prompts: church.csv\njudge:\n  kind: q16\n  model: a/b\n  vectors: x\n", 5, "no option 'vectors'"),
        ("prompts: church.csv\njudge:\n  kind: nudenet\n  classes: [FACE_FEMALE,\n    FACE]\n", 4, "names 'FACE'"),
        ("prompts: church.csv\njudge:\n  kind: any-of\n  judges:\n    - kind: nudenet\n      floor: 1\n", 6, "'floor'"),
        ("prompts: church.csv\nslots: 3\nslots: 5\njudge: {}\n", 3, "slots is given twice"),
        ("prompts: church.csv\njudge:\n  kind: q16\n  model: a/b\n  kind: vlm\n", 5, "kind is given twice"),
        ("prompts: church.csv\njudge: [unclosed\nslots: 3\n", 3, "not a readable YAML file"),
    ],
)
def test_mistakes_name_their_line(concept: Path, text: str, line: int, says: str) -> None:
    concept.write_text(text)
    with pytest.raises(ConceptError) as caught:
        read_concept(concept)
    assert str(caught.value).startswith(f"{concept}:{line}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text", ["a: &x [*x]\n", "a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]\n", "[" * 5000, "? [1, 2]\n: 3\n"]
)
def test_strange_yaml_ends(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    or_one_error(lambda: read_yaml(tmp_path / "odd.yaml"), "odd.yaml")


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    """A classifier's folder, of which only the config.json is looked at."""
    folder = tmp_path / "judges" / "object"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "church", "1": "fish"}}))
    return folder


@pytest.mark.parametrize(
    ("model", "label", "says"),
    [
        (
            "judges/object",
            "churhc",
            "yaml:5: judge model .*object has no label 'churhc': did you mean 'church'?",
        ),
        ("judges/object", "7", "church.yaml:5: judge model .*object has no label 7: known: church, fish"),
        ("judges/objct", "church", "church.yaml:4: model: there is nothing at .*objct: did you mean 'object'?"),
        ("jugdes/object", "church", None),
        ("./jugdes/object", "church", "church.yaml:4: model: there is nothing at .*jugdes is not there either"),
        ("resnet", "church", "church.yaml:4: model: there is nothing at .*resnet"),
        ("judges/object", "fish", None),
        ("judges/object", "1", None),
        ("microsoft/resnet-50", "497", None),
    ],
)
def test_what_the_judges_folder_lacks_is_told_without_torch(
    concept: Path, judge: Path, model: str, label: str, says: str | None
) -> None:
    concept.write_text(f"prompts: church.csv\njudge:\n  kind: image-classifier\n  model: {model}\n  label: {label}\n")
    if says is None:
        assert read_concept(concept).judge.options["model"] in (model, str(judge))
    else:
        with pytest.raises(ConceptError, match=says):
            read_concept(concept)


@fast
@given(values | st.fixed_dictionaries({"id2label": values}))
def test_any_config_has_labels_or_none(tmp_path: Path, data: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(data))
    found = labels_of(str(tmp_path))
    assert found is None or all(isinstance(label, str) for label in found)


@pytest.mark.parametrize("kind", registry().judges)
def test_a_nested_list_is_right_for_no_option_but_pairs(kind: str) -> None:
    options = {name: [[None]] for name in registry().judges[kind].options}
    assert {place[0] for place, _ in problems(kind, options) if place} == set(options)


@given(st.sampled_from(sorted(registry().judges)), st.data())
def test_any_option_is_right_or_a_problem(kind: str, data: st.DataObject) -> None:
    options = {name: data.draw(values) for name in registry().judges[kind].options}
    for place, problem in problems(kind, options):
        assert isinstance(problem, str)
        assert problem
        assert not place or place[0] in options or place[0] == "kind"
