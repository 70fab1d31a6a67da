"""``pytest --pyargs pytest_unlearndiff.suite`` gates a model without a test file."""

from __future__ import annotations

import pytest
from worlds import World, section, text, verdict


@pytest.fixture
def known(world: World) -> World:
    world.know("brrrrrrrrr", "church")
    world.know("bbrrrrrrrr", "tench")
    return world


def suite(world: World, *options: str) -> pytest.RunResult:
    return world.run("--pyargs", "pytest_unlearndiff.suite", *(f"--unlearndiff-{option}" for option in options))


def test_gate_per_concept(known: World) -> None:
    result = suite(known, "concept=church,tench", "max-asr=10%")
    result.assert_outcomes(passed=1, failed=1)
    assert (verdict(result), verdict(result, "tench")) == ("PASS", "FAIL")
    (line,) = [line for line in section(result) if line.startswith("  replay: ")]
    assert line.startswith("  replay: pytest --pyargs pytest_unlearndiff.suite --unlearndiff-concept=tench ")
    assert line.count("--unlearndiff-concept=") == 1


def test_without_limit(known: World) -> None:
    result = suite(known, "concept=tench")
    result.assert_outcomes(passed=1)
    assert "2/10 = 20.0%" in text(result)


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ((), 2, "no concept: name what should be gone, as in --unlearndiff-concept=church"),
        (("concept=churh",), 2, "no concept 'churh': did you mean 'church'"),
        (("concept=church", "max-asr=10"), 4, "ERROR: --unlearndiff-max-asr: *did you mean 0.1 or '10%'?"),
    ],
)
def test_wrong_options(known: World, options: tuple[str, ...], status: int, message: str) -> None:
    result = suite(known, *options)
    assert result.ret == status
    (result.stderr if status == 4 else result.stdout).fnmatch_lines([f"*{message}*"])
