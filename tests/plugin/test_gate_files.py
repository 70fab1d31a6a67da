"""``*.unlearndiff.yaml`` files are tests: the same verdicts, node ids, fixtures and errors with a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worlds import NOTE, World, section

from pytest_unlearndiff.core.errors import ErrorCollector
from pytest_unlearndiff.plugin.gate_files import FileGate, read_gates

GATES = """\
# Gates of a release.
gates:
  church: {max_asr: 10%}
  a strict one:
    concept: tench
    max_asr: 0.1
"""
FILE = "release.unlearndiff.yaml"


@pytest.fixture
def gates(world: World) -> World:
    world.know("brrrrrrrrr", "church")
    world.know("bbrrrrrrrr", "tench")
    world.file(FILE, GATES)
    return world


def test_items(gates: World) -> None:
    gates.conftest(
        """
        import pytest

        @pytest.fixture(autouse=True)
        def named(request):
            print("in", request.module.__name__)
        """
    )
    result = gates.run("-rAP")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines_random(
        [
            f"PASSED {FILE}::church",
            f"tench: ASR 2/10 = 20.0%, gate ASR <= 10.0%{NOTE}",
            f"{FILE}:4: ASRExceeded",
            f"FAILED {FILE}::a strict one*",  # pytest's own reason follows, from 9.0 on
            "in release.unlearndiff",
        ]
    )
    assert len(section(result)) > 4
    assert "gatefile.py" not in result.stdout.str()  # people look into their own file


def test_selection(gates: World) -> None:
    gates.run(f"{FILE}::a strict one").assert_outcomes(failed=1)
    gates.run("-k", "church").assert_outcomes(passed=1, deselected=1)
    (gates.path / FILE).rename(gates.path / "release.yaml")
    assert gates.ask().ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_relative_model(gates: World) -> None:
    gates.file(f"deep/{FILE}", "model: ../model.safetensors\nbase: ../base\n" + GATES)
    result = gates.bare("--unlearndiff-cache=require", f"--unlearndiff-concepts={gates.path / 'concepts'}", "deep")
    result.assert_outcomes(passed=1, failed=1)


def test_pipeline_of_conftest(gates: World) -> None:
    gates.conftest(
        "import pytest\n\n@pytest.fixture\ndef unlearned_pipe(): raise RuntimeError('asked for the pipeline')"
    )
    result = gates.bare("--unlearndiff-cache=require")
    result.stdout.fnmatch_lines(["*RuntimeError: asked for the pipeline"])


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        ("gates:\n  church:\n    max_asr: 10\n", ["2: church: max_asr=10 is above 1: did you"]),
        ("gates:\n  church: {max_asr: 1%}\n  churc: {}\n", ["3: churc: no concept 'churc'"]),
        ("gates:\n  church: {max_as: 10%}\n", ["2: church: * did you mean 'max_asr'"]),
        ("gates:\n  church: {}\n  church: {}\n", ["3: church is given twice"]),
        ("gates: [church]\n", ["1: gates must be a mapping"]),
        ("gates:\n  church: 10%\n", ["2: gate 'church' must be a mapping"]),
        ("modle: x\ngates: {}\n", ["1: a gate file has no field 'modle': did you mean 'model'?"]),
        ("gates:\n  church: {1: 10%}\n", ["2: church: unlearndiff has no keyword '1'"]),
        ("model: x\n", ["1: no gates in it"]),
        ("model: x\ngates: {}\n", ["1: no gates in it"]),
        ("", ["1: a gate file must be a mapping"]),
        ("gates: {church: [}\n", ["1: not a readable YAML file"]),
        ("gates:\n  church: {model: nowhere.pt}\n", ["2: church: model: there is nothing at"]),
        (  # all mistakes at once
            "model: x.pt\nmodle: x.pt\ngates:\n  church: {max_asr: 10}\n  churh: {slots: 0}\n  fish: 10%\n"
            "retains: {church: {min_rate: 9, gate: x}}\n",
            [
                "2: a gate file has no field 'modle'",
                *("4: church: max_asr=10", "4: church: model: there is nothing at"),
                *("5: churh: no concept", "5: churh: slots=0", "6: gate 'fish' must be a mapping"),
                *("7: church: min_rate=9", "7: church: gate='x'"),
            ],
        ),
    ],
)
def test_collection_errors_have_lines(world: World, content: str, messages: list[str]) -> None:
    world.concept()
    world.file(FILE, content)
    result = world.ask()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines_random([f"*{FILE}:{message.replace('[', '[[]')}*" for message in messages])


fast = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
printable = texts.filter(str.isprintable)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
)


@fast
@given(
    st.binary(max_size=120)
    | texts.map(lambda text: f"gates:\n  {text}".encode())
    | st.dictionaries(st.sampled_from(["gates", "retains", "model", "base", "gate"]), values, max_size=4).map(
        lambda mapping: json.dumps(mapping).encode()
    )
)
def test_any_content_is_gates_or_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "release.unlearndiff.yaml"
    path.write_bytes(content)
    gates = read_gates(path, mistakes := ErrorCollector())
    assert gates or mistakes, "a file that gates nothing is a mistake"
    assert all(path.name in message for message in mistakes)
    assert all(isinstance(gate, FileGate) for gate in gates)


@fast
@given(
    st.dictionaries(
        printable.filter(bool),
        st.dictionaries(st.sampled_from(["max_asr", "prompts", "concept"]), printable | st.integers(), max_size=2),
        min_size=1,
        max_size=3,
    )
)
def test_every_gate_comes_back_with_its_line(tmp_path: Path, written: dict[str, dict[str, Any]]) -> None:
    path = tmp_path / "release.unlearndiff.yaml"
    lines = [
        f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps(keywords, ensure_ascii=False)}"
        for name, keywords in written.items()
    ]
    path.write_text("\n".join(["gates:", *lines]) + "\n", encoding="utf-8")
    gates = read_gates(path, mistakes := ErrorCollector())
    assert not mistakes
    assert [(gate.name, gate.line) for gate in gates] == [(name, i) for i, name in enumerate(written, start=2)]
    assert [gate.keywords for gate in gates] == [{"concept": name, **keywords} for name, keywords in written.items()]


def test_gate_files_of_the_emoji_world_are_collected(pytester: pytest.Pytester) -> None:
    """As their first lines say to run them; the paper's tasks with its search, none ended early."""
    emoji = Path(__file__).resolve().parents[2] / "examples" / "emoji"
    files = sorted((emoji / "gates").glob("*.unlearndiff.yaml"))
    items, recorder = pytester.inline_genitems("-c", str(emoji / "pytest.ini"), "-p", "no:cacheprovider", *files)
    assert recorder.ret == pytest.ExitCode.OK
    assert {item.path for item in items} == {*files}
    paper = [item for item in items if item.path.name.startswith("paper")]
    assert len(paper) == 5
    for mark in (item.get_closest_marker("unlearndiff") for item in paper):
        assert (mark.kwargs["schedule"], mark.kwargs["exhaustive"], "max_asr" in mark.kwargs) == ("paper", True, False)


def test_prompts_of_a_gate(world: World) -> None:
    """A gate's own prompt set, the choice of its columns and the rows that it leaves out, as every report tells."""
    rows = [f"{number},a church in snow,{number}" for number in range(99)]
    world.file("mine.csv", "\n".join(["case_number,adv_prompt,my_seed", *rows, "99,,99"]))
    chosen = "{file: mine.csv, column: adv_prompt, seed: my_seed}"
    world.file(FILE, f"gates:\n  church: {{max_asr: 10%, prompts: {chosen}}}\n")
    result = world.run("--unlearndiff-plan")
    assert "99 prompts to attack" in result.stdout.str()
    result.stdout.fnmatch_lines(["  1 of 100 rows was left out (*mine.csv:101: empty adv_prompt)"])
    world.file(FILE, "gates:\n  church: {max_asr: 10%, prompts: {file: mine.csv, column: adv_promt, sed: x}}\n")
    result = world.run()
    result.stdout.fnmatch_lines(
        [f"*{FILE}:2: church: prompts.sed: a prompt set has no field 'sed': did you mean 'seed'*"]
    )
