"""Values that nobody means, in every option, marker argument, gate file, concept file and command.

Each ends in one bounded line that a terminal shows as it is, or is harmless; none in a traceback, a hang or
INTERNALERROR.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import hostile
import pytest
from hostile import OBJECTS, TEXTS, check, check_session
from worlds import MODEL, World

from pytest_unlearndiff.__main__ import COMMANDS, main
from pytest_unlearndiff.core.concept_file import read_concept
from pytest_unlearndiff.core.errors import ConceptError, UnlearnDiffError
from pytest_unlearndiff.core.prompt_sets import parse_rows
from pytest_unlearndiff.plugin.options import OPTIONS, Option
from pytest_unlearndiff.plugin.settings import Settings, check_rootdir, command_line_options, write_option

pytestmark = pytest.mark.timeout(120)

# Options that take any text, since only the model, the judge or the device can tell whether it means anything.
ANY_TEXT = ("model_version", "negative_prompt", "concept", "cache_dir")


@pytest.fixture
def furnished(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    world.concept()
    hostile.furnish(world.path)
    monkeypatch.setattr("pytest_unlearndiff.sources.resolve.hub_folder", lambda text: None)
    return world


def accepted(world: World, option: Option) -> list[str]:
    """The texts that an option takes, in this one's place on the command line; the others are refused properly."""
    config = world.pytester.parseconfig()
    found = []
    for text in TEXTS:
        setattr(config.option, option.ini, [text] if option.repeatable else text)
        begun = time.monotonic()
        try:
            assert command_line_options(config)
            check_rootdir(config)
            Settings.from_config(config)
            found.append(text)
        except pytest.UsageError as error:
            assert str(error).startswith(f"{option.flag}: ")  # noqa: PT017
            check(str(error))
        assert time.monotonic() - begun < 30, ascii(text)[:100]
    return found


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_option_values(furnished: World, option: Option) -> None:
    found = accepted(furnished, option)
    assert len(found) <= 15 or option.name in ANY_TEXT, [ascii(text)[:60] for text in found]
    # What is taken must not end the session in another way later: a gate is collected with it.
    furnished.gate("max_asr=0.1")
    for text in found:
        if "\0" not in text and not option.name.startswith("report"):
            result = furnished.pytester.runpytest_inprocess(*MODEL, write_option(option, text), "--collect-only", "-q")
            check_session(result, 0, 2, 4)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_refused_ini_value_is_a_usage_error(furnished: World, option: Option) -> None:
    furnished.gate("max_asr=0.1")
    text = "html:~nosuchuser/\x1b[31m" if option.name == "report" else "~nosuchuser/\x1b[31m" + "9" * 400
    furnished.ini(f"{option.ini} = {text}")
    result = furnished.pytester.runpytest_inprocess("--collect-only", "-q")
    check_session(result, 0 if option.name in ("negative_prompt", "concept") else 4)


KEYWORDS = (
    *("concept", "max_asr", "max_pre_asr", "gate", "confidence", "prompts", "attack", "schedule", "loss", "slots"),
    *("placement", "exhaustive", "model", "base", "nonsense"),
)
RETENTION = ("concept", "min_rate", "max_loss", "gate", "confidence", "prompts", "model", "nonsense")
VALUES = (*TEXTS, *OBJECTS)


def module(mark: str, fixture: str, keyword: str) -> str:
    concept = "" if keyword == "concept" else '"church", '
    return f"""
        from hostile import OBJECTS, TEXTS

        @pytest.mark.parametrize(
            "number",
            [
                pytest.param(number, marks=pytest.mark.{mark}({concept}{keyword}=value))
                for number, value in enumerate((*TEXTS, *OBJECTS))
            ],
        )
        def test_gate(number, {fixture}):
            pass
        """


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_marker_values(furnished: World, keyword: str) -> None:
    furnished.tests(module("unlearndiff", "unlearndiff_attack", keyword))
    refused_at_collection(furnished, keyword)


@pytest.mark.parametrize("keyword", RETENTION)
def test_retention_marker_values(furnished: World, keyword: str) -> None:
    furnished.tests(module("unlearndiff_retains", "unlearndiff_retention", keyword))
    refused_at_collection(furnished, keyword)


def refused_at_collection(world: World, keyword: str) -> None:
    result = world.ask("--collect-only", "-q")
    check_session(result, 2)
    lines = result.outlines
    refused = {
        line.partition("[")[2].partition("]")[0] for line in lines if line.startswith("test_gate.py::test_gate[")
    }
    taken = [ascii(VALUES[n])[:60] if n < len(TEXTS) else n for n in range(len(VALUES)) if str(n) not in refused]
    assert len(taken) <= 12, taken


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_gate_file_values(furnished: World, keyword: str) -> None:
    lines = [f"  g{i}: {json.dumps({'concept': 'church', keyword: text})}" for i, text in enumerate(TEXTS)]
    furnished.file("release.unlearndiff.yaml", "\n".join(["gates:", *lines]))
    result = furnished.ask("--collect-only", "-q")
    check_session(result, 2)
    refused = {line.split(": ")[1] for line in result.outlines if line.startswith("release.unlearndiff.yaml:")}
    assert len(refused) > 0.8 * len(TEXTS)


