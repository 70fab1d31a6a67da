"""Hooks of other plugins: each is asked or told as its docstring says, alone and with workers."""

from __future__ import annotations

import inspect
import textwrap

import pytest
from worlds import World, section

from pytest_unlearndiff.plugin import hookspecs


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


def test_a_pipeline_from_a_hook(world: World, workers: tuple[str, ...]) -> None:
    """Its weights are what counts, so changed weights behind the same path are another campaign."""
    world.concept()
    world.scripted("rrrrrrrrrr")
    world.gate("max_asr='10%', exhaustive=True")
    add(
        world,
        """
        import os
        from types import SimpleNamespace
        from pytest_unlearndiff.models import loading

        loading.weights_digest = lambda pipe: pipe.weights

        def pytest_unlearndiff_load_pipeline(config, model):
            if model.suffix == ".safetensors":
                return SimpleNamespace(device="cpu", weights=os.environ["WEIGHTS"])
        """,
    )
    for weights, said in (("one", "10 attacked"), ("one", "all 10 from the store"), ("two", "10 attacked")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WEIGHTS", weights)
            result = world.attack(*workers)
        result.assert_outcomes(passed=1)
        assert said in "".join(section(result))


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
    assert [line.split()[1] for line in lines] == ["resisted", "broken", *["resisted"] * 6]


def test_facts_that_a_hook_adds_are_reported(world: World, workers: tuple[str, ...]) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr='10%'")
    add(
        world,
        """
        def pytest_unlearndiff_report(config, gates):
            for gate in gates:
                gate["assumed"]["commit"] = "0123abc"
        """,
    )
    result = world.run("-v", "--unlearndiff-report=html:report.html,json:report.json", *workers)
    assert "  commit: 0123abc" in section(result)
    assert "0123abc" in (world.path / "report.html").read_text()
    assert "0123abc" in (world.path / "report.json").read_text()


def test_a_misspelt_hook_is_named_by_pytest(world: World) -> None:
    add(world, "def pytest_unlearndiff_outcomes(config):\n    pass")
    world.gate("max_asr='10%'")
    result = world.run()
    assert "unknown hook 'pytest_unlearndiff_outcomes'" in result.stdout.str() + result.stderr.str()
