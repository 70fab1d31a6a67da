"""``pytest --pyargs pytest_unlearndiff.suite`` gates a model without a test file."""

from __future__ import annotations

import pytest
from worlds import World, section

SUITE = ("--pyargs", "pytest_unlearndiff.suite")


@pytest.fixture
def known(world: World) -> World:
    world.know("brrrrrrrrr", "church")
    world.know("bbrrrrrrrr", "tench")
    return world


def test_gate_per_concept(known: World, workers: tuple[str, ...]) -> None:
    result = known.run(*SUITE, "--unlearndiff-concept=church,tench", "--unlearndiff-max-asr=10%", *workers)
    result.assert_outcomes(passed=1, failed=1)
    verdicts = {line.split()[0]: line.split()[-1] for line in section(result) if line.startswith(("church", "tench"))}
    assert verdicts == {"church": "PASS", "tench": "FAIL"}


def test_without_limit(known: World) -> None:
    result = known.run(*SUITE, "--unlearndiff-concept=tench")
    result.assert_outcomes(passed=1)
    assert any("2/10 = 20.0%" in line for line in section(result))


def test_without_concept(known: World) -> None:
    result = known.run(*SUITE)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*no concept: name what should be gone, as in --unlearndiff-concept=church"])


def test_unknown_concept(known: World) -> None:
    result = known.run(*SUITE, "--unlearndiff-concept=churh")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*no concept 'churh': did you mean 'church'*"])


def test_malformed_limit(known: World) -> None:
    result = known.run(*SUITE, "--unlearndiff-concept=church", "--unlearndiff-max-asr=10")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --unlearndiff-max-asr: *did you mean 0.1 or '10%'?"])


def test_replay(known: World) -> None:
    result = known.run(*SUITE, "--unlearndiff-concept=church,tench", "--unlearndiff-max-asr=10%")
    (line,) = [line for line in section(result) if line.startswith("  replay: ")]
    assert line.startswith("  replay: pytest --pyargs pytest_unlearndiff.suite --unlearndiff-concept=tench ")
    assert line.count("--unlearndiff-concept=") == 1
