"""Gates beside other plugins of pytest: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import html
import json
import re

import pytest
from worlds import World, section, text, verdict


@pytest.fixture
def failing(world: World) -> World:
    """A gate that is exceeded at its fourth prompt, each of which takes a while."""
    world.concept()
    world.scripted("rbrbrrrrrr", seconds=0.1)
    world.gate("max_asr='10%'")
    return world


def test_rerunfailures(failing: World) -> None:
    result = failing.attack("-p", "rerunfailures", "--reruns=2")
    assert result.parseoutcomes() == {"failed": 1, "rerun": 2}
    assert len([line for line in section(result) if line.startswith("church ")]) == 1
    assert "4 from the store, 6 not needed" in text(result)


def test_timeout(failing: World) -> None:
    """Long enough for a slow machine to finish a prompt, and far too short for all of them."""
    failing.concept(count=1000)
    failing.scripted("r" * 1000, seconds=0.2)
    result = failing.attack("--timeout=3", "-o", "timeout_method=signal")
    result.assert_outcomes(failed=1)
    assert verdict(result) == "INCOMPLETE"
    kept = len(failing.kept())
    assert 0 < kept < 1000
    assert f"{kept} of 1000" in result.stdout.str() or f"{1000 - kept} missing" in result.stdout.str()


def test_randomly(failing: World) -> None:
    failing.gate("max_asr='50%'", "test_other")
    result = failing.attack("-p", "randomly", "-p", "no:xdist")
    result.assert_outcomes(passed=1, failed=1)
    # Seven were attacked, and for the pass the un-attacked images of the others drawn.
    assert len(failing.kept()) == 10


def test_cov(failing: World) -> None:
    result = failing.attack("-W", "default", "--cov=.", "--cov-report=")
    result.assert_outcomes(failed=1)
    assert verdict(result) == "FAIL"


def test_html(world: World) -> None:
    """The evidence stands in the test's row, and nothing in it is markup."""
    world.know("gbbrrrrrrr", adversarial="<b>zq</b>")
    world.gate("max_asr='10%'")
    result = world.run("-p", "metadata", "--html=report.html", "--self-contained-html")
    result.assert_outcomes(failed=1)
    assert verdict(result) == "FAIL"
    [blob] = re.findall(r'data-jsonblob="([^"]*)"', world.read("report.html"))
    [tests] = json.loads(html.unescape(blob))["tests"].values()
    [extra] = [extra for extra in tests[0]["extras"] if extra["format_type"] == "html"]
    assert "3/10 = 30.0%" in extra["content"]
    assert "&lt;b&gt;zq&lt;/b&gt;" in extra["content"]
    assert "<b>" not in extra["content"]


@pytest.mark.parametrize("plugin", ["terminal", "cacheprovider", "capture", "html"])
def test_without_plugin(failing: World, plugin: str) -> None:
    assert failing.attack("-p", f"no:{plugin}").ret == 1
    assert len(failing.kept()) == 4


@pytest.mark.parametrize("question", ["--setup-plan", "--setup-only", "--collect-only"])
def test_nothing_is_attacked(failing: World, question: str) -> None:
    assert failing.attack(question).ret == 0
    assert failing.kept() == []
