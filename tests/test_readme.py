"""README names every option, command, keyword and judge, and its examples are what they say they are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from pytest_unlearndiff.__main__ import COMMANDS
from pytest_unlearndiff.core.registry import registry
from pytest_unlearndiff.plugin.markers import ATTACK, RETENTION
from pytest_unlearndiff.plugin.options import OPTIONS, add_options

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
QUOTED = set(re.findall(r"`([^`\n]+)`", README))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("name", [option.name.replace("_", "-") for option in OPTIONS])
def test_every_option_has_its_place_in_the_table(name: str) -> None:
    table = README[README.index("## Options") : README.index("## Limits")]
    assert f"`{name}`" in table


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_is_told(name: str) -> None:
    assert any(quoted.split()[0] == name for quoted in QUOTED)


@pytest.mark.parametrize("name", sorted({*ATTACK.keywords, *RETENTION.keywords, *registry().judges}))
def test_every_keyword_and_judge_is_told(name: str) -> None:
    assert name in QUOTED


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples_are_python(code: str) -> None:
    ast.parse(code)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_examples_are_yaml(text: str) -> None:
    assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize("text", re.findall(r"--unlearndiff-[a-z-]+", README))
def test_no_option_is_told_that_there_is_not(text: str) -> None:
    parser = pytest.Parser(_ispytest=True)
    add_options(parser)
    declared = [name for option in parser.getgroup("unlearndiff").options for name in option.names()]
    assert text in declared
