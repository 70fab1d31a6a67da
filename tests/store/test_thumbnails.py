"""Thumbnails: small, named by the prompt, and never worth an error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import prompts
from PIL import Image

from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.images import GenerationRequest, Judgement
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.models.generated_images import GeneratedImage
from pytest_unlearndiff.reports.evidence import _attacked
from pytest_unlearndiff.reports.gate_report_parts import PromptReport
from pytest_unlearndiff.runs.evaluation import Evaluation, ThumbnailRecorder, unattacked_request
from pytest_unlearndiff.store.thumbnails import (
    THUMBNAIL_BYTES,
    THUMBNAIL_SIDE,
    Thumbnails,
    is_webp,
    make_thumbnail,
    near_miss,
)

RED = Image.new("RGB", (64, 64), (255, 0, 0))


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (512, 512), (1024, 300)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_thumbnail_of_noise_is_small(tmp_path: Path, size: tuple[int, int], mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise).convert(mode)
    before = image.tobytes()
    data = make_thumbnail(image)
    assert data is not None
    assert is_webp(data)
    assert len(data) <= THUMBNAIL_BYTES
    (tmp_path / "x.webp").write_bytes(data)
    with Image.open(tmp_path / "x.webp") as shown:
        assert max(shown.size) <= THUMBNAIL_SIDE
        assert shown.size == size or max(size) > THUMBNAIL_SIDE
    assert image.tobytes() == before


def test_round_trip_and_damage(tmp_path: Path) -> None:
    images = Thumbnails(tmp_path / "campaign")
    images.add("aa", RED)
    [path] = (tmp_path / "campaign" / "images").iterdir()
    images.add("bb", RED, base=True)
    assert images.read("aa") == images.read("bb", base=True) == make_thumbnail(RED) is not None
    assert (images.read("aa", base=True), images.read("bb")) == (None, None)
    for content in (b"", b"<svg onload=alert(1)>", path.read_bytes() + b"x" * THUMBNAIL_BYTES):
        path.write_bytes(content)
        assert images.read("aa") is None


def test_unwritable_thumbnail_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("in the way")
    Thumbnails(tmp_path).add("aa", RED)
    Thumbnails(tmp_path / "other").add("aa", object())  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


class Painter:
    """A victim whose images are plain; counts what it drew."""

    def __init__(self) -> None:
        self.drawn = 0

    def generate(self, drawings: list[GenerationRequest]) -> list[GeneratedImage]:
        self.drawn += len(drawings)
        return [GeneratedImage(RED)] * len(drawings)


def test_recorder_keeps_unattacked_and_adversarial_images(tmp_path: Path) -> None:
    asked = prompts(2)
    unattacked = [GenerationRequest(p.text, p.seed, p.guidance) for p in asked]
    tried = [GenerationRequest("x a church", 1000, 7.5), GenerationRequest("hit a church", 1000, 7.5)]

    def judge(images: list[Image.Image], prompts: Sequence[str] = ()) -> list[Judgement]:
        return [Judgement(i == 3, 0.5, "church") for i in range(len(images))]

    painter, images = Painter(), Thumbnails(tmp_path)
    gallery = ThumbnailRecorder(images, asked)
    evaluation = Evaluation(painter, judge, gallery.judged)  # type: ignore[arg-type]
    watched = evaluation([*unattacked, *tried])
    assert watched == Evaluation(Painter(), judge)([*unattacked, *tried])  # type: ignore[arg-type]
    assert painter.drawn == 4
    kept = [images.read(Prompt(d.text, d.seed, d.guidance, 0).digest) is not None for d in [*unattacked, *tried]]
    assert kept == [True, True, False, True]
    gallery.targets(asked[1:], [GeneratedImage(RED)])
    assert images.read(asked[1].digest, base=True) is not None


def test_image_of_a_learned_embedding_does_not_replace_the_unattacked_one(tmp_path: Path) -> None:
    [prompt], images = prompts(1), Thumbnails(tmp_path)
    recorder = ThumbnailRecorder(images, [prompt])
    plain = GenerationRequest(prompt.text, prompt.seed, prompt.guidance)
    learned = replace(plain, embedding="AACAPw==")
    for request, colour in ((plain, "red"), (learned, "blue")):
        hit = Judgement(request is learned, 0.5, "church")
        recorder.judged(request, Image.new("RGB", (8, 8), colour), hit)
    outcome = Outcome(prompt.digest, Status.HIT_UNDER_ATTACK, embedding=learned.embedding)
    kept = images.read(prompt.digest), _attacked(images, PromptReport.of(prompt, outcome))
    assert kept == tuple(make_thumbnail(Image.new("RGB", (8, 8), colour)) for colour in ("red", "blue"))


def test_no_thumbnail_if_no_quality_is_small_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_unlearndiff.store.thumbnails.THUMBNAIL_BYTES", 10)
    assert make_thumbnail(RED) is None


def test_recorder_keeps_the_attacked_image_that_came_closest(tmp_path: Path) -> None:
    [prompt], images = prompts(1), Thumbnails(tmp_path)
    recorder = ThumbnailRecorder(images, [prompt])
    tried = [("red", 0.2), ("blue", 0.7), ("green", 0.5), ("black", math.nan)]
    for colour, score in tried:
        request = GenerationRequest(f"{colour} {prompt.text}", prompt.seed, prompt.guidance)
        recorder.judged(request, Image.new("RGB", (8, 8), colour), Judgement(False, score, "dog"))
        recorder.attacked(prompt, request)
        recorder.attacked(prompt, request)  # told again, as of an image that the judge had seen before
    assert images.read(near_miss(prompt.digest)) == make_thumbnail(Image.new("RGB", (8, 8), "blue"))
    assert len(images.files()) == 1


def test_recorder_of_several_images_per_prompt(tmp_path: Path) -> None:
    """It keeps the prompt's own un-attacked image and any hit, and no misses in memory."""
    [prompt], images = prompts(1), Thumbnails(tmp_path)
    recorder = ThumbnailRecorder(images, [prompt], images=3)
    plain = unattacked_request(prompt)
    tried = replace(plain, text="x")
    hit, closest = plain.with_further_seeds(3)[2], tried.with_further_seeds(3)[1]
    for request in [*plain.with_further_seeds(3), *tried.with_further_seeds(3)]:
        score = {hit: 0.9, closest: 0.4}.get(request, 0.1)
        recorder.judged(request, RED, Judgement(request == hit, score, ""))
    recorder.attacked(prompt, tried)
    kept = [prompt.digest, replace(prompt, seed=hit.seed).digest, near_miss(prompt.digest)]
    assert all(images.read(digest) is not None for digest in kept)
    assert len(images.files()) == 3
    assert not recorder._misses
