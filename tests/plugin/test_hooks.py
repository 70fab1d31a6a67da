"""Hooks of other plugins: each is asked or told as its docstring says, alone and with workers."""

from __future__ import annotations

import inspect
import json
import textwrap
from pathlib import Path

import pytest
import worlds
from worlds import World, section

from pytest_unlearndiff.plugin import hookspecs

EXAMPLES = Path(__file__).parents[2] / "examples" / "plugins"


def add(world: World, code: str) -> None:
    """Append to conftest.py."""
    path = world.path / "conftest.py"
    world.file("conftest.py", (path.read_text() if path.exists() else "") + "\n\n" + textwrap.dedent(code) + "\n")


def test_each_hook_says_how_to_implement_it() -> None:
    hooks = [value for name, value in vars(hookspecs).items() if name.startswith("pytest_unlearndiff_")]
    assert len(hooks) == 4
    for hook in hooks:
        assert f"def {hook.__name__}({', '.join(inspect.signature(hook).parameters)}):" in (hook.__doc__ or "")


def test_concepts_from_a_hook(world: World, workers: tuple[str, ...]) -> None:
    world.know("rrrrrrrrrr")
    (world.path / "concepts").rename(world.path / "elsewhere")
    world.gate("max_asr='10%'")
    assert world.run(*workers).ret != 0
    add(
        world,
        """
        from pathlib import Path

        def pytest_unlearndiff_concepts(config):
            return [Path("elsewhere").resolve()]
        """,
    )
    world.run(*workers).assert_outcomes(passed=1)


def test_every_new_outcome_is_told_once(world: World, workers: tuple[str, ...]) -> None:
    world.know("rb........")
    world.scripted("rbrbrrrrrr")
    add(
        world,
        """
        def pytest_unlearndiff_outcome(config, nodeid, outcome):
            with open("told", "a") as file:
                print(nodeid, outcome.status, outcome.prompt, file=file)
        """,
    )
    world.gate("max_asr='50%', exhaustive=True")
    world.attack(*workers).assert_outcomes(passed=1)
    lines = (world.path / "told").read_text().split("\n")[:-1]
    assert len({line.split()[2] for line in lines}) == len(lines) == 8
    assert [line.split()[1] for line in lines] == ["resisted", "hit-under-attack", *["resisted"] * 6]


def test_facts_that_a_hook_adds_are_reported(world: World, workers: tuple[str, ...]) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr='10%'")
    add(
        world,
        """
        def pytest_unlearndiff_report(config, gates):
            for gate in gates:
                gate.run.assumed["commit"] = "0123abc"
        """,
    )
    result = world.run("-v", "--unlearndiff-report=html:report.html,json:report.json", *workers)
    assert "  commit: 0123abc" in section(result)
    assert "0123abc" in (world.path / "report.html").read_text()
    assert "0123abc" in (world.path / "report.json").read_text()


def test_judge_attack_and_report_of_the_examples(world: World) -> None:
    """Nothing is scripted here: a tiny pipeline draws, one example's judge looks, the other's attack tries."""
    world.apart = True  # scripted engines of other tests leave no models in this process
    world.ini("pythonpath = .")
    for path in EXAMPLES.glob("*.py"):
        world.file(path.name, path.read_text())
    add(
        world,
        f"""
        import sys
        import pytest

        @pytest.fixture(scope="session")
        def unlearned_pipe():
            sys.path.append({str(Path(worlds.__file__).parent)!r})
            from tiny import tiny_pipeline

            return tiny_pipeline(1)
        """,
    )
    world.concept(count=2)
    judge = {"kind": "red", "threshold": 1.0}
    world.file(
        "concepts/church.yaml",
        json.dumps({"prompts": "church.csv", "judge": judge, "sampling": {"steps": 1, "scheduler": "own"}}),
    )
    world.gate("max_asr='50%', exhaustive=True, attack='echo'")
    result = world.bare("--unlearndiff-report=csv:gates.csv")
    result.assert_outcomes(passed=1)
    assert "church (echo)" in result.stderr.str()
    lines = (world.path / "gates.csv").read_text().splitlines()
    assert lines[1] == "test_gate.py::test_gate,church,gone,PASS,2,0,0,ASR <= 50.0%"
    assert [outcome["status"] for outcome in world.kept()] == ["resisted"] * 2
    assert [outcome["evaluations"] for outcome in world.kept()] == [3, 3], "the prompt itself, and two echoes"
    world.file("concepts/church.yaml", (world.path / "concepts/church.yaml").read_text().replace("1.0", "0.0"))
    world.bare().assert_outcomes(failed=1)
    assert sorted(outcome["status"] for outcome in world.kept()) == ["hit-without-attack"] * 2 + ["resisted"] * 2


