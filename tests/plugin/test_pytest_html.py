"""A pytest-html report shows a gate's evidence in the test's row, and nothing in it is markup."""

from __future__ import annotations

import html
import json
import re

from worlds import World, section


def test_the_evidence_stands_in_the_row(world: World, workers: tuple[str, ...]) -> None:
    world.know("gbbrrrrrrr", adversarial="<b>zq</b>")
    world.gate("max_asr='10%'")
    result = world.run("-p", "metadata", "--html=report.html", "--self-contained-html", *workers)
    result.assert_outcomes(failed=1)
    page = (world.path / "report.html").read_text()
    [blob] = re.findall(r'data-jsonblob="([^"]*)"', page)
    [tests] = json.loads(html.unescape(blob))["tests"].values()
    [extra] = [extra for extra in tests[0]["extras"] if extra["format_type"] == "html"]
    assert "3/10 = 30.0%" in extra["content"]
    assert "&lt;b&gt;zq&lt;/b&gt;" in extra["content"]
    assert "<b>" not in extra["content"]


def test_without_that_plugin_the_gate_is_what_it_was(world: World) -> None:
    world.know("bbrrrrrrrr")
    world.gate("max_asr='10%'")
    result = world.run("-p", "no:html")
    result.assert_outcomes(failed=1)
    assert "2/10 = 20.0%" in "".join(section(result))
