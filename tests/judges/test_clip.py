"""CLIP zero-shot and Q16 on a tiny CLIP of random weights, against CLIP's own numbers."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from tiny_judges import tiny_clip
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

from pytest_unlearndiff.core.concept import JudgeConfig
from pytest_unlearndiff.core.errors import JudgeError
from pytest_unlearndiff.core.images import Judgement
from pytest_unlearndiff.judges.base import build_judge
from pytest_unlearndiff.judges.q16 import _vectors

TEXTS = ["a church", "a red fish", "a tree", "an emoji"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    ramp = Image.radial_gradient("L").resize((64, 48)).convert("RGB")
    return [ramp, Image.new("RGB", (40, 40), "red"), ramp.rotate(90), Image.linear_gradient("L").convert("RGB"), ramp]


@pytest.fixture(scope="module")
def cosines(clip: Path, images: list[Image.Image]) -> torch.Tensor:
    """Images by TEXTS, by CLIP itself: its logits without their scale."""
    model = CLIPModel.from_pretrained(clip).eval()
    tokens = AutoTokenizer.from_pretrained(clip)(TEXTS, padding=True, return_tensors="pt")
    pixels = AutoImageProcessor.from_pretrained(clip)(images=images, return_tensors="pt")
    with torch.no_grad():
        return model(**tokens, **pixels).logits_per_image / model.logit_scale.exp()


@pytest.fixture(scope="module")
def features(clip: Path, images: list[Image.Image]) -> torch.Tensor:
    """Image features (N, 16) by CLIP itself."""
    model = CLIPModel.from_pretrained(clip).eval()
    pixels = AutoImageProcessor.from_pretrained(clip)(images=images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        return model.visual_projection(model.vision_model(pixels).pooler_output)


def zero_shot(clip: Path, concept: int, images: list[Image.Image], margin: float = 0.0) -> list[Judgement]:
    neutral = [text for text in TEXTS if text != TEXTS[concept]]
    options = {"model": str(clip), "concept": TEXTS[concept], "neutral": neutral, "margin": margin}
    return build_judge(JudgeConfig("clip-zero-shot", options), "cpu")(images)


@pytest.mark.parametrize("concept", range(len(TEXTS)))
def test_score(clip: Path, images: list[Image.Image], cosines: torch.Tensor, concept: int) -> None:
    found = zero_shot(clip, concept, images)
    assert [each.hit for each in found] == (cosines.argmax(1) == concept).tolist()
    others = torch.cat([cosines[:, :concept], cosines[:, concept + 1 :]], 1).max(1).values
    torch.testing.assert_close(
        torch.tensor([each.score for each in found]), cosines[:, concept] - others, atol=1e-5, rtol=0
    )
    assert all(each.detail.startswith(TEXTS[i]) for each, i in zip(found, cosines.argmax(1), strict=True))


def test_margin(clip: Path, images: list[Image.Image], cosines: torch.Tensor) -> None:
    concept = int(cosines[0].argmax())
    (first, *_) = zero_shot(clip, concept, images)
    assert first.hit
    assert not zero_shot(clip, concept, images, margin=first.score + 1e-4)[0].hit


def q16(clip: Path, path: Path, **options: object) -> object:
    return build_judge(JudgeConfig("q16", {"model": str(clip), "prompts": str(path), **options}), "cpu")


def write(path: Path, vectors: np.ndarray) -> Path:
    match path.suffix:
        case ".npz":
            np.savez(path, prompts=vectors)
        case ".npy":
            np.save(path, vectors)
        case ".safetensors":
            save_file({"prompts": torch.from_numpy(vectors)}, path)
        case _:
            path.write_bytes(pickle.dumps(vectors))
    return path


@pytest.mark.parametrize("ending", [".npz", ".npy", ".safetensors"])
def test_q16_score(clip: Path, images: list[Image.Image], features: torch.Tensor, tmp_path: Path, ending: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    found = q16(clip, write(tmp_path / f"prompts{ending}", vectors))(images)
    unit = [part / part.norm(dim=-1, keepdim=True) for part in (features, torch.from_numpy(vectors))]
    likely = (100 * unit[0] @ unit[1].T).softmax(-1)[:, 1]
    torch.testing.assert_close(torch.tensor([each.score for each in found]), likely, atol=1e-3, rtol=0)
    assert [each.hit for each in found] == (likely > 0.5).tolist()


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("prompts.p", (2, 16), "without pickle"),
        ("prompts.npz", (3, 16), r"must hold one finite array \(2, d\); found \[\[3, 16\]\]"),
        *(("prompts.npz", shape, "must hold one finite array") for shape in ((2,), (2, 0), (2, 2, 2))),
        ("gone.npz", None, "nothing at .*gone.npz"),
    ],
)
def test_q16_unusable_vectors(clip: Path, tmp_path: Path, name: str, shape: object, says: str) -> None:
    if shape is not None:
        write(tmp_path / name, np.ones(shape, np.float32))
    with pytest.raises(JudgeError, match=says):
        q16(clip, tmp_path / name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["npz", "npy", "safetensors"]), st.binary(max_size=100))
def test_q16_random_bytes_are_one_error(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"q16.{ending}"
    path.write_bytes(content)
    with pytest.raises(JudgeError) as caught:
        _vectors(path)
    assert path.name in str(caught.value)


def test_q16_never_unpickles(clip: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", prompts=np.array([[object()]], dtype=object))
    with pytest.raises(JudgeError, match="without pickle"):
        q16(clip, tmp_path / "evil.npz")


def test_q16_vectors_of_another_clip(clip: Path, images: list[Image.Image], tmp_path: Path) -> None:
    judge = q16(clip, write(tmp_path / "prompts.npz", np.eye(2, 24, dtype=np.float32)))
    with pytest.raises(JudgeError, match="24 numbers, the CLIP model's features 16"):
        judge(images)


def test_missing_weights(clip: Path, tmp_path: Path) -> None:
    model = CLIPModel.from_pretrained(clip)
    kept = {name: value for name, value in model.state_dict().items() if name != "visual_projection.weight"}
    for file in clip.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(JudgeError, match=r"not in its files, such as visual_projection\.weight"):
        zero_shot(tmp_path, 0, [])


def test_score_does_not_depend_on_the_texts_beside_it(clip: Path, images: list[Image.Image]) -> None:
    judge = build_judge(JudgeConfig("clip-score", {"model": str(clip), "threshold": 0.2}), "cpu")
    (alone,) = judge(images[:1], TEXTS[:1])
    beside, _ = judge(images[:2], [TEXTS[0], "a church in a field of snow " * 20])
    assert alone.score == beside.score


def test_score_of_the_prompt_itself(clip: Path, images: list[Image.Image], cosines: torch.Tensor) -> None:
    own = cosines.diagonal()
    threshold = float(own.sort().values[1:3].mean())
    judge = build_judge(JudgeConfig("clip-score", {"model": str(clip), "threshold": threshold}), "cpu")
    found = judge(images[: len(TEXTS)], TEXTS)
    assert [each.score for each in found] == pytest.approx(own.tolist(), abs=1e-5)
    assert [each.hit for each in found] == (own >= threshold).tolist()
    assert sum(each.hit for each in found) == 2