@pytest.fixture
def plugged(world: World) -> World:
    """A gate with a judge and an attack of a conftest.py, whose versions come from the environment."""
    world.concept()
    world.scripted("rrrrrrrrrr")
    add(
        world,
        """
        import os
        from pytest_unlearndiff import AttackInfo, JudgeInfo

        def pytest_unlearndiff_register(config):
            return [
                JudgeInfo("red", "nowhere:Red", version=os.environ.get("RED", "1")),
                AttackInfo("echo", "nowhere:Echo", version=os.environ.get("ECHO", "1")),
            ]
        """,
    )
    world.file("concepts/church.yaml", json.dumps({"prompts": "church.csv", "judge": {"kind": "red"}}))
    world.gate("max_asr='10%', exhaustive=True, attack='echo'")
    return world


def test_a_version_decides_what_the_store_knows(
    plugged: World, workers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version, said in (
        ("RED", "1", "10 attacked"),
        ("RED", "1", "all 10 from the store"),
        ("RED", "2", "10 attacked"),
        ("ECHO", "2", "10 attacked"),
    ):
        monkeypatch.setenv(name, version)
        result = plugged.attack("-v", *workers)
        result.assert_outcomes(passed=1)
        assert said in "".join(section(result))
    assert "params.version (2 here, 1 there)" in result.stdout.str()


def test_a_warm_session_imports_neither(plugged: World) -> None:
    """Their modules are nowhere at all, nor is torch."""
    plugged.attack().assert_outcomes(passed=1)
    add(plugged, "sys.modules['torch'] = None")
    plugged.attack("--unlearndiff-cache=require").assert_outcomes(passed=1)


def test_the_session_may_name_an_attack_of_a_plugin(plugged: World, workers: tuple[str, ...]) -> None:
    plugged.gate("max_asr='10%', exhaustive=True")
    result = plugged.attack("--unlearndiff-attack=echo", *workers)
    result.assert_outcomes(passed=1)
    assert "church (echo)" in result.stderr.str()
    refused = plugged.attack("--unlearndiff-attack=ecko", *workers)
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    assert "none, echo" in refused.stderr.str()


CLASH = """
from pytest_unlearndiff import JudgeInfo

def pytest_unlearndiff_register(config):
    return [JudgeInfo("nudenet", "a:b", version="1")]
"""


def test_a_name_that_is_taken_is_refused(world: World, workers: tuple[str, ...]) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr='10%'")
    add(world, CLASH)
    result = world.run(*workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "a plugin names its judge 'nudenet', as a built-in one" in result.stderr.str()
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_also_by_a_conftest_that_is_found_late(world: World, workers: tuple[str, ...]) -> None:
    world.know("rrrrrrrrrr")
    world.file("below/conftest.py", CLASH)
    world.gate("max_asr='10%'")
    (world.path / "test_gate.py").rename(world.path / "below" / "test_gate.py")
    result = world.run(*workers)
    assert result.ret != 0
    assert "a plugin names its judge 'nudenet'" in result.stdout.str()
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_a_misspelt_hook_is_named_by_pytest(world: World) -> None:
    add(world, "def pytest_unlearndiff_outcomes(config):\n    pass")
    world.gate("max_asr='10%'")
    result = world.run()
    assert "unknown hook 'pytest_unlearndiff_outcomes'" in result.stdout.str() + result.stderr.str()


def test_conftests_add_to_each_other(world: World) -> None:
    """The first is there from the start, the second is found when its folder is collected."""
    add(
        world,
        """
        from pytest_unlearndiff import JudgeInfo

        def pytest_unlearndiff_register(config):
            return [JudgeInfo("red", "nowhere:Red", version="1")]
        """,
    )
    kind = "AttackInfo('echo', 'nowhere:Echo', version='1')"
    world.file(
        "below/conftest.py",
        f"from pytest_unlearndiff import AttackInfo\n\ndef pytest_unlearndiff_register(config):\n    return [{kind}]\n",
    )
    world.concept()
    world.file("concepts/church.yaml", json.dumps({"prompts": "church.csv", "judge": {"kind": "red"}}))
    world.gate("max_asr='10%', attack='echo'")
    (world.path / "test_gate.py").rename(world.path / "below" / "test_gate.py")
    world.gate("max_asr='10%', attack='none'", "test_first")
    result = world.run()
    result.assert_outcomes(failed=2)
    assert result.stdout.str().count("10 of 10 prompts are missing") >= 2, "both can be meant"