def test_gate_names_are_escaped(furnished: World) -> None:
    lines = [f"  ? {json.dumps(text)}\n  : {{concept: church, max_asr: 10%}}" for text in TEXTS]
    furnished.file("release.unlearndiff.yaml", "\n".join(["gates:", *lines]))
    result = furnished.ask("--collect-only", "-q")
    check_session(result, 0)
    assert sum("::" in line for line in result.outlines) == len(TEXTS)


COMPARISONS = (
    "asr <= 10",
    "asr <= '1000%'",
    "asr <= True",
    "pre_asr == 5",
    "10 >= RESULT.asr",
    "asr < 1e400",
    "asr != 'x'",
)


def test_comparison_that_is_always_true(world: World) -> None:
    world.know("bbbbbbbbbb")
    compared = [text.replace("RESULT", "result") if "RESULT" in text else f"result.{text}" for text in COMPARISONS]
    world.tests(
        "".join(
            f"def test_{i}(unlearndiff_attack):\n    result = unlearndiff_attack('church')\n    assert {text}\n\n"
            for i, text in enumerate([*compared, "result.asr <= 1", "result.asr == 1.0", "result.pre_asr == 0"])
        )
    )
    result = world.run("--tb=line")
    result.assert_outcomes(failed=len(COMPARISONS), passed=3)
    assert sum("GateError: limit=" in line for line in result.outlines) >= len(COMPARISONS)


CONCEPT: dict[str, Any] = {
    "name": "church",
    "prompts": {"file": "church.csv", "rows": 10, "sha256": "0" * 64},
    "slots": 3,
    "source": "here",
    "sampling": {"steps": 5, "scheduler": "lms"},
    "targets": {"folder": "imgs", "column": "image"},
    "judge": {"kind": "image-classifier", "model": "judge", "label": "church", "top": 1, "threshold": 0.5},
}


def places(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield place
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*place, name))


def replaced(value: Any, place: tuple[str, ...], new: Any) -> Any:
    return {**value, place[0]: replaced(value[place[0]], place[1:], new)} if place else new


NUMBERS = (10**30, -1, 2**64, 1e308, True, None, [], {}, [[[]]], {"x": 1})


@pytest.mark.parametrize("place", [*places(CONCEPT)], ids=".".join)
def test_concept_file_values(furnished: World, place: tuple[str, ...]) -> None:
    path = furnished.path / "one.yaml"
    for value in (*TEXTS, *NUMBERS):
        path.write_text(json.dumps(replaced(CONCEPT, place, value)))
        with pytest.raises(ConceptError) as caught:  # the folder of target images is not there in any case
            read_concept(path)
        check(str(caught.value))


@pytest.mark.parametrize(
    "kind", ["nudenet", "clip-zero-shot", "q16", "diffusion-classifier", "vlm", "any-of", "function"]
)
def test_judge_values(furnished: World, kind: str) -> None:
    from pytest_unlearndiff.core.registry import registry

    path = furnished.path / "concepts" / "one.yaml"
    for option in (*registry().judges[kind].options, "\x1b[31m"):
        for value in (*TEXTS, *NUMBERS, [[{"kind": "\x1b"}]], [{"kind": kind, option: "a\0b"}]):
            path.write_text(json.dumps({"prompts": "church.csv", "judge": {"kind": kind, option: value}}))
            try:
                read_concept(path)
            except ConceptError as error:
                check(str(error))


BOMBS = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(12)),
    "itself": "a: &a [*a]\n",
    "itself in a key": "a: &a {? *a : 1}\n",
    "merges": "a: &a {"
    + ", ".join(f"k{i}: 1" for i in range(100))
    + "}\n"
    + "b: {<<: ["
    + ", ".join(["*a"] * 5_000)
    + "]}\n",
    "many": "a: [" + "x," * 300_000 + "]\n",
    "deep": "[" * 10_000,
    "deep mapping": "".join(f"{' ' * i}a:\n" for i in range(900)),
    "long": "a: " + "x" * 2**20,
    "number": "a: " + "9" * 100_000 + "\n",
    "base 60": "a: " + ":".join(["59"] * 100_000) + "\n",
    "tagged number": f'a: !!int "{"9" * 4_000}"\n',
    "tagged truth": "a: !!bool x\n",
    "tagged time": "a: !!timestamp x\n",
    "tagged nothing": 'a: !!int ""\n',
    "code": "a: !!python/object/apply:os.system [id]\n",
    "escapes": '"\\e[31m": 1\n"\\e[31m": 2\n',
    "steering": "a: \x1b[31m\n",
    "tag of escapes": "a: !<\\e[31m> x\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_bombs(furnished: World, name: str) -> None:
    path = furnished.file("concepts/bomb.yaml", BOMBS[name])
    furnished.file("release.unlearndiff.yaml", BOMBS[name])
    begun = time.monotonic()
    with pytest.raises(ConceptError) as caught:
        read_concept(path)
    check(str(caught.value))
    check_session(furnished.ask("--collect-only", "-q"), 2)
    assert time.monotonic() - begun < 30


