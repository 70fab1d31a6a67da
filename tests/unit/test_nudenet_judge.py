"""NudeNet on a real photograph that scikit-image ships: an astronaut, of whom it should see the face."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import nudenet
import numpy as np
import pytest
from PIL import Image

from pytest_unlearndiff.core.concept import JudgeSpec
from pytest_unlearndiff.core.errors import JudgeError
from pytest_unlearndiff.core.judge_kinds import NUDENET_CLASSES, NUDENET_LABELS
from pytest_unlearndiff.core.judgement import Judgement
from pytest_unlearndiff.judges import build_judge

PACKAGED = Path(nudenet.__file__).parent / "320n.onnx"


@pytest.fixture(scope="module")
def photograph() -> Path:
    # Not imported: only its file is wanted.
    skimage = find_spec("skimage")
    assert skimage is not None
    assert skimage.origin is not None
    return Path(skimage.origin).parent / "data" / "astronaut.png"


def judged(image: Image.Image, **options: object) -> Judgement:
    (found,) = build_judge(JudgeSpec("nudenet", options), "cpu")([image])
    return found


def test_a_face_is_seen_and_path_and_array_agree_to_the_bit(photograph: Path) -> None:
    (by_path,) = nudenet.NudeDetector().detect(str(photograph))
    found = judged(Image.open(photograph), classes=["FACE_FEMALE"])
    assert by_path["class"] == "FACE_FEMALE"
    assert found == Judgement(True, by_path["score"], f"FACE_FEMALE {by_path['score']:.2f}")


def test_channels_in_another_order_would_be_told(photograph: Path) -> None:
    """The test above can fail."""
    swapped = Image.fromarray(np.ascontiguousarray(np.asarray(Image.open(photograph))[..., ::-1]))
    assert (
        judged(swapped, classes=["FACE_FEMALE"]).score != judged(Image.open(photograph), classes=["FACE_FEMALE"]).score
    )


@pytest.mark.parametrize("classes", ["paper", "strict", ["FACE_MALE"]])
def test_only_the_wanted_classes_count(photograph: Path, classes: object) -> None:
    found = judged(Image.open(photograph), classes=classes)
    assert (found.hit, found.score) == (False, 0.0)
    assert found.detail.startswith("FACE_FEMALE")


def test_the_threshold_may_just_be_reached(photograph: Path) -> None:
    score = judged(Image.open(photograph), classes=["FACE_FEMALE"]).score
    assert judged(Image.open(photograph), classes=["FACE_FEMALE"], threshold=score).hit
    assert not judged(Image.open(photograph), classes=["FACE_FEMALE"], threshold=score + 1e-6).hit


def test_a_detector_file_gets_plain_resizing_and_red_first(photograph: Path) -> None:
    from pytest_unlearndiff.judges.nudenet import _Upstream

    red = np.zeros((64, 32, 3), np.uint8)
    red[..., 0] = 255
    blob = _Upstream(str(PACKAGED)).blob(red)
    assert blob.shape == (1, 3, 320, 320)
    assert (blob[0, 0] == 1).all()
    assert (blob[0, 1:] == 0).all()
    found = judged(Image.open(photograph), classes=["FACE_FEMALE"], detector=str(PACKAGED))
    assert found.hit
    # On a square picture both ways of preparing it differ only in how they interpolate.
    assert found.score == pytest.approx(judged(Image.open(photograph), classes=["FACE_FEMALE"]).score, abs=0.2)


def test_nothing_is_seen_in_nothing() -> None:
    assert judged(Image.new("RGB", (40, 90)), classes=list(NUDENET_LABELS)) == Judgement(False, 0.0, "nothing")


def test_another_detector_than_the_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_unlearndiff.judges.nudenet.NUDENET_SHA256", "0" * 64)
    with pytest.raises(JudgeError, match=r"another detector than 3\.4\.2"):
        build_judge(JudgeSpec("nudenet", {}), "cpu")


def test_a_file_that_is_no_detector_is_named(tmp_path: Path) -> None:
    (tmp_path / "best.onnx").write_text("not a network")
    with pytest.raises(JudgeError, match=r"best\.onnx cannot be loaded"):
        build_judge(JudgeSpec("nudenet", {"detector": str(tmp_path / "best.onnx")}), "cpu")


def test_the_papers_classes_are_the_nine_exposed_ones() -> None:
    assert sorted(NUDENET_CLASSES["paper"]) == sorted(name for name in NUDENET_LABELS if name.endswith("_EXPOSED"))
    assert set(NUDENET_CLASSES["strict"]) < set(NUDENET_CLASSES["paper"])
