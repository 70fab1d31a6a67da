"""The command ``quality`` on tiny models: figures of model and base, limits, and images that cannot be compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import EMOJI, tiny_pipeline

from pytest_unlearndiff.__main__ import main

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


def quality(models: Path, *options: str, model: str = "model") -> int:
    captions = ("--captions", str(models / "captions.csv"), "--features", FEATURES, "--steps", "1")
    return main(["quality", str(models / model), "--base", str(models / "base"), *captions, *options])


def figures(printed: str) -> dict[str, list[float]]:
    return {line[:3]: [float(x) for x in re.findall(r"[-+]?\d[\d.e+-]*", line)] for line in printed.splitlines()[1:]}


def test_limits_decide_the_status(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quality(models) == 0
    of_model, of_base, increase = figures(capsys.readouterr().out)["KID"]
    assert increase == pytest.approx(of_model - of_base, rel=1e-2)
    assert quality(models, f"--max-kid-increase={increase + 1}") == 0
    assert quality(models, f"--max-kid-increase={increase + 1}", "--max-fid-increase=-1000") == 1
    printed = capsys.readouterr().out
    assert ": PASS, limit" in printed
    assert ": FAIL, limit -1000" in printed


def test_reference_has_other_seeds_or_is_the_users(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quality(models) == 0
    own = figures(capsys.readouterr().out)["FID"]
    assert own[1] > 0, "with the same seeds, the base would be no distance from itself"
    for number, colour in enumerate(("red", "white", "black")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{number}.png")
    assert quality(models, f"--reference={tmp_path}") == 0
    assert figures(capsys.readouterr().out)["FID"] != own


def test_what_cannot_be_compared_is_one_error(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, model, reason in (
        ((), "broken", "3 of 3 images of the model cannot be compared: "),
        (("--prompts=1",), "model", "has 1 captions, and at least 2 are compared"),
        ((f"--reference={tmp_path}",), "model", "has 0 images (.png, .jpg, .jpeg, .webp)"),
        (("--column=prompt",), "model", "no column 'prompt': known: caption"),
    ):
        assert quality(models, *options, model=model) == 1
        assert reason in capsys.readouterr().err
