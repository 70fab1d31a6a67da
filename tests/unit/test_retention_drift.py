"""Drift beside retention: figures by hand, kept for sessions without torch, and told in every report."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from builders import concept
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sessions import record, retained
from skimage.metrics import structural_similarity as skimage_similarity
from tiny_judges import tiny_clip

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.drift import MEASURES, Measure
from pytest_unlearndiff.core.errors import JudgeError
from pytest_unlearndiff.models.similarity import structural_similarity
from pytest_unlearndiff.reports.html_report import html_report
from pytest_unlearndiff.reports.json_report import json_report, schema
from pytest_unlearndiff.reports.markdown import markdown_report
from pytest_unlearndiff.reports.retention import RetentionReport, retention_lines, retention_properties
from pytest_unlearndiff.reports.session import SessionReport
from pytest_unlearndiff.reports.stored_reports import read_gates
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.drift import Meter
from pytest_unlearndiff.runs.model_cache import Fingerprint, ModelCache, ModelSpec
from pytest_unlearndiff.store.measures import Measures
from pytest_unlearndiff.store.store import Mode, Store
from pytest_unlearndiff.store.thumbnails import Thumbnails

DRIFT = [
    Measure("similarity", 0.8412, None, 9),
    Measure("clip-score", 0.2134, 0.2456, 1),
    Measure("noise", 0.01234, None, 8),
]


def image(seed: int, side: int = 48) -> Image.Image:
    """Coloured noise, coarse enough to look like something."""
    cells = np.random.default_rng(seed).integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC)


def test_structural_similarity_is_that_of_scikit_image() -> None:
    for seed in range(3):
        first, second = image(seed), image(seed + 10)
        arrays = [np.asarray(image.convert("L"), dtype=float) for image in (first, second)]
        theirs = skimage_similarity(
            *arrays, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
        assert structural_similarity(first, second) == pytest.approx(theirs, abs=1e-9)
        assert structural_similarity(first, first) == 1


def campaigns(root: Path, mode: Mode = Mode.RW) -> tuple[Store, Campaign, Campaign]:
    """A store, and a victim's and a base's campaign of three prompts."""
    asked = concept(3)
    victim = Campaign(asked, AttackConfig("none"), Fingerprint("victim", ""), "judge")
    base = Campaign(asked, AttackConfig("none"), Fingerprint("base", "base"), "judge")
    return Store(root, mode, keep_images=True), victim, base


def draw(root: Path, same: int) -> Meter:
    """Keep both images of the first two prompts, ``same`` of them equal, and of the third the base's alone."""
    store, victim, base = campaigns(root)
    prompts = victim.concept.prompts
    for campaign, seeds in ((victim, [0 if same else 7, 1 if same > 1 else 8]), (base, [0, 1, 2])):
        entry = store.entry("church", campaign.key)
        store.prepare(entry, campaign.key)
        for prompt, seed in zip(prompts, seeds, strict=False):
            Thumbnails(entry.folder).keep(prompt.digest, image(seed))
    return Meter(store, victim, base, ModelSpec(), ModelCache())


def test_images_that_are_there_are_compared(tmp_path: Path) -> None:
    [both] = draw(tmp_path / "both", 2).measure(noise=False)
    assert (both.name, both.value, both.base, both.prompts) == ("similarity", 1, None, 2)
    meter = draw(tmp_path / "one", 1)
    off = Store(tmp_path / "one", Mode.OFF, keep_images=True)
    assert replace(meter, store=off).measure(noise=False) == (), "such a session reads nothing"
    [one] = meter.measure(noise=False)
    assert -1 <= one.value < 1
    store, victim, base = campaigns(tmp_path / "none")
    assert Meter(store, victim, base, ModelSpec(), ModelCache()).measure(noise=False) == ()


def test_clip_scores_by_hand(tmp_path: Path) -> None:
    placed: list[ModelSpec] = []
    meter = replace(
        draw(tmp_path / "store", 1),
        clip=tiny_clip(tmp_path / "clip"),
        place=lambda source: placed.append(source) or source,  # type: ignore[func-returns-value]
    )
    found = {measure.name: measure for measure in meter.measure(noise=False)}
    assert placed == [meter.source], "it asks where there is room before it loads anything"
    clip = ModelCache().clip(str(meter.clip), "cpu")
    # The store's thumbnails are what is compared; they are as large as these images, and nearly the same.
    victims, bases = (clip.of_images([image(seed) for seed in seeds]) for seeds in ((0, 8), (0, 1)))
    texts = clip.of_texts([prompt.text for prompt in meter.victim.concept.prompts[:2]])
    score = found["clip-score"]
    assert score.value == pytest.approx(float((victims * texts).sum(1).mean()), abs=0.02)
    assert score.base == pytest.approx(float((bases * texts).sum(1).mean()), abs=0.02)
    assert found["clip-similarity"].value == pytest.approx(float((victims * bases).sum(1).mean()), abs=0.02)
    with pytest.raises(JudgeError, match=r"CLIP model .* cannot be loaded"):
        replace(meter, clip=tmp_path).measure(noise=False)