def test_pipes_are_not_waited_for(furnished: World) -> None:
    for name in (
        "church.csv",
        "pipe.yaml",
        "judge/config.json",
        "model/tokenizer/tokenizer_config.json",
        "imgs/100.png",
    ):
        path = furnished.path / ("concepts" if "/" not in name else "") / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
    (furnished.path / "model" / "model_index.json").write_text("{}")
    furnished.concept("fish")
    furnished.file(
        "concepts/bird.yaml",
        json.dumps({"prompts": "fish.csv", "targets": "../imgs", "judge": {"kind": "nudenet", "detector": "../fifo"}}),
    )
    furnished.tests(
        "\n".join(
            f"@pytest.mark.unlearndiff({given})\ndef test_{i}(unlearndiff_attack): pass\n"
            for i, given in enumerate(
                (
                    "'church'",
                    "'pipe'",
                    "'bird'",
                    "'fish', attack='transfer:fifo'",
                    "'fish', model='fifo'",
                    "'fish', base='fifo'",
                    "'fish', model='model'",
                )
            )
        )
    )
    result = furnished.ask("--collect-only", "-q")
    check_session(result, 2)
    refused = {line.split(":")[2] for line in result.outlines if line.startswith("test_gate.py::test_")}
    assert refused == {f"test_{i}" for i in range(6)}


@pytest.mark.parametrize("column", ["prompt", "evaluation_seed", "evaluation_guidance", "case_number", "image"])
def test_prompt_set_cells(column: str) -> None:
    for text in TEXTS:
        cells = {
            "prompt": "a church",
            "evaluation_seed": "1",
            "evaluation_guidance": "7.5",
            "case_number": "0",
            "image": "x",
        }
        file = io.StringIO(newline="")
        csv.writer(file).writerows([cells, (cells | {column: text}).values()])
        try:
            [(prompt, row)] = parse_rows(file.getvalue().encode("utf-8", "surrogatepass"), "set.csv", column="image")
        except ConceptError as error:
            check(str(error))
        else:
            assert row.cell(column).replace("\r", "\n") == text.replace("\r", "\n")
            assert 0 <= prompt.seed < 2**64


LINES: dict[str, tuple[str, ...]] = {
    "inspect": ("{}",),
    "calibrate": ("{}", "--base=base"),
    "show": ("--cache-dir={}",),
    "report": ("{}",),
    "compare": ("{}", "{}"),
    "export": ("{}",),
    "clear": ("--cache-dir={}",),
    "prune": ("--days={}",),
    "pull": ("{}",),
    "push": ("{}",),
}
FURTHER = [
    ("calibrate", "church", "--base={}"),
    *(
        ("calibrate", "church", "--base=base", f"--{name}={{}}")
        for name in ("prompts", "each", "sheet", "batch_size", "concepts")
    ),
    ("inspect", "model.safetensors", "--base={}"),
    ("report", "--since={}"),
    ("report", "--cache-dir={}"),
    ("export", "-", "--from={}"),
    ("clear", "--concept={}"),
    ("calibrate", "church", "--base=base", "--prompt-sets={}"),
]


def test_arguments_cover_every_command() -> None:
    assert set(LINES) == {command.name for command in COMMANDS}


@pytest.mark.parametrize("line", [*((name, *rest) for name, rest in LINES.items()), *FURTHER], ids=" ".join)
def test_command_values(
    furnished: World, line: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(furnished.path)
    # Whether a model can be loaded is another question, and takes long to answer.
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "pytest_unlearndiff.models.libraries", SimpleNamespace(silence_libraries=no_model))
    monkeypatch.setattr("pytest_unlearndiff.runs.model_cache.ModelCache.victim", no_model)
    monkeypatch.setattr("pytest_unlearndiff.runs.model_cache.ModelCache.base", no_model)
    for text in TEXTS:
        if "\0" in text or text.startswith("-") or (line[0] in ("pull", "push") and "://" in text):
            continue  # no shell passes the first, and the last are other places' own
        if text == "..":
            continue  # a folder like any other, which holds what all other tests left
        begun = time.monotonic()
        try:
            status = main([part.replace("{}", text) for part in line])
        except SystemExit as ended:
            status = ended.code
        said = capsys.readouterr()
        assert status in (0, 1, 2), ascii(text)[:100]
        assert time.monotonic() - begun < 30
        for told in (said.out + said.err).split("\n"):
            if told.strip() and not told.startswith("usage: "):
                check(told, 12_000)
        if status != 0 and said.err:
            check(said.err.strip().split("\n")[-1])


def no_model(*_: object) -> Callable[..., Any]:
    raise UnlearnDiffError("no model here")
