"""NudeNet on a real photograph that scikit-image ships: an astronaut, of whom it should see the face."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import cv2
import nudenet
import numpy as np
import pytest
from PIL import Image

from pytest_unlearndiff.core.concept import JudgeConfig
from pytest_unlearndiff.core.errors import JudgeError
from pytest_unlearndiff.core.images import Judgement
from pytest_unlearndiff.judges.base import build_judge
from pytest_unlearndiff.judges.nudenet import UpstreamDetector
from pytest_unlearndiff.judges.options import NUDENET_CLASSES, NUDENET_LABELS

PACKAGED = Path(nudenet.__file__).parent / "320n.onnx"


@pytest.fixture(scope="module")
def photograph() -> Path:
    # Not imported: only its file is wanted.
    skimage = find_spec("skimage")
    assert skimage is not None
    assert skimage.origin is not None
    return Path(skimage.origin).parent / "data" / "astronaut.png"


def judged(image: Image.Image, **options: object) -> Judgement:
    (found,) = build_judge(JudgeConfig("nudenet", options), "cpu")([image])
    return found


def test_same_as_the_package(photograph: Path) -> None:
    (by_path,) = nudenet.NudeDetector().detect(str(photograph))
    found = judged(Image.open(photograph), classes=["FACE_FEMALE"])
    assert by_path["class"] == "FACE_FEMALE"
    assert found == Judgement(True, by_path["score"], f"FACE_FEMALE {by_path['score']:.2f}")


@pytest.mark.parametrize("classes", ["paper", "strict", ["FACE_MALE"]])
def test_classes(photograph: Path, classes: object) -> None:
    found = judged(Image.open(photograph), classes=classes)
    assert (found.hit, found.score) == (False, 0.0)
    assert found.detail.startswith("FACE_FEMALE")


def test_threshold(photograph: Path) -> None:
    score = judged(Image.open(photograph), classes=["FACE_FEMALE"]).score
    assert judged(Image.open(photograph), classes=["FACE_FEMALE"], threshold=score).hit
    assert not judged(Image.open(photograph), classes=["FACE_FEMALE"], threshold=score + 1e-6).hit


def test_input_of_a_detector_file(photograph: Path) -> None:
    red = np.zeros((64, 32, 3), np.uint8)
    red[..., 0] = 255
    blob = UpstreamDetector(str(PACKAGED)).blob(red)
    assert blob.shape == (1, 3, 320, 320)
    assert (blob[0, 0] == 1).all()
    assert (blob[0, 1:] == 0).all()
    found = judged(Image.open(photograph), classes=["FACE_FEMALE"], detector=str(PACKAGED))
    assert found.hit
    # On a square image both ways of preparing it differ only in how they interpolate.
    assert found.score == pytest.approx(judged(Image.open(photograph), classes=["FACE_FEMALE"]).score, abs=0.2)


def upstreams(output: np.ndarray, width: int, height: int) -> list[tuple[str, float]]:
    """Upstream's ``_postprocess`` as it stands (nudenet/detector.py:41), of one output (4 + classes, boxes)."""
    boxes, scores, names = [], [], []
    x_factor, y_factor = width / 320, height / 320
    for row in output.T:
        best = np.amax(row[4:])
        if best >= 0.5:
            x, y, w, h = row[:4]
            boxes.append(
                [int((x - w / 2) * x_factor), int((y - h / 2) * y_factor), int(w * x_factor), int(h * y_factor)]
            )
            scores.append(best)
            names.append(NUDENET_LABELS[int(np.argmax(row[4:]))])
    return [(names[i], float(scores[i])) for i in cv2.dnn.NMSBoxes(boxes, scores, 0.5, 0.5)]


@pytest.mark.parametrize("size", [(512, 512), (64, 64), (700, 333)])
def test_boxes_of_a_detector_file(size: tuple[int, int]) -> None:
    """Boxes that overlap by about a half, with scores around the threshold, of many classes."""
    width, height = size
    detector, rng = UpstreamDetector(str(PACKAGED)), np.random.default_rng(0)
    pixels, overlapping = np.zeros((height, width, 3), np.uint8), 0
    for _ in range(300):
        output = np.zeros((4 + len(NUDENET_LABELS), 12), np.float32)
        output[:2] = rng.uniform(100, 220, (2, 1)) + rng.uniform(0, 40, (2, 12))
        output[2:4] = rng.uniform(60, 110, (2, 1))
        output[4 + rng.integers(len(NUDENET_LABELS), size=12), range(12)] = rng.uniform(0.1, 1, 12)
        detector._session = SimpleNamespace(run=lambda *_, given=output: (given[None],))
        wanted = upstreams(output, width, height)
        found = [(name, score) for name, score in detector(pixels) if score >= 0.5]
        assert sorted(found) == sorted(wanted)
        overlapping += len(wanted) < (output[4:].max(0) >= 0.5).sum()
    assert overlapping > 100


def test_blank_image() -> None:
    assert judged(Image.new("RGB", (40, 90)), classes=list(NUDENET_LABELS)) == Judgement(False, 0.0, "nothing")


def test_unknown_packaged_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_unlearndiff.judges.nudenet.NUDENET_SHA256", "0" * 64)
    with pytest.raises(JudgeError, match=r"another detector than 3\.4\.2"):
        build_judge(JudgeConfig("nudenet", {}), "cpu")


def test_file_that_is_no_detector(tmp_path: Path) -> None:
    (tmp_path / "best.onnx").write_text("not a network")
    with pytest.raises(JudgeError, match=r"best\.onnx cannot be loaded"):
        build_judge(JudgeConfig("nudenet", {"detector": str(tmp_path / "best.onnx")}), "cpu")


def test_paper_classes() -> None:
    assert sorted(NUDENET_CLASSES["paper"]) == sorted(name for name in NUDENET_LABELS if name.endswith("_EXPOSED"))
    assert set(NUDENET_CLASSES["strict"]) < set(NUDENET_CLASSES["paper"])
