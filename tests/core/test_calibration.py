"""Thresholds that tell images of a concept from others, and what the calibrate command says of what is known."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.cli.calibrate import _others
from pytest_unlearndiff.core.concept_file import ConceptLibrary
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.core.result import Calibration, Control, best_threshold
from pytest_unlearndiff.runs.positive_control import base_campaign, known_control
from pytest_unlearndiff.sources.resolve import judge_weights
from pytest_unlearndiff.store.store import Store

scores = st.lists(st.floats(-1, 1), min_size=1, max_size=12)


@given(scores, scores)
def test_best_threshold(own: list[float], others: list[float]) -> None:
    best = best_threshold(own, others)
    shares = {
        score: [sum(each >= score for each in side) / len(side) for side in (own, others)]
        for score in {*own, *others, best.score}
    }
    assert [float(best.hits), float(best.false_hits)] == pytest.approx(shares[best.score])
    worth = float(best.hits) - float(best.false_hits)
    assert all(worth >= hits - false - 1e-12 for hits, false in shares.values())


def test_threshold_between_groups_and_none_from_one_side() -> None:
    best = best_threshold([0.9, 0.8], [0.1, 0.4])
    assert best.score == pytest.approx(0.6)
    assert (str(best.hits), str(best.false_hits)) == ("2/2 = 100.0%", "0/2 = 0.0%")
    assert Calibration([Outcome("a", Status.HIT_WITHOUT_ATTACK, score=0.9)], []).suggestion() is None
    assert Calibration([], []).control == Control()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base and concepts of the same classifier; nothing in it is real."""
    monkeypatch.chdir(tmp_path)
    for name in ("base/unet.safetensors", "judge/model.safetensors"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    (tmp_path / "concepts").mkdir()
    for name in ("church", "fish"):
        rows = [f"a {name} number {i},{i}" for i in range(4)]
        (tmp_path / "concepts" / f"{name}.csv").write_text("\n".join(["prompt,seed", *rows]))
        (tmp_path / "concepts" / f"{name}.yaml").write_text(
            f"prompts: {name}.csv\njudge: {{kind: image-classifier, model: ../judge, label: {name}}}\n"
        )
    return tmp_path


def know(folder: Path, own: list[float], others: list[float]) -> Control:
    """Keep scores of the church judge on church and fish images; 0.5 and above is a hit. Returns the control."""
    store, library = Store(folder / ".unlearndiff"), ConceptLibrary([folder / "concepts"])
    church, fish = library.find("church"), library.find("fish")
    base = f"{store.fingerprints.of(folder / 'base')}:float32"
    weights = judge_weights(church.judge, store.fingerprints)
    campaign = base_campaign(church, base, weights)
    entry = store.campaign("church", campaign.key)
    store.create(entry, campaign.key)
    for prompts, found in ((church.prompts, own), (fish.prompts, others)):
        for prompt, score in zip(prompts, found, strict=False):
            status = Status.HIT_WITHOUT_ATTACK if score >= 0.5 else Status.RESISTED
            entry.append(Outcome(prompt.digest, status, score=score))
    return known_control(campaign, store)


def calibrate(*arguments: str) -> int:
    return main(["calibrate", "church", "--base", "base", *arguments])


HITS = "hits on the base model's own images: 3/4 = 75.0%"
AGAINST = ("false hits on prompts of other concepts: 1/4 = 25.0%", "scores tell them apart best at")


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_rates(folder: Path, capsys: pytest.CaptureFixture[str], device: str) -> None:
    """Wherever it was drawn: gates and this command ask for the same key."""
    assert str(know(folder, [0.9, 0.9, 0.8, 0.4], [0.1, 0.1, 0.2, 0.6])) == "3 of 4"
    assert calibrate("--each", "4", "--device", device) == 0
    printed = capsys.readouterr().out
    for text in (HITS, *AGAINST, "threshold is the option", "positive control holds"):
        assert text in printed
    for name in ("fish.yaml", "fish.csv"):
        (folder / "concepts" / name).unlink()
    assert calibrate("--each", "4", "--device", device) == 0
    alone = capsys.readouterr().out
    assert HITS in alone
    assert "false hits" not in alone
    assert "apart best" not in alone


def test_own_concept_of_a_set_is_no_other(folder: Path) -> None:
    """A church among the neighbours of churches would be a false hit."""
    file = folder / "concepts" / "church.yaml"
    file.write_text(file.read_text() + "sets: {near: {prompts: fish.csv}}\n")
    library = ConceptLibrary([folder / "concepts"])
    asked = argparse.Namespace(against=None, each=4)
    assert {prompt.text.split()[1] for prompt in _others(library.find("church"), asked, library)} == {"fish"}
    assert _others(library.find("church:near"), asked, library) == []


def test_blind_judge(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert know(folder, [0.1, 0.2, 0.3, 0.9], [0.1]).fails
    assert calibrate("--each", "1") == 1
    assert "positive control FAILED: 50.0% are needed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--against", "cat"), "no concept 'cat'"),
        (("--prompts", "9"), "the set has 4"),
        (("--base", "gone"), "there is nothing at gone"),
    ],
)
def test_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str) -> None:
    know(folder, [0.9] * 4, [0.1] * 4)
    assert calibrate(*arguments) == 1
    assert says in capsys.readouterr().err


