"""Gates on image quality: by marker, call and file, answered from the store, in every report, never safe."""

from __future__ import annotations

import base64
import json
import random
import struct
from pathlib import Path

import pytest
from worlds import MODEL, World, section, text

from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.plugin.model_under_test import gate_source
from pytest_unlearndiff.plugin.quality_marker import QUALITY, read_quality
from pytest_unlearndiff.plugin.quality_run import quality_campaigns
from pytest_unlearndiff.plugin.session import state_of

COUNT, WIDTH = 12, 4
BOTH = "features='inception', clip='clip'"


@pytest.fixture
def captions(world: World) -> World:
    """A world with captions and what measures them."""
    rows = [f"caption {number},{number}" for number in range(COUNT)]
    world.file("captions.csv", "\n".join(["caption,seed", *rows]))
    world.file("inception/config.json", json.dumps({"hidden_size": WIDTH}))
    world.file("clip/config.json", "{}")
    return world


def know(world: World, shift: float, *, loss: float = 0.05, missing: int = 0, same: bool = False) -> list[Path]:
    """Put measured images of all sides into the store.

    Args:
        world: with captions.
        shift: of the features of the model under test.
        loss: of its CLIP score.
        missing: images of the model under test that are not there.
        same: whether it draws the same image for every caption.

    Returns:
        Folders of the campaigns.
    """
    state = state_of(world.pytester.parseconfig(*MODEL))
    keywords = {"captions": "captions.csv", "features": "inception", "clip": "clip"}
    request = read_quality(QUALITY, keywords, state.settings, state.library(world.path), world.path)
    campaigns = quality_campaigns(request, gate_source(request, state.settings), state)
    folders = []
    for name, campaign in campaigns.named:
        folder = campaign.folder(state.store)
        state.store.create(folder, campaign.key)
        for number, prompt in enumerate(campaign.concept.prompts):
            numbers = random.Random(f"{name == 'base, other seeds'} {number}")  # the model draws much as its base
            vector = [numbers.gauss(shift if name == "victim" else 0, 1) for _ in range(WIDTH)]
            outcome = Outcome(
                prompt.digest,
                Status.HIT_WITHOUT_ATTACK,
                score=0.3 - (loss * number / COUNT if name == "victim" else 0),
                image=("same" if same and name == "victim" else f"{name}{number}-").ljust(16, "0"),
                features=base64.b64encode(struct.pack(f"<{WIDTH}f", *vector)).decode(),
            )
            if name != "victim" or number >= missing:
                folder.append(outcome)
        folders.append(folder.folder)
    return folders


def gate(world: World, keywords: str) -> None:
    """Write a test module with one gate on image quality."""
    world.tests(
        f"""
        @pytest.mark.unlearndiff_quality("captions.csv", {keywords})
        def test_quality(unlearndiff_quality):
            (result,) = unlearndiff_quality()
            assert abs(result.figures.kid.change) < 1e-6
        """
    )


def measured(world: World) -> dict[str, object]:
    return json.loads(world.read("report.json"))["quality"][0]  # type: ignore[no-any-return]


REPORTS = "--unlearndiff-report=json:report.json,md:report.md,html:report.html"


def test_figures_within_the_limits_pass_and_are_computed_once(captions: World, monkeypatch: pytest.MonkeyPatch) -> None:
    know(captions, 0)
    gate(captions, f"{BOTH}, max_kid_increase=1, min_clip_score=0.2, max_clip_loss=0.1")
    first = captions.attack(REPORTS, "--junit-xml=out.xml", "-o", "junit_family=xunit1")
    first.assert_outcomes(passed=1)
    report = measured(captions)
    assert (report["verdict"], report["total"], report["missing"]) == ("PASS", COUNT, 0)
    assert report["fid"] is not None, "there are more captions than features"
    head, row, *lines = section(first)
    assert head.split() == ["captions", "images", "KID", "increase", "FID", "increase", "CLIP", "score", "verdict"]
    assert row.split()[:2] == ["captions", "12"]
    assert row.split()[-1] == "PASS"
    assert any(line.startswith("  CLIP score 0.2771, the base's 0.3: -0.02292, ") for line in lines)
    assert "  all 36 from the store" in lines
    for name, value in (("verdict", "PASS"), ("base_clip", "0.3"), ("captions", COUNT)):
        assert f'name="unlearndiff_quality_captions_{name}" value="{value}"' in captions.read("out.xml")
    for name in ("report.md", "report.html"):
        assert "KID" in captions.read(name)
    monkeypatch.setattr("pytest_unlearndiff.runs.quality.QualityCampaigns._compute", None)
    captions.run(REPORTS).assert_outcomes(passed=1)
    again = measured(captions)
    assert {**again, "run": 0} == {**report, "run": 0}


def test_a_model_that_draws_other_images_fails(captions: World) -> None:
    know(captions, 3)
    gate(captions, f"{BOTH}, max_kid_increase=0.5, max_clip_loss=0.02")
    result = captions.run(REPORTS, "--unlearndiff-report=github")
    result.assert_outcomes(failed=1)
    assert measured(captions)["verdict"] == "FAIL"
    result.stdout.fnmatch_lines(
        ["*image quality on captions: KID *, gate KID increase <= 0.5 and CLIP loss <= 0.02*", "*QualityLost*"]
    )
    assert "caption 11 lost 0.046: caption 11" in text(result)
    assert "title=unlearndiff quality FAIL%3A captions::image quality on captions: KID" in text(result)
    assert "1 of 1 gate did not pass" in captions.read("report.md")


