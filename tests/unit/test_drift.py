"""Noise-prediction drift on tiny pipelines: nothing where nothing moved, and the arithmetic by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import EMOJI, tiny_pipeline

from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.drift import noise_drift

TEXTS = ["a church", "a cat in noto style", " ".join(["church"] * 60)]


def test_the_same_model_has_not_moved(victim: DiffusionModel) -> None:
    assert noise_drift(victim, victim, TEXTS) == [0.0, 0.0, 0.0]


@torch.no_grad()
def test_the_arithmetic_by_hand(victim: DiffusionModel) -> None:
    base = DiffusionModel(tiny_pipeline(0), Sampling())
    found = noise_drift(victim, base, TEXTS[:2], samples=2)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for text, drift in zip(TEXTS, found, strict=False):
        shares = []
        for sample, t in ((0, 625), (1, 875)):
            moved, here = (
                model.predict(noise[sample : sample + 1], torch.tensor([t]), model.encode_prompts([text])).flatten()
                for model in (victim, base)
            )
            shares.append(float((moved - here).norm() ** 2 / here.norm() ** 2))
        assert drift == pytest.approx(sum(shares) / 2, rel=1e-3)


def test_a_text_is_measured_the_same_beside_others(victim: DiffusionModel) -> None:
    base = DiffusionModel(tiny_pipeline(0), Sampling())
    assert noise_drift(victim, base, TEXTS) == [noise_drift(victim, base, [text])[0] for text in TEXTS]


def test_states_are_those_of_the_pipeline(victim: DiffusionModel) -> None:
    pipe = tiny_pipeline(1)
    tokens = pipe.tokenizer(TEXTS, padding="max_length", truncation=True, return_tensors="pt").input_ids
    torch.testing.assert_close(victim.encode_prompts(TEXTS), pipe.text_encoder(tokens)[0])


@pytest.mark.slow
def test_the_command_on_a_victim_of_the_emoji_world(capsys: pytest.CaptureFixture[str]) -> None:
    model = str(EMOJI / "erased" / "uce-church.safetensors")
    options = [
        "--base",
        str(EMOJI / "model"),
        "--concepts",
        str(EMOJI / "concepts"),
        "--prompts",
        "2",
        "--samples",
        "2",
    ]
    assert main(["drift", model, *options, "--erased", "church", "--retained", "cat"]) == 0
    erased, retained, ratio = (line.split(": ")[1] for line in capsys.readouterr().out.splitlines())
    assert 0 <= float(retained) < float(erased)
    assert float(ratio) == pytest.approx(float(retained) / float(erased), rel=0.01)


def test_mistakes_are_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model, base in (("gone.pt", str(tmp_path)), (str(tmp_path), "gone.pt")):
        assert main(["drift", model, "--base", base, "--erased", "church"]) == 1
        assert "there is nothing at gone.pt. Give a pipeline folder" in capsys.readouterr().err
    assert main(["drift", str(tmp_path), "--base", str(tmp_path), "--erased", "chruch"]) == 1
    assert "did you mean 'church'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_without_retained_concepts_says_no_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--base", str(EMOJI / "model"), "--concepts", str(EMOJI / "concepts")]
    model = str(EMOJI / "erased" / "uce-church.safetensors")
    assert main(["drift", model, *places, "--prompts", "1", "--samples", "1", "--erased", "church"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("erased church: ")