def test_what_was_measured_is_kept_and_needs_no_torch(tmp_path: Path) -> None:
    meter = replace(draw(tmp_path / "store", 1), clip=tiny_clip(tmp_path / "clip"))
    first = meter.measure(noise=False)
    script = (
        "import sys, json\n"
        "for name in ('torch', 'numpy', 'PIL', 'scipy'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from pytest_unlearndiff.runs.campaign import Campaign\n"
        "from pytest_unlearndiff.runs.drift import Meter\n"
        "from pytest_unlearndiff.runs.model_cache import Fingerprint, ModelCache, ModelSpec\n"
        "from pytest_unlearndiff.core.attack_config import AttackConfig\n"
        "from pytest_unlearndiff.core.concept import Concept, JudgeConfig, Prompt\n"
        "from pytest_unlearndiff.store.store import Mode, Store\n"
        "ps = tuple(Prompt(f'a church, number {i}', 1000 + i, 7.5, 100 + i) for i in range(3))\n"
        "c = Concept('church', ps, JudgeConfig('image-classifier', {'label': 'church'}))\n"
        "v = Campaign(c, AttackConfig('none'), Fingerprint('victim', ''), 'judge')\n"
        "b = Campaign(c, AttackConfig('none'), Fingerprint('base', 'base'), 'judge')\n"
        f"s = Store(Path({str(tmp_path / 'store')!r}), Mode.REQUIRE)\n"
        f"m = Meter(s, v, b, ModelSpec(), ModelCache(), Path({str(tmp_path / 'clip')!r}))\n"
        "print(json.dumps([[x.name, x.value, x.base, x.prompts] for x in m.measure(noise=True)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[m.name, m.value, m.base, m.prompts] for m in first]


def test_where_nothing_may_be_computed_nothing_is(tmp_path: Path) -> None:
    draw(tmp_path, 1)
    store, victim, base = campaigns(tmp_path, Mode.REQUIRE)
    assert Meter(store, victim, base, ModelSpec(), ModelCache()).measure(noise=True) == ()


def test_predicted_noise_is_compared_where_models_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiny import tiny_pipeline

    meter = draw(tmp_path, 1)
    parts = meter.parts
    loaded = type("Loaded", (), {"pipe": tiny_pipeline(1)})
    monkeypatch.setattr(parts, "victim", lambda _: loaded)
    monkeypatch.setattr(parts, "base", lambda _: tiny_pipeline(0))
    found = {measure.name: measure for measure in meter.measure(noise=True)}
    assert found["noise"].value > 0
    assert found["noise"].prompts == 3
    monkeypatch.setattr(parts, "victim", lambda _: pytest.fail("it is kept"))
    assert meter.measure(noise=True) == tuple(found.values())


def test_a_figure_that_cannot_be_had_costs_no_verdict(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    meter = draw(tmp_path, 2)
    entry = meter.store.entry("church", meter.victim.key)
    Thumbnails(entry.folder).put(meter.victim.concept.prompts[0].digest, b"RIFF....WEBPnot really")
    assert meter.measure(noise=False) == ()
    assert "drift could not be measured: UnidentifiedImageError" in caplog.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "a", "b"]), inner),
    )
)
def test_any_kept_file_has_figures_or_none(tmp_path: Path, content: Any) -> None:
    (tmp_path / "drift.json").write_text(json.dumps(content))
    kept = Measures(tmp_path)
    assert all(isinstance(number, (int, float)) for numbers in kept.read("x").values() for number in numbers)
    kept.keep("y", {"d": [1.0]})
    assert kept.read("y") == {"d": [1.0]}


def told(**facts: Any) -> SessionReport:
    drift = [{"name": m.name, "value": m.value, "base": m.base, "prompts": m.prompts} for m in DRIFT]
    return SessionReport([record("r" * 10)], retained=[retained(drift=drift, **facts)])


def test_every_report_tells_it() -> None:
    session = told()
    says = [
        "same-seed similarity of thumbnails (SSIM) 0.841 (9 prompts)",
        "CLIP score of thumbnails 0.213, base 0.246 (1 prompt)",
        "noise-prediction drift 0.0123 (8 prompts)",
    ]
    assert any("; ".join(says) in line for line, _ in retention_lines(session.retained))
    assert all(said in html_report(session, None) for said in says)
    assert "dog, against the base: same-seed similarity of thumbnails &#40;SSIM&#41; 0.841" in markdown_report(session)
    assert ("unlearndiff_retains_dog_drift", "; ".join(says)) in retention_properties(session.retained[0])
    written = json.loads(json_report(session))
    jsonschema.Draft202012Validator(json.loads(schema())).validate(written)
    assert [measure["name"] for measure in written["retained"][0]["drift"]] == ["similarity", "clip-score", "noise"]
    assert {m.name for m in DRIFT} < set(MEASURES)
    assert SessionReport.from_wire(json.loads(json.dumps(session.to_wire()))) == session


def test_records_of_before_are_read(tmp_path: Path) -> None:
    old = {name: value for name, value in retained().to_wire().items() if name != "drift"}
    assert RetentionReport.from_wire(old) == retained()
    report = json.loads(json_report(told()))
    for gate in report["gates"]:
        for prompt in gate["prompts"]:
            del prompt["tokens"]
    (tmp_path / "old.json").write_text(json.dumps(report))
    [gate] = read_gates(tmp_path / "old.json")
    assert gate.prompts[0].tokens is None


def test_images_that_are_not_there_have_no_clip_score(tmp_path: Path) -> None:
    store, victim, base = campaigns(tmp_path / "none")
    clip = tiny_clip(tmp_path / "clip")
    assert Meter(store, victim, base, ModelSpec(), ModelCache(), clip).measure(noise=False) == ()


def test_a_mode_that_does_not_write_measures_and_keeps_nothing(tmp_path: Path) -> None:
    meter = draw(tmp_path, 1)
    read_only = replace(meter, store=Store(tmp_path, Mode.RO, keep_images=True))
    before = sorted(tmp_path.rglob("*"))
    [found] = read_only.measure(noise=False)
    assert found.prompts == 2
    assert sorted(tmp_path.rglob("*")) == before
    meter.measure(noise=False)
    assert sorted(tmp_path.rglob("*")) != before


def test_without_the_packages_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest_unlearndiff.models.similarity", None)
    assert draw(tmp_path, 1).measure(noise=False) == ()