def test_missing_images_and_damaged_models_never_pass(captions: World) -> None:
    gate(captions, f"{BOTH}, max_kid_increase=1")
    folders = know(captions, 0, missing=2)
    captions.run(REPORTS).assert_outcomes(failed=1)
    report = measured(captions)
    assert (report["verdict"], report["missing"], report["kid"]) == ("INCOMPLETE", 2, None)
    assert "2 of 12 images of the model under test are missing: --unlearndiff-cache=require" in str(report["obstacle"])
    for folder in folders:
        (folder / "journal.jsonl").unlink(missing_ok=True)
    know(captions, 0, same=True)
    captions.run(REPORTS).assert_outcomes(failed=1)
    assert "draws the same image for different prompts and seeds" in str(measured(captions)["obstacle"])


def test_a_base_below_the_limit_says_nothing_of_the_model(captions: World) -> None:
    know(captions, 0)
    gate(captions, "features='inception', clip='clip', min_clip_score=0.31")
    captions.run(REPORTS).assert_outcomes(failed=1)
    assert measured(captions)["verdict"] == "INCOMPLETE"
    assert "the un-erased model itself has a CLIP score of only 0.300" in str(measured(captions)["obstacle"])


def test_altered_figures_are_computed_again(captions: World) -> None:
    victim = know(captions, 0)[0] / "figures.json"
    gate(captions, f"{BOTH}, max_kid_increase=1")
    captions.run(REPORTS, "--unlearndiff-cache=rw")
    before = measured(captions)["kid"]
    victim.write_text(victim.read_text().replace('"victim": ', '"victim": -1'))
    captions.run(REPORTS)
    assert measured(captions)["kid"] == before


def test_gate_files_and_attack_gates_beside(captions: World) -> None:
    know(captions, 0)
    captions.know("rrrrrrrrrr")
    keywords = "captions: captions.csv, features: inception, clip: clip"
    captions.file(
        "release.unlearndiff.yaml",
        f"gates:\n  church: {{max_asr: 10%}}\nquality:\n  coco: {{{keywords}, max_kid_increase: 1}}\n",
    )
    result = captions.run(REPORTS, "--unlearndiff-require")
    result.assert_outcomes(passed=2)
    assert measured(captions)["nodeid"] == "release.unlearndiff.yaml::quality-coco"
    assert "nothing gates what this model must keep" not in captions.read("report.md")
    assert [line.split()[0] for line in section(result) if line.endswith("PASS")] == ["church", "coco"]


def test_plan_names_every_side(captions: World) -> None:
    know(captions, 0, missing=3)
    gate(captions, f"{BOTH}, max_kid_increase=1")
    result = captions.bare(*MODEL, "--unlearndiff-plan")
    lines = [line.split() for line in result.outlines if line.startswith("captions (")]
    assert [line[-2] for line in lines] == ["3/12", "0/12", "0/12"]
    result.stdout.fnmatch_lines(["0 prompts to attack and 3 images to draw"])


@pytest.mark.parametrize(
    ("keywords", "mistake"),
    [
        ("features='inception', max_kid=1", "unlearndiff_quality has no keyword 'max_kid': did you mean"),
        ("max_kid_increase=1", "nothing measures the images: give features, for KID and FID, or clip, for CLIP scores"),
        ("clip='clip', max_kid_increase=1", "max_kid_increase needs features: the image model whose features"),
        ("features='inception', max_kid_increase='much'", "max_kid_increase='much' must be a number of at least 0"),
        (
            "features='inception', max_fid_increase=1, prompts=4",
            "needs more captions than the 4 features of .*at least 5",
        ),
        ("features='inception', max_kid_increase=1, prompts=2", "captions has 2 captions, and at least 3 are compared"),
        ("features='nowhere', max_kid_increase=1", "features: there is nothing at .*nowhere"),
        ("features='inception', reference='images', max_kid_increase=1", "reference='images' must be a folder"),
        ("features='inception', sampling={'steps': 0}", "sampling.steps: steps=0 must be a whole number"),
    ],
)
def test_mistakes_are_collection_errors(captions: World, keywords: str, mistake: str) -> None:
    gate(captions, keywords)
    result = captions.ask()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.re_match_lines([f".*{mistake}"])


def test_without_a_base_nothing_is_compared(captions: World) -> None:
    captions.file("model/model_index.json", "{}")
    gate(captions, "features='inception', max_kid_increase=1")
    result = captions.bare("--unlearndiff-model=model", "--unlearndiff-cache=require")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["*image quality is compared with the un-erased model's: give it with --unlearndiff-base*"]
    )


def test_a_marker_without_its_call_fails(captions: World) -> None:
    captions.tests(
        """
        @pytest.mark.unlearndiff_quality("captions.csv", clip="clip", min_clip_score=0.2)
        def test_quality(unlearndiff_quality):
            pass
        """
    )
    captions.run().assert_outcomes(failed=1)


def test_no_concept_can_be_judged_by_what_only_measures(captions: World) -> None:
    captions.concept("dog")
    judge = {"kind": "image-quality", "clip": "clip"}
    captions.file("concepts/dog.yaml", json.dumps({"prompts": "dog.csv", "judge": judge}))
    captions.gate("max_asr='10%'", concept="dog")
    captions.ask().stdout.fnmatch_lines(["*judge image-quality measures images and decides nothing*"])
