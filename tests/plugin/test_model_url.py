"""A model at a URL: the same as its file, downloaded once, and checked in every session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from webs import Web
from worlds import REQUIRE, World, section


@pytest.fixture
def url(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the model under test is to be had."""
    monkeypatch.setenv("TMPDIR", str(world.file("temporary/here", "").parent))
    with Web(world.path) as web:
        yield f"{web.url}/model.safetensors"


def test_option(world: World, url: str, workers: tuple[str, ...]) -> None:
    world.know("gbrrrrrrrr")
    world.gate("max_asr='20%'")
    # Of a file as young as the server's whole seconds nobody can tell that it has not changed, and it is fetched again.
    os.utime(world.path / "model.safetensors", (1e9, 1e9))
    options = (f"--unlearndiff-model={url}", "--unlearndiff-base=base", REQUIRE, *workers)
    first = world.bare(*options)
    first.assert_outcomes(passed=1)
    assert f"unlearndiff: fetching {url} (0 MiB)" in first.errlines
    again = world.bare(*options)
    again.assert_outcomes(passed=1)
    assert "fetching" not in again.stderr.str()


def test_changed_file_is_another_model(world: World, url: str) -> None:
    world.know("gbrrrrrrrr")
    world.gate("max_asr='20%'")
    options = (f"--unlearndiff-model={url}", "--unlearndiff-base=base", REQUIRE)
    world.bare(*options).assert_outcomes(passed=1)
    Path(world.path / "model.safetensors").write_text("weights:{retrained, more}")
    result = world.bare(*options)
    result.assert_outcomes(failed=1)
    assert "10 of 10 prompts are missing" in result.stdout.str()


def test_replay_line(world: World, url: str) -> None:
    world.know("bbrrrrrrrr")
    world.gate("max_asr=0.1")
    result = world.bare(f"--unlearndiff-model={url}", "--unlearndiff-base=base", REQUIRE)
    result.assert_outcomes(failed=1)
    (line,) = [line for line in section(result) if "replay: " in line]
    assert f"--unlearndiff-model={url} " in line


def test_reports_redact_the_url(world: World, url: str) -> None:
    world.know("bbrrrrrrrr")
    world.gate("max_asr=0.1")
    signed = url.replace("://", "://me:pass-0123@") + "?signature=sig-0123456789"
    kinds = "--unlearndiff-report=json:out/report.json,md:out/report.md,html:out/report.html"
    # The store is written too, from which reports are written again.
    result = world.bare(f"--unlearndiff-model={signed}", "--unlearndiff-base=base", kinds, "--junitxml=out/junit.xml")
    result.assert_outcomes(failed=1)
    assert f"  model: {url}" in section(result)
    kept = [*(world.path / "out").iterdir(), *(world.path / ".unlearndiff/gates").iterdir()]
    said = [result.stdout.str(), result.stderr.str(), *(path.read_text(encoding="utf-8") for path in kept)]
    assert len(said) == 7
    assert sum(url in text for text in said) >= 6
    for secret in ("pass-0123", "sig-0123456789"):
        assert not [text for text in said if secret in text]


def test_marker(world: World, url: str) -> None:
    world.know("bbrrrrrrrr")
    world.gate(f"max_asr=0.1, model={url!r}")
    result = world.bare("--unlearndiff-base=base", REQUIRE)
    result.assert_outcomes(failed=1)
    assert [line for line in section(result) if "2/10 = 20.0%" in line]


def test_wrong_url_is_one_error(world: World, url: str) -> None:
    world.gate("max_asr=0.1")
    result = world.bare(f"--unlearndiff-model={url}x")
    assert result.ret == 4
    assert f"ERROR: --unlearndiff-model: there is nothing at {url}x" in result.errlines
    world.gate(f"max_asr=0.1, model='{url}x'")
    result = world.bare()
    assert f"there is nothing at {url}x" in result.stdout.str()
    assert result.ret == 2


def test_quiet_session_tells_no_download(world: World, url: str) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    result = world.bare(f"--unlearndiff-model={url}", "--unlearndiff-base=base", REQUIRE, "-q")
    result.assert_outcomes(passed=1)
    assert "fetching" not in result.stderr.str()
