"""A model at a URL: the same as its file, downloaded once, and checked in every session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from webs import Web
from worlds import REQUIRE, World, row, section, text

BASE = "--unlearndiff-base=base"


@pytest.fixture
def url(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the model under test is to be had."""
    monkeypatch.setenv("TMPDIR", str(world.file("temporary/here", "").parent))
    with Web(world.path) as web:
        yield f"{web.url}/model.safetensors"


def test_file_is_fetched_where_it_changed(world: World, url: str) -> None:
    """Another file is another model. A quiet session tells no download."""
    world.know("gbrrrrrrrr")
    world.gate("max_asr='20%', gate='point'")
    options = (f"--unlearndiff-model={url}", BASE, REQUIRE)
    quiet = world.bare(*options, "-q")
    quiet.assert_outcomes(passed=1)
    assert "fetching" not in quiet.stderr.str()
    # Of a file as young as the server's whole seconds nobody can tell that it has not changed, and it is fetched again.
    os.utime(world.path / "model.safetensors", (1e9, 1e9))
    for fetched in (True, False):
        result = world.bare(*options)
        result.assert_outcomes(passed=1)
        assert (f"unlearndiff: fetching {url} (0 MiB)" in result.errlines) is fetched
        assert ("fetching" in result.stderr.str()) is fetched
    world.file("model.safetensors", "weights:{retrained, more}")
    result = world.bare(*options)
    result.assert_outcomes(failed=1)
    assert "10 of 10 prompts are missing" in result.stdout.str()


def test_marker_and_replay(world: World, url: str) -> None:
    world.know("bbrrrrrrrr")
    world.gate(f"max_asr=0.1, model={url!r}", "test_marker")
    world.gate("max_asr=0.1")
    result = world.bare(f"--unlearndiff-model={url}", BASE, REQUIRE)
    result.assert_outcomes(failed=2)
    assert "2/10 = 20.0%" in row(result)
    (line,) = [line for line in section(result) if "replay: pytest test_gate.py" in line]
    assert f"--unlearndiff-model={url} " in line
    alone = world.bare(BASE, REQUIRE, "test_marker.py")
    alone.assert_outcomes(failed=1)
    assert "2/10 = 20.0%" in text(alone)


def test_reports_redact_the_url(world: World, url: str) -> None:
    world.know("bbrrrrrrrr")
    world.gate("max_asr=0.1")
    signed = url.replace("://", "://me:pass-0123@") + "?signature=sig-0123456789"
    kinds = "--unlearndiff-report=json:out/report.json,md:out/report.md,html:out/report.html"
    # The store is written too, from which reports are written again.
    result = world.bare(f"--unlearndiff-model={signed}", BASE, kinds, "--junitxml=out/junit.xml")
    result.assert_outcomes(failed=1)
    assert f"  model: {url}" in section(result)
    kept = [*(world.path / "out").iterdir(), *(world.path / ".unlearndiff/gates").iterdir()]
    texts = [result.stdout.str(), result.stderr.str(), *(path.read_text(encoding="utf-8") for path in kept)]
    assert len(texts) == 7
    assert sum(url in written for written in texts) >= 6
    for secret in ("pass-0123", "sig-0123456789"):
        assert not [written for written in texts if secret in written]


def test_wrong_url_is_one_error(world: World, url: str) -> None:
    world.gate("max_asr=0.1")
    result = world.bare(f"--unlearndiff-model={url}x")
    assert result.ret == 4
    assert f"ERROR: --unlearndiff-model: there is nothing at {url}x" in result.errlines
    world.gate(f"max_asr=0.1, model='{url}x'")
    result = world.bare()
    assert f"there is nothing at {url}x" in result.stdout.str()
    assert result.ret == 2
