"""Models that commands are given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny import EMOJI

from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.cli.command import model_path, model_paths, with_own_options
from pytest_unlearndiff.core.errors import ModelError


@pytest.mark.parametrize("words", [["inspect", "gone"], ["calibrate", "church", "--base", "gone"]])
def test_wrong_path_is_told_without_torch(words: list[str]) -> None:
    code = (
        "import sys; from pytest_unlearndiff.__main__ import main\n"
        f"status = main({words!r}); raise SystemExit(9 if 'torch' in sys.modules else status)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert "gone. Give a pipeline folder" in told.stderr


def test_options_are_told_as_the_command_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "nothing", f"--base={EMOJI / 'model'}"]) == 1
    told = capsys.readouterr().err
    assert "or in the places that --concepts or ini option unlearndiff_concepts lists" in told
    text = "--unlearndiff-trust-pickle, --unlearndiff-sld-weak."
    assert with_own_options(text, ["trust_pickle", "sld"]) == "--trust-pickle, --unlearndiff-sld-weak."


def test_path_import_string_and_hub_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing at nobody/nothing; nor is .* hf download nobody/nothing\. Give"):
        model_path("nobody/nothing")
    assert model_path(str(EMOJI / "model")) == EMOJI / "model"
    assert model_paths("pkg.mod:load") == (Path("pkg.mod:load"),)
    with pytest.raises(ModelError, match="nothing at"):
        model_path("pkg.mod:load")
    monkeypatch.setattr("pytest_unlearndiff.sources.resolve.hub_folder", lambda text: tmp_path)
    assert model_path("owner/name") == tmp_path
