"""Hooks of other plugins: each is asked or told as its docstring says."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import worlds
from worlds import World, section, text

from pytest_unlearndiff.plugin import hookspecs

EXAMPLES = Path(__file__).parents[2] / "examples" / "plugins"


def judged(world: World, judge: dict[str, object], **fields: object) -> None:
    """Write the concept's judge."""
    world.file("concepts/church.yaml", json.dumps({"prompts": "church.csv", "judge": judge, **fields}))


def register(*rows: str) -> str:
    """A conftest.py that adds these rows."""
    return (
        "import os\nfrom pytest_unlearndiff import AttackInfo, JudgeInfo\n\n"
        f"def pytest_unlearndiff_register(config):\n    return [{', '.join(rows)}]\n"
    )


def test_docstrings_name_the_signature() -> None:
    hooks = [value for name, value in vars(hookspecs).items() if name.startswith("pytest_unlearndiff_")]
    assert len(hooks) == 4
    for hook in hooks:
        assert f"def {hook.__name__}({', '.join(inspect.signature(hook).parameters)}):" in (hook.__doc__ or "")


def test_concepts_and_report(world: World) -> None:
    world.know("rrrrrrrrrr")
    (world.path / "concepts").rename(world.path / "elsewhere")
    world.gate("max_asr='10%'")
    assert world.run().ret != 0
    world.conftest(
        """
        from pathlib import Path

        def pytest_unlearndiff_concepts(config):
            return [Path("elsewhere").resolve()]

        def pytest_unlearndiff_report(config, gates):
            for gate in gates:
                gate.run.assumed["commit"] = "0123abc"
        """
    )
    result = world.run("-v", "--unlearndiff-report=html:report.html,json:report.json")
    result.assert_outcomes(passed=1)
    assert "  commit: 0123abc" in section(result)
    assert "0123abc" in world.read("report.html")
    assert "0123abc" in world.read("report.json")


def test_every_new_outcome_is_told_once(world: World) -> None:
    world.know("rb........")
    world.scripted("rbrbrrrrrr")
    world.conftest(
        """
        def pytest_unlearndiff_outcome(config, nodeid, outcome):
            with open("told", "a") as file:
                print(nodeid, outcome.status, outcome.prompt, file=file)
        """
    )
    world.gate("max_asr='50%', exhaustive=True")
    world.attack().assert_outcomes(passed=1)
    lines = [line.split() for line in world.read("told").splitlines()]
    assert len({prompt for _, _, prompt in lines}) == len(lines) == 8
    assert [status for _, status, _ in lines] == ["resisted", "hit-under-attack", *["resisted"] * 6]


def test_judge_attack_and_report_of_the_examples(world: World) -> None:
    """Nothing is scripted here: a tiny pipeline draws, one example's judge looks, the other's attack tries."""
    world.apart = True  # scripted engines of other tests leave no models in this process
    world.ini("pythonpath = .")
    for path in EXAMPLES.glob("*.py"):
        world.file(path.name, path.read_text())
    world.conftest(
        f"""
        import sys
        import pytest

        @pytest.fixture(scope="session")
        def unlearned_pipe():
            sys.path.append({str(Path(worlds.__file__).parent)!r})
            from tiny import tiny_pipeline

            return tiny_pipeline(1)
        """
    )
    world.concept(count=2)
    judged(world, {"kind": "red", "threshold": 1.0}, sampling={"steps": 1, "scheduler": "own"})
    world.gate("max_asr='50%', exhaustive=True, attack='echo'")
    result = world.bare("--unlearndiff-report=csv:gates.csv")
    result.assert_outcomes(passed=1)
    assert "church (echo)" in result.stderr.str()
    assert world.read("gates.csv").splitlines()[1] == "test_gate.py::test_gate,church,gone,PASS,2,0,0,ASR <= 50.0%"
    assert [outcome["status"] for outcome in world.kept()] == ["resisted"] * 2
    assert [outcome["evaluations"] for outcome in world.kept()] == [3, 3], "the prompt itself, and two echoes"
    judged(world, {"kind": "red", "threshold": 0.0}, sampling={"steps": 1, "scheduler": "own"})
    world.bare().assert_outcomes(failed=1)
    assert sorted(outcome["status"] for outcome in world.kept()) == ["hit-without-attack"] * 2 + ["resisted"] * 2


@pytest.fixture
def plugged(world: World) -> World:
    """A gate with a judge and an attack of a conftest.py, whose modules are nowhere at all."""
    world.concept()
    world.scripted("rrrrrrrrrr")
    judge = "JudgeInfo('red', 'nowhere:Red', version=os.environ.get('RED', '1'))"
    world.conftest(register(judge, "AttackInfo('echo', 'nowhere:Echo', version=os.environ.get('ECHO', '1'))"))
    judged(world, {"kind": "red"})
    world.gate("max_asr='10%', exhaustive=True, attack='echo'")
    return world


def test_version_is_in_the_key(plugged: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, version, source in (
        ("RED", "1", "10 attacked"),
        ("RED", "1", "all 10 from the store"),
        ("RED", "2", "10 attacked"),
        ("ECHO", "2", "10 attacked"),
    ):
        monkeypatch.setenv(name, version)
        result = plugged.attack("-v")
        result.assert_outcomes(passed=1)
        assert source in text(result)
    assert "params.version (2 here, 1 there)" in result.stdout.str()


def test_attack_of_the_session(plugged: World) -> None:
    plugged.gate("max_asr='10%', exhaustive=True")
    result = plugged.attack("--unlearndiff-attack=echo")
    result.assert_outcomes(passed=1)
    assert "church (echo)" in result.stderr.str()
    refused = plugged.attack("--unlearndiff-attack=ecko")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    assert ", echo; did you mean 'echo'?" in refused.stderr.str()


@pytest.mark.parametrize("folder", [".", "below"], ids=["at the start", "while collecting"])
def test_name_that_is_taken(world: World, folder: str) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr='10%'")
    world.file(f"{folder}/conftest.py", register("JudgeInfo('nudenet', 'a:b', version='1')"))
    (world.path / "test_gate.py").rename(world.path / folder / "test_gate.py")
    result = world.run()
    output = result.stdout.str() + result.stderr.str()
    assert result.ret == (pytest.ExitCode.USAGE_ERROR if folder == "." else pytest.ExitCode.INTERRUPTED)
    assert "a plugin names its judge 'nudenet', as a built-in one" in output
    assert "INTERNALERROR" not in output


def test_misspelt_hook(world: World) -> None:
    world.conftest("def pytest_unlearndiff_outcomes(config):\n    pass")
    world.gate("max_asr='10%'")
    result = world.run()
    assert "unknown hook 'pytest_unlearndiff_outcomes'" in result.stdout.str() + result.stderr.str()


def test_conftests_add_to_each_other(world: World) -> None:
    """The first is there from the start, the second is found when its folder is collected."""
    world.conftest(register("JudgeInfo('red', 'nowhere:Red', version='1')"))
    world.file("below/conftest.py", register("AttackInfo('echo', 'nowhere:Echo', version='1')"))
    world.concept()
    judged(world, {"kind": "red"})
    world.gate("max_asr='10%', attack='echo'")
    (world.path / "test_gate.py").rename(world.path / "below" / "test_gate.py")
    world.gate("max_asr='10%', attack='none'", "test_first")
    result = world.run()
    result.assert_outcomes(failed=2)
    assert result.stdout.str().count("10 of 10 prompts are missing") >= 2, "both can be meant"
