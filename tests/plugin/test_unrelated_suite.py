"""In a suite without gates the plugin cannot be noticed: same output, same exit code, no files."""

from __future__ import annotations

import re

import pytest
from worlds import World

SUITE = """
import warnings

def test_pass(): pass

def test_fail(): assert 0.1 <= 0.05

def test_compare(): assert "5/50" == "6/50"

@pytest.mark.skip(reason="not today")
def test_skip(): pass

@pytest.mark.xfail
def test_xfail(): assert False

@pytest.fixture
def broken(): raise RuntimeError("setup")

def test_error(broken): pass
"""


@pytest.fixture
def world(world: World) -> World:
    world.apart = True  # these sessions print nothing of the process they run in
    return world


def told(result: pytest.RunResult) -> list[str]:
    """Output without what names plugins, folders or times."""
    lines = [re.sub(r"in \d+\.\d+s", "in TIME", line) for line in result.outlines + result.errlines]
    noise = r"plugins: |created: |\d+ workers|bringing up"
    lines = [line for line in lines if not re.match(noise, line)]
    return [re.sub(r"0x[0-9a-f]+|runpytest-\d+|=+", "", line) for line in lines]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-v",),
        ("-q",),
        ("-rA",),
        ("-n2", "-q"),
        ("--collect-only",),
        ("--setup-plan",),
        ("-x",),
        ("-p", "no:terminal"),
        ("-p", "no:cacheprovider"),
        ("-p", "no:capture"),
        ("-k", "nothing_of_that_name"),
    ],
    ids=" ".join,
)
def test_output_and_files_are_the_same(world: World, arguments: tuple[str, ...]) -> None:
    # One test where processes would race for the order of failures.
    world.tests("def test_pass(): pass" if "-n2" in arguments else SUITE)
    before = world.files()
    without = world.bare("-p", "no:unlearndiff", *arguments)
    with_it = world.bare(*arguments)
    assert told(with_it) == told(without)
    assert with_it.ret == without.ret
    assert world.files() == before


def test_an_empty_suite_is_still_no_tests(world: World) -> None:
    assert world.bare().ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_options_of_gates_say_nothing_where_there_are_none(world: World) -> None:
    """A repository's ini names the model; its other tests do not hear of it."""
    world.tests(SUITE)
    without = world.bare()
    world.ini("unlearndiff_model = model.safetensors", "unlearndiff_base = base")
    assert told(world.bare()) == told(without)


def test_a_suite_with_its_own_marker_of_another_name_is_left_alone(world: World) -> None:
    world.ini("markers = unlearn: of another project")
    world.tests("@pytest.mark.unlearn('church', max_asr=10)\ndef test_other(): pass")
    assert world.bare("--strict-markers").ret == 0
