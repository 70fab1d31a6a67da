"""Checks of pages in Markdown: their examples can be read, name what there is, and print what they say."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import yaml

from pytest_unlearndiff.__main__ import COMMANDS
from pytest_unlearndiff.plugin.options import OPTIONS, add_options

_VARIABLE = re.compile(r"\d+ attacked in \S+ \([\d,]+ network forwards computed\)|\d+ from the store")


def fences(text: str) -> list[tuple[str, str]]:
    """Return the fenced blocks, each with its language, which may be empty."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return [body for name, body in fences(text) if name == language]


def problems(path: Path, text: str) -> list[str]:
    """List what is wrong on a page."""
    return [*_unreadable(text), *_unknown_names(text), *_dead_links(path, text)]


def _unreadable(text: str) -> Iterator[str]:
    for code in blocks(text, "python"):
        try:
            ast.parse(code)
        except SyntaxError as error:
            yield f"{error}: {code}"
    for code in blocks(text, "yaml"):
        if not isinstance(yaml.safe_load(code), dict):
            yield f"no mapping: {code}"


def _unknown_names(text: str) -> Iterator[str]:
    parser = pytest.Parser(_ispytest=True)
    add_options(parser)
    flags = {name for option in parser.getgroup("unlearndiff").options for name in option.names()}
    yield from (flag for flag in re.findall(r"--unlearndiff-[a-z-]+", text) if flag not in flags)
    settings = {option.ini for option in OPTIONS}
    for block in blocks(text, "ini"):
        yield from (name for name in re.findall(r"^(unlearndiff_\w+)", block, re.MULTILINE) if name not in settings)
    for line in re.findall(r"python -m pytest_unlearndiff ([a-z][^`\n]*)", text):
        yield from _command_problems(line)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _command_problems(line: str) -> Iterator[str]:
    """Tell what the program would refuse in a command line; one without arguments only names the command."""
    name, *arguments = shlex.split(line)
    command = next((command for command in COMMANDS if command.name == name), None)
    if command is None:
        yield line
    elif arguments:
        parser = _Parser()
        command.add_arguments(parser)
        try:
            parser.parse_args(arguments)
        except ValueError as error:
            yield f"{line}: {error}"


def _dead_links(path: Path, text: str) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in link and not (path.parent / link).exists():
            yield f"{path.name}: {link}"


def follow(pytester: pytest.Pytester, text: str) -> None:
    """Do what a page says, in its order: write the files it shows, run its commands, and look for what they print."""
    for language, block in fences(text):
        if language == "console":
            command, _, expected = block.removeprefix("$ ").partition("\n")
            check_output(pytester, command, expected)
        elif named := re.match(r"# ([\w./-]+\.\w+)(, continued)?\n", block):
            with (pytester.path / named[1]).open("a" if named[2] else "w", encoding="utf-8") as file:
                file.write(f"\n\n{block}" if named[2] else block)


def check_output(pytester: pytest.Pytester, command: str, expected: str) -> None:
    """Run pytest in this process, and look for each expected line in what it prints; durations may differ."""
    program, *arguments = shlex.split(command)
    assert program == "pytest"
    result = pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:cacheprovider", *arguments)
    printed = _VARIABLE.sub("#", result.stdout.str())
    assert [line for line in expected.split("\n") if _VARIABLE.sub("#", line).strip() not in printed] == []
