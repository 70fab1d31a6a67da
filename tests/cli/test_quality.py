"""The command ``quality`` on tiny models: figures of model and base, limits, and images that cannot be compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import EMOJI, tiny_pipeline

from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.family_fit import ModelFamily
from pytest_unlearndiff.core.model_info import FamilyDefaults
from pytest_unlearndiff.models.diffusion_model import DiffusionModel

FEATURES = str(EMOJI / "judge" / "object")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An un-erased pipeline, one with other weights, and captions."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "model", "broken")):
        pipe = tiny_pipeline(seed)
        if name == "broken":
            pipe.vae.decoder.conv_out.weight.data.fill_(torch.finfo(torch.float32).max)
        pipe.save_pretrained(folder / name)
    (folder / "captions.csv").write_text("caption\na church\na fish\na tree\n")
    return folder


def quality(models: Path, store: Path, *options: str, model: str = "model") -> int:
    captions = ("--captions", str(models / "captions.csv"), "--features", FEATURES, "--steps", "1")
    arguments = ("--base", str(models / "base"), "--cache-dir", str(store), *captions, *options)
    return main(["quality", str(models / model), *arguments])


def figures(printed: str) -> dict[str, list[float]]:
    """Numbers of each figure's line: the model's, the base's, the change, and its interval."""
    lines = [line for line in printed.splitlines() if ", the base's " in line]
    return {line[:3]: [float(x) for x in re.findall(r"[-+]?\d+\.?\d*(?:e[-+]\d+)?", line)] for line in lines}


def test_limits_decide_the_status(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quality(models, tmp_path) == 0
    printed = capsys.readouterr().out
    of_model, of_base, increase, *_ = figures(printed)["KID"]
    assert increase == pytest.approx(of_model - of_base, rel=1e-2)
    assert "9 images drawn" in printed
    assert quality(models, tmp_path, f"--max-kid-increase={increase + 1}") == 0
    assert quality(models, tmp_path, "--max-kid-increase=-1000") == 1
    passed, failed = (line for line in capsys.readouterr().out.splitlines() if " increase <= " in line)
    assert passed.startswith("PASS: KID increase <=")
    assert failed.startswith("FAIL: KID increase <= -1000")


def test_reference_is_the_users(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quality(models, tmp_path) == 0
    own = figures(capsys.readouterr().out)["KID"]
    for number, colour in enumerate(("red", "white", "black")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{number}.png")
    assert quality(models, tmp_path, f"--reference={tmp_path}") == 0
    assert figures(capsys.readouterr().out)["KID"] != own


def test_steps_and_guidance_are_the_familys(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = []
    generate = DiffusionModel.generate
    monkeypatch.setattr(DiffusionModel, "generate", lambda self, asked: drawn.extend(asked) or generate(self, asked))
    monkeypatch.setattr(ModelFamily, "defaults", FamilyDefaults(guidance=3.5, sampling=Sampling(2, "own")))
    asked = ("--base", str(models / "base"), "--captions", str(models / "captions.csv"), "--features", FEATURES)
    assert main(["quality", str(models / "model"), *asked, "--cache-dir", str(tmp_path)]) == 0
    assert {request.guidance for request in drawn} == {3.5}
    keys = [json.loads(path.read_text()) for path in tmp_path.glob("campaigns/*/key.json")]
    assert {key["sampling"]["steps"] for key in keys} == {2}


def test_what_cannot_be_compared_is_one_error(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for options, model, reason in (
        ((), "broken", "3 of 3 images of the model under test are missing: "),
        (("--prompts=2",), "model", "captions has 2 captions, and at least 3 are compared"),
        ((f"--reference={tmp_path / 'empty'}",), "model", "has 0 images (.png, .jpg, .jpeg, .webp)"),
        (("--column=prompt",), "model", "no column 'prompt': known: caption"),
        (("--max-clip-loss=0.1",), "model", "max_clip_loss needs clip: "),
        (("--max-fid-increase=1",), "model", "needs more captions than the 128 features"),
    ):
        assert quality(models, tmp_path, *options, model=model) == 1
        assert reason in capsys.readouterr().err
