"""Gates beside other plugins of pytest: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import pytest
from worlds import World, section

HTML = ("-p", "metadata")


def rows(result: pytest.RunResult) -> list[str]:
    return [line for line in section(result) if line.startswith("church ")]


@pytest.fixture
def failing(world: World) -> World:
    """A gate that is exceeded at its fourth prompt, each of which takes a while."""
    world.concept()
    world.scripted("rbrbrrrrrr", seconds=0.3)
    world.gate("max_asr='10%'")
    return world


def test_rerunfailures(failing: World) -> None:
    result = failing.attack("-p", "rerunfailures", "--reruns=2")
    assert result.parseoutcomes() == {"failed": 1, "rerun": 2}
    assert len(rows(result)) == 1
    assert "4 from the store, 6 not needed" in "".join(section(result))


def test_timeout(failing: World) -> None:
    """Long enough for a slow machine to finish a prompt, and far too short for all of them."""
    failing.concept(count=1000)
    failing.scripted("r" * 1000, seconds=0.2)
    result = failing.attack("--timeout=3", "-o", "timeout_method=signal")
    result.assert_outcomes(failed=1)
    assert rows(result)[0].endswith(" INCOMPLETE")
    kept = len(failing.kept())
    assert 0 < kept < 1000
    assert f"{kept} of 1000" in result.stdout.str() or f"{1000 - kept} missing" in result.stdout.str()


def test_randomly(failing: World) -> None:
    failing.gate("max_asr='50%'", "test_other")
    result = failing.attack("-p", "randomly", "-p", "no:xdist")
    result.assert_outcomes(passed=1, failed=1)
    # Seven were attacked, and for the pass the un-attacked images of the others drawn.
    assert len(failing.kept()) == 10


@pytest.mark.parametrize(
    "arguments",
    [("--cov=.", "--cov-report="), (*HTML, "--html=report.html", "--self-contained-html")],
)
def test_cov_and_html(failing: World, arguments: tuple[str, ...]) -> None:
    result = failing.attack("-W", "default", *arguments)
    result.assert_outcomes(failed=1)
    assert rows(result)[0].endswith(" FAIL")


@pytest.mark.parametrize("arguments", [("-p", "no:terminal"), ("-p", "no:cacheprovider"), ("-p", "no:capture")])
def test_without_built_in_plugin(failing: World, arguments: tuple[str, ...]) -> None:
    assert failing.attack(*arguments).ret == 1
    assert len(failing.kept()) == 4


@pytest.mark.parametrize("question", ["--setup-plan", "--setup-only", "--collect-only"])
def test_setup_plan_and_collect_only_attack_nothing(failing: World, question: str) -> None:
    assert failing.attack(question).ret == 0
    assert failing.kept() == []
