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


def output(result: pytest.RunResult) -> list[str]:
    """Output without what names plugins, folders or times."""
    lines = [re.sub(r"in \d+\.\d+s", "in TIME", line) for line in result.outlines + result.errlines]
    noise = r"plugins: |created: |\d+ workers|bringing up"
    lines = [line for line in lines if not re.match(noise, line)]
    return [re.sub(r"0x[0-9a-f]+|runpytest-\d+|=+", "", line) for line in lines]


@pytest.mark.parametrize(
    ("arguments", "ini"),
    [
        *(((), ()), (("-rA", "-v"), ()), (("-q",), ()), (("-x",), ()), (("-n2", "-q"), ())),
        *((("--collect-only",), ()), (("--setup-plan",), ()), (("-k", "nothing_of_that_name"), ())),
        *((("-p", f"no:{plugin}"), ()) for plugin in ("terminal", "cacheprovider", "capture")),
        # A repository's ini names the model; its other tests do not hear of it.
        ((), ("unlearndiff_model = model.safetensors", "unlearndiff_base = base")),
    ],
)
def test_output_and_files_are_the_same(world: World, arguments: tuple[str, ...], ini: tuple[str, ...]) -> None:
    world.apart = True  # these sessions print nothing of the process they run in
    # One test where processes would race for the order of failures.
    world.tests("def test_pass(): pass" if "-n2" in arguments else SUITE)
    before = world.files()
    without = world.bare("-p", "no:unlearndiff", *arguments)
    assert world.files() == before
    world.ini(*ini)
    before = world.files()
    result = world.bare(*arguments)
    assert output(result) == output(without)
    assert result.ret == without.ret
    assert world.files() == before


def test_marker_of_another_name(world: World) -> None:
    world.ini("markers = unlearn: of another project")
    assert world.bare().ret == pytest.ExitCode.NO_TESTS_COLLECTED
    world.tests("@pytest.mark.unlearn('church', max_asr=10)\ndef test_other(): pass")
    assert world.bare("--strict-markers").ret == 0
