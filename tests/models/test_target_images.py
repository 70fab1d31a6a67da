"""Target images of the user: read with the concept, part of the key, and attacked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import tiny_pipeline

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Concept, JudgeConfig, Prompt, Sampling
from pytest_unlearndiff.core.concept_file import read_concept
from pytest_unlearndiff.core.errors import ConceptError, ModelError
from pytest_unlearndiff.core.outcome import Status
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import SuppliedTargets
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.local_backend import LocalBackend
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.runs.runner import Runner
from pytest_unlearndiff.sources.resolve import judge_weights
from pytest_unlearndiff.store.key import Fingerprints
from pytest_unlearndiff.store.store import Store

JUDGE = "judge: {kind: image-classifier, model: org/name, label: 1}\n"
SIZE = (32, 32)


def image(path: Path, shade: int = 0, mode: str = "RGB", size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = Image.new("RGB", size, (shade, 128, 255 - shade))
    canvas.paste((0, 0, 0), (0, 0, 2, 2))
    canvas.convert(mode).save(path)
    return path


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Concept]:
    """Reads a concept of two prompts, 7 and 8, that says this of its targets."""
    (tmp_path / "church.csv").write_text("case_number,prompt,image\n7,a church,one.png\n8,another,sub/two.png\n")

    def read(targets: str, table: str = "") -> Concept:
        if table:
            (tmp_path / "church.csv").write_text(table)
        (tmp_path / "church.yaml").write_text(f"prompts: church.csv\n{JUDGE}targets: {targets}\n")
        return read_concept(tmp_path / "church.yaml")

    return read


def paths(found: Concept) -> list[str]:
    """Images in the order of the prompts."""
    return [Path(found.images[prompt.digest]).name for prompt in found.prompts]


@pytest.mark.parametrize("names", [("7.png", "8.webp"), ("7_0.png", "8.jpeg")])
def test_folder_by_case_number(tmp_path: Path, read: Callable[..., Concept], names: tuple[str, str]) -> None:
    for name in names:
        image(tmp_path / "imgs" / name)
    found = read("imgs")
    assert paths(found) == list(names)
    assert all(Path(path).is_absolute() for path in found.images.values())
    assert paths(read("{folder: imgs}")) == list(names)


def test_column_names_images(tmp_path: Path, read: Callable[..., Concept]) -> None:
    for folder in (tmp_path, tmp_path / "imgs"):
        image(folder / "one.png")
        image(folder / "sub" / "two.png")
    assert paths(read("{column: image}")) == ["one.png", "two.png"]
    inside = read("{column: image, folder: imgs}")
    assert all((tmp_path / "imgs").resolve() in Path(path).parents for path in inside.images.values())


def test_no_targets(read: Callable[..., Concept]) -> None:
    assert read("null").images == {}


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        ("gone", "there is no folder of target images at .*gone"),
        ("imgs", r"1 of 2 prompts have no target image in .*imgs, the first prompt 8: each needs one, such as 8\.png"),
        ("{column: photo}", r"church\.csv: no column 'photo': known: case_number"),
        ("{column: image}", r"2 of 2 prompts have no target image in .*, the first prompt 7 \('one\.png'\)"),
        ("[imgs]", r"a place of target images is a mapping with folder, column; found \['imgs'\]"),
        ("{}", "targets must be a folder, or have a column or a folder"),
        ("{column: 7}", "targets must be a folder, or have a column or a folder"),
        ('"a\\0b"', r"'a\\x00b' holds a NUL character"),
        ("{colum: image}", "has no field 'colum': did you mean 'column'"),
    ],
)
def test_missing_image_is_one_error(tmp_path: Path, read: Callable[..., Concept], targets: str, says: str) -> None:
    image(tmp_path / "imgs" / "7.png")
    with pytest.raises(ConceptError, match=says) as caught:
        read(targets)
    assert "church.yaml:3" in str(caught.value) or "church.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_repeated_prompt_has_one_image(tmp_path: Path, read: Callable[..., Concept]) -> None:
    for name in ("one.png", "two.png"):
        image(tmp_path / name)
    table = "case_number,prompt,seed,image\n7,a church,1,one.png\n8,a church,1,{}\n"
    assert len(read("{column: image}", table.format("one.png")).images) == 1
    with pytest.raises(ConceptError, match=r"prompt 8 stands twice .* has two images, .*one\.png and .*two\.png"):
        read("{column: image}", table.format("two.png"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["folder", "column", "x"]), inner, max_size=2)
        ),
    )
)
def test_any_targets_are_a_concept_or_one_error(read: Callable[..., Concept], targets: Any) -> None:
    message = "church"
    try:
        assert isinstance(read(json.dumps(targets)), Concept)
    except ConceptError as error:
        message = str(error)
    assert "church" in message


def test_images_of_the_whole_set_are_in_the_key(tmp_path: Path, read: Callable[..., Concept]) -> None:
    for name in ("7.png", "8.png"):
        image(tmp_path / "imgs" / name)
    (tmp_path / "model.pt").write_text("weights")
    source = ModelSpec(tmp_path / "model.pt")

    def key(concept: Concept, source: ModelSpec = source) -> str:
        fingerprint = Fingerprint.of(source, Fingerprints(), concept.images)
        return Campaign(concept, AttackConfig(), fingerprint, "judge").key.digest

    found = read("imgs")
    first = key(found)
    assert key(found.first(1)) == first
    assert key(replace(found, images={})) != first
    image(tmp_path / "imgs" / "8.png", shade=9)
    assert key(found) != first
    assert Fingerprint.of(source, Fingerprints()).targets_digest == ":float32"


def test_images_become_latents(tmp_path: Path, victim: DiffusionModel) -> None:
    prompts = [Prompt("a", 1, 7.5, 0), Prompt("b", 1, 7.5, 1)]
    files = [image(tmp_path / f"{i}.png", shade=100 * i) for i in range(2)]
    shown: list[Image.Image] = []
    given = {prompt.digest: str(path) for prompt, path in zip(prompts, files, strict=True)}
    targets = SuppliedTargets(given, victim.image_size, witnesses=[lambda _, images: shown.extend(images)])
    assert victim.image_size == SIZE
    expected = victim.encode_images([Image.open(path) for path in reversed(files)])
    torch.testing.assert_close(targets.latents(prompts[::-1], victim), expected)
    assert len(shown) == 2
    with pytest.raises(ModelError, match="needs the un-erased model itself: give it with --unlearndiff-base"):
        _ = targets.base


def test_paper_target_images_are_upstreams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """25 steps at guidance 7.5 whatever the concept says; the judge is shown the base's images by itself."""
    (tmp_path / "eye_of_paper.py").write_text(
        "seen = []\n\n\ndef look(images):\n    seen.extend(images)\n    return [len(seen) != 1 for _ in images]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for seed, name in enumerate(("base", "model")):
        tiny_pipeline(seed).save_pretrained(tmp_path / name)
    drawn: list[tuple[int, int, float]] = []
    generate = DiffusionModel.generate

    def noted(victim: DiffusionModel, drawings: Any) -> Any:
        drawn.extend((victim._sampling.steps, drawing.seed, drawing.guidance) for drawing in drawings)
        return generate(victim, drawings)

    monkeypatch.setattr(DiffusionModel, "generate", noted)
    prompt = Prompt("a church", 1, 5.0, 7)
    judge = JudgeConfig("function", {"call": "eye_of_paper:look"})
    asked = Concept("church", (prompt,), judge, sampling=Sampling(steps=2))
    source, store = ModelSpec(tmp_path / "model", tmp_path / "base"), Store(tmp_path / "store")
    fingerprint = Fingerprint.of(source, store.fingerprints)
    campaign = Campaign(asked, AttackConfig(schedule="paper"), fingerprint, "judge")
    result = Runner(store, ModelCache(), LocalBackend(), batch_size=1).run(campaign, lambda: source, may_pass=bool)
    assert [outcome.status for outcome in result.outcomes if outcome] == [Status.HIT_UNDER_ATTACK]
    assert drawn == [(2, 1, 5.0), (25, 1, 7.5), (2, 1, 5.0), (2, 1, 5.0)]
    assert (result.control.hits, result.control.seen, result.control.needed) == (1, 1, 1)
    # The prompt's own: two images and 40 steps there and back. Computed: in batches of four, with target and control.
    assert (result.forwards, result.computed) == (2 * 4 + 80, 4 * (3 * 4 + 50 + 80))

    drawn.clear()
    store = Store(tmp_path / "another")
    fast = run(replace(campaign, attack=AttackConfig()), store, lambda: source, may_pass=bool)
    assert fast.complete
    assert drawn[0] == (2, 1, 5.0)
    assert {steps for steps, _, _ in drawn} == {2}


@pytest.mark.parametrize(
    ("mode", "size", "says"),
    [
        ("RGB", (33, 32), r"1\.png is RGB of 33x32: save it as an RGB image of 32x32 pixels"),
        ("RGBA", SIZE, r"1\.png is RGBA of 32x32: save"),
        ("L", SIZE, r"1\.png is L of 32x32: save"),
    ],
)
def test_other_size_or_mode_is_one_error(tmp_path: Path, mode: str, size: tuple[int, int], says: str) -> None:
    good, bad = image(tmp_path / "0.png"), image(tmp_path / "1.png", mode=mode, size=size)
    with pytest.raises(ConceptError, match=says):
        SuppliedTargets({"a": str(good), "b": str(bad)}, SIZE)
    with pytest.raises(ConceptError, match=r"\(2 of 3 images cannot be used\)"):
        SuppliedTargets({"a": str(good), "b": str(bad), "c": str(image(tmp_path / "2.png", size=(8, 8)))}, SIZE)


def test_other_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_text("no image")
    with pytest.raises(ConceptError, match=r"target image .*0\.png cannot be read \(UnidentifiedImageError\): save it"):
        SuppliedTargets({"a": str(tmp_path / "0.png")}, SIZE)


def test_campaign_needs_no_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole attack on a pipeline alone, whose judge sees the concept in all but the first image, the plain one."""
    (tmp_path / "eye_of_targets.py").write_text(
        "seen = []\n\n\ndef look(images):\n    seen.extend(images)\n    return [len(seen) != 1 for _ in images]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    tiny_pipeline(1).save_pretrained(tmp_path / "model")
    prompt = Prompt("a church", 1, 5.0, 7)
    target = image(tmp_path / "7.png", shade=40)
    asked = Concept(
        "church", (prompt,), JudgeConfig("function", {"call": "eye_of_targets:look"}), sampling=Sampling(steps=2),
        images={prompt.digest: str(target)},
    )  # fmt: skip
    store, source = Store(tmp_path / "store"), ModelSpec(tmp_path / "model")
    fingerprint = Fingerprint.of(source, store.fingerprints, asked.images)
    campaign = Campaign(asked, AttackConfig(), fingerprint, judge_weights(asked.judge, store.fingerprints))
    result = Runner(store, ModelCache(), LocalBackend(), batch_size=1).run(campaign, lambda: source)
    assert [outcome.status for outcome in result.outcomes if outcome] == [Status.HIT_UNDER_ATTACK]
    assert result.outcomes[0] is not None
    assert result.outcomes[0].tokens == 4
    assert (result.control.hits, result.control.seen) == (1, 1)
    assert result.control.image_source == "the concept's target images"
    assert result.provenance["target images"] == "those that the concept names"
    again = Runner(store, ModelCache(), LocalBackend(), batch_size=1).run(campaign, lambda: pytest.fail("all is known"))
    assert (again.fresh, again.asr, again.control) == (0, 1, result.control)

    without = replace(campaign, concept=replace(asked, images={}), fingerprint=Fingerprint.of(source, Fingerprints()))
    with pytest.raises(ModelError, match="or name images of your own as the concept's targets"):
        run(without, store, lambda: source)
    with pytest.raises(ModelError, match="p4d needs the un-erased model"):
        run(replace(campaign, attack=AttackConfig("p4d")), store, lambda: source)
