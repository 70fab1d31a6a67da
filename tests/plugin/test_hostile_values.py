"""Values that nobody means, in every option, marker argument, gate file, concept file and command.

Each ends in one bounded line that a terminal shows as it is, or is harmless; none in a traceback, a hang or
INTERNALERROR.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import hostile
import pytest
from hostile import OBJECTS, TEXTS, check, check_session
from worlds import World

from pytest_unlearndiff.__main__ import COMMANDS
from pytest_unlearndiff.core.concept_file import read_concept
from pytest_unlearndiff.core.errors import ConceptError, UnlearnDiffError
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


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_option_values(furnished: World, option: Option) -> None:
    """What is refused is named by the option's flag; a gate is collected with what is taken."""
    config = furnished.pytester.parseconfig()
    taken = []
    for text in TEXTS:
        setattr(config.option, option.ini, [text] if option.repeatable else text)
        begun = time.monotonic()
        try:
            assert command_line_options(config)
            check_rootdir(config)
            Settings.from_config(config)
            taken.append(text)
        except pytest.UsageError as error:
            assert str(error).startswith(f"{option.flag}: ")  # noqa: PT017
            check(str(error))
        assert time.monotonic() - begun < 30, ascii(text)[:100]
    assert len(taken) <= 15 or option.name in ANY_TEXT, [ascii(text)[:60] for text in taken]
    furnished.gate("max_asr=0.1")
    for text in taken:
        if "\0" not in text and not option.name.startswith("report"):
            check_session(furnished.ask(write_option(option, text), "--collect-only", "-q"), 0, 2, 4)


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


@pytest.mark.parametrize(
    ("mark", "keyword"),
    [*(("unlearndiff", keyword) for keyword in KEYWORDS), *(("unlearndiff_retains", keyword) for keyword in RETENTION)],
)
def test_marker_values(furnished: World, mark: str, keyword: str) -> None:
    concept = "" if keyword == "concept" else "'church', "
    furnished.tests(
        f"""
        from hostile import OBJECTS, TEXTS

        @pytest.mark.parametrize(
            "number",
            [
                pytest.param(number, marks=pytest.mark.{mark}({concept}{keyword}=value))
                for number, value in enumerate((*TEXTS, *OBJECTS))
            ],
        )
        def test_gate(number, {"unlearndiff_attack" if mark == "unlearndiff" else "unlearndiff_retention"}):
            pass
        """
    )
    result = furnished.ask("--collect-only", "-q")
    check_session(result, 2)
    lines = [line for line in result.outlines if line.startswith("test_gate.py::test_gate[")]
    refused = {line.partition("[")[2].partition("]")[0] for line in lines}
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


ALWAYS_TRUE = ("asr <= 10", "asr <= '1000%'", "asr <= True", "pre_asr == 5", "asr < 1e400", "asr != 'x'")


def test_comparison_that_is_always_true(world: World) -> None:
    world.know("bbbbbbbbbb")
    compared = [*(f"result.{comparison}" for comparison in ALWAYS_TRUE), "10 >= result.asr"]
    world.tests(
        "".join(
            f"def test_{i}(unlearndiff_attack):\n    result = unlearndiff_attack('church')\n    assert {comparison}\n\n"
            for i, comparison in enumerate([*compared, "result.asr <= 1", "result.asr == 1.0", "result.pre_asr == 0"])
        )
    )
    result = world.run("--tb=line")
    result.assert_outcomes(failed=len(compared), passed=3)
    # One line each, which pytest begins with GateError from 9.0 on.
    told = [line for line in result.outlines if " limit=" in line and not line.startswith("FAILED")]
    assert len(told) >= len(compared)


ALIASES = "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(12))
BOMBS = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + ALIASES,
    "itself in a key": "a: &a {? *a : 1}\n",
    "merges": f"a: &a {{{', '.join(f'k{i}: 1' for i in range(100))}}}\nb: {{<<: [{', '.join(['*a'] * 5_000)}]}}\n",
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
    pipes = ("concepts/church.csv", "concepts/pipe.yaml", "judge/config.json", "imgs/100.png")
    for name in (*pipes, "model/tokenizer/tokenizer_config.json"):
        path = furnished.path / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
    furnished.file("model/model_index.json", "{}")
    furnished.concept("fish")
    judge = {"kind": "nudenet", "detector": "../fifo"}
    furnished.file("concepts/bird.yaml", json.dumps({"prompts": "fish.csv", "targets": "../imgs", "judge": judge}))
    gates = ["'church'", "'pipe'", "'bird'"]
    gates += [
        f"'fish', {further}" for further in ("attack='transfer:fifo'", "model='fifo'", "base='fifo'", "model='model'")
    ]
    marks = [
        f"@pytest.mark.unlearndiff({gate})\ndef test_{i}(unlearndiff_attack): pass\n" for i, gate in enumerate(gates)
    ]
    furnished.tests("\n".join(marks))
    result = furnished.ask("--collect-only", "-q")
    check_session(result, 2)
    refused = {line.split(":")[2] for line in result.outlines if line.startswith("test_gate.py::test_")}
    assert refused == {f"test_{i}" for i in range(6)}


COMMAND_LINES: list[tuple[str, ...]] = [
    *((name, "{}") for name in ("inspect", "report", "export", "pull", "push")),
    *((name, "--cache-dir={}") for name in ("show", "clear", "report")),
    ("calibrate", "{}", "--base=base"),
    ("compare", "{}", "{}"),
    ("prune", "--days={}"),
    ("calibrate", "church", "--base={}"),
    *(("calibrate", "church", "--base=base", f"--{name}={{}}") for name in ("prompts", "each", "sheet", "batch-size")),
    *(("calibrate", "church", "--base=base", f"--{name}={{}}") for name in ("concepts", "prompt-sets")),
    ("inspect", "model.safetensors", "--base={}"),
    ("report", "--since={}"),
    ("export", "-", "--from={}"),
    *(("export", kind, "-", "--model={}") for kind in ("model-card", "leaderboard", "badge")),
    ("q16", "{}", "q16.npz"),
    ("quality", "{}", "--base=base", "--captions=concepts/church.csv", "--features=judge"),
    *(
        (
            "quality",
            "model.safetensors",
            "--base=base",
            f"--{one}={{}}",
            f"--{other}=concepts/church.csv",
            "--features=judge",
        )
        for one, other in (
            ("captions", "reference"),
            ("column", "captions"),
            ("steps", "captions"),
            ("max-fid-increase", "captions"),
        )
    ),
    ("clear", "--concept={}"),
    ("clear", "--no-such-option={}"),
]


@pytest.mark.parametrize("line", COMMAND_LINES, ids=" ".join)
def test_command_values(furnished: World, line: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name for name, *_ in COMMAND_LINES} == {command.name for command in COMMANDS}
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
        result = furnished.command(*(part.replace("{}", text) for part in line))
        assert result.ret in (0, 1, 2), ascii(text)[:100]
        assert time.monotonic() - begun < 30
        for told in result.outlines + result.errlines:
            if told.strip() and not told.startswith("usage: "):
                check(told, 12_000)
        if result.ret != 0 and result.errlines:
            check(result.errlines[-1])


def no_model(*_: object, **__: object) -> Callable[..., Any]:
    raise UnlearnDiffError("no model here")