def test_without_torch(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("pytest_unlearndiff.runs.runner.import_libraries", missing)
    assert calibrate("--each", "1") == 1
    remedy = 'without it nothing is drawn: pip install "pytest-unlearndiff[torch]"'
    assert f"torch is not installed, and {remedy}" in capsys.readouterr().err


def test_sheet(tmp_path: Path) -> None:
    from PIL import Image

    from pytest_unlearndiff.models.generated_images import write_contact_sheet

    colours = ["red", "lime", "blue", "white", "black", "yellow", "cyan"]
    entries = [(Image.new("RGB", (8, 8), colour), f"HIT: {colour}\n{'long ' * 30}") for colour in colours]
    write_contact_sheet(tmp_path / "new" / "sheet.png", entries)
    seen = {colour for _, colour in Image.open(tmp_path / "new" / "sheet.png").getcolors(1 << 24)}
    assert {Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in colours} <= seen


def test_sheet_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image
    from tiny import tiny_pipeline

    shutil.rmtree(folder / "base")
    tiny_pipeline(0).save_pretrained(folder / "base")
    for path in (folder / "concepts").glob("*.yaml"):
        path.write_text(path.read_text() + "sampling: {steps: 2}\n")
    know(folder, [0.9, 0.9, 0.8, 0.4], [0.1])
    assert calibrate("--each", "1", "--sheet", "sheet.png") == 0
    assert "contact sheet: sheet.png" in capsys.readouterr().out
    assert len(Image.open("sheet.png").convert("RGB").getcolors(1 << 24)) > 5


def test_sheet_shows_the_images_that_were_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts that name no guidance have the family's, in the sheet too."""
    from PIL import Image
    from tiny_transformers import tiny_transformer

    from pytest_unlearndiff.models.diffusion_model import DiffusionModel
    from pytest_unlearndiff.models.generated_images import GeneratedImage

    monkeypatch.chdir(tmp_path)
    tiny_transformer("flux").save_pretrained(tmp_path / "base")
    (tmp_path / "concepts").mkdir()
    (tmp_path / "concepts" / "church.csv").write_text("prompt,seed\na church,1\nanother,2\n")
    (tmp_path / "concepts" / "church.yaml").write_text(
        "prompts: church.csv\njudge: {kind: function, call: 'broken_models:always'}\n"
    )
    drawn: list[GenerationRequest] = []

    def generate(self: DiffusionModel, requests: list[GenerationRequest]) -> list[GeneratedImage]:
        drawn.extend(requests)
        return [GeneratedImage(Image.radial_gradient("L").rotate(request.seed).convert("RGB")) for request in requests]

    monkeypatch.setattr(DiffusionModel, "generate", generate)
    assert calibrate("--sheet=sheet.png", "--against=church") == 0
    assert drawn[:2] == drawn[2:]
    assert [request.guidance for request in drawn] == [3.5] * 4
