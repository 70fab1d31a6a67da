"""From a path to a victim: bit-equal weights, or one error that names the reason."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.models import checkpoint
from pytest_unlearndiff.models.checkpoint import read_checkpoint
from pytest_unlearndiff.models.loading import Loaded, load_victim, weights_digest
from pytest_unlearndiff.models.pipeline_folders import load_pipeline
from pytest_unlearndiff.models.tensor_files import read_file
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import ModelSpec

Tensors = dict[str, torch.Tensor]


def load(path: Path, base: StableDiffusionPipeline | None) -> Loaded:
    return load_victim(read_checkpoint(path), base)


def cross_attention(pipe: StableDiffusionPipeline) -> Tensors:
    return {key: value.clone() for key, value in pipe.unet.state_dict().items() if ".attn2." in key}


def test_pipeline_folder_needs_no_base(other: StableDiffusionPipeline, tmp_path: Path) -> None:
    other.save_pretrained(tmp_path / "pipe")
    loaded = load(tmp_path / "pipe", None)
    assert weights_digest(loaded.pipe) == weights_digest(other)
    assert loaded.changes == ()


def test_base_is_not_modified(base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path) -> None:
    before = weights_digest(base)
    save_file(other.unet.state_dict(), tmp_path / "unet.safetensors")
    load(tmp_path / "unet.safetensors", base)
    assert weights_digest(base) == before


def test_victim_shares_what_its_checkpoint_leaves(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    tensors = cross_attention(other)
    save_file(tensors, tmp_path / "esd.safetensors")
    theirs, ours = base.unet.state_dict(), load(tmp_path / "esd.safetensors", base).pipe.unet.state_dict()
    own = {key for key, value in ours.items() if value.data_ptr() != theirs[key].data_ptr()}
    assert own == set(tensors)
    assert all(torch.equal(ours[key], value) for key, value in tensors.items())


def test_layout_of_replaced_weights_is_kept(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    """Half precision on a GPU has its convolutions in another layout, which decides how they are computed."""
    into = copy.copy(base)
    into.unet = copy.deepcopy(base.unet).to(torch.float16).to(memory_format=torch.channels_last)
    save_file(other.unet.state_dict(), tmp_path / "unet.safetensors")
    weight = load(tmp_path / "unet.safetensors", into).pipe.unet.conv_in.weight
    assert weight.dtype == torch.float16
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(weight, other.unet.conv_in.weight.half())


def test_copy_of_the_base_is_refused(base: StableDiffusionPipeline, tmp_path: Path) -> None:
    save_file(base.unet.state_dict(), tmp_path / "same.safetensors")
    base.save_pretrained(tmp_path / "pipe")
    for path in (tmp_path / "same.safetensors", tmp_path / "pipe"):
        with pytest.raises(ModelError, match="nothing was unlearned"):
            load(path, base)


@pytest.mark.parametrize(("scale", "noted"), [(1e-6, True), (1e-3, False)])
def test_almost_a_copy_of_the_base(scale: float, noted: bool, base: StableDiffusionPipeline, tmp_path: Path) -> None:
    tensors = {key: value * (1 + scale) for key, value in base.unet.state_dict().items()}
    save_file(tensors, tmp_path / "unet.safetensors")
    notes = load(tmp_path / "unet.safetensors", base).notes
    assert any("far less than erasing takes" in note for note in notes) == noted


@pytest.mark.parametrize("content", ["empty folder", "another model", "no such path", "a text file"])
def test_path_without_a_model_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "thing"
    if content != "no such path":
        path.mkdir()
    if content == "another model":
        (path / "config.json").write_text(json.dumps({"architectures": ["ResNetModel"]}))
    if content == "a text file":
        path = tmp_path / "thing.txt"
        path.write_text("hello")
    expected = {
        "empty folder": "no model_index.json",
        "another model": "found a ResNetModel",
        "no such path": "no model at",
        "a text file": "not a checkpoint file",
    }
    with pytest.raises(ModelError, match=expected[content]):
        read_checkpoint(path)


def test_bare_checkpoint_without_a_base_is_refused(other: StableDiffusionPipeline, tmp_path: Path) -> None:
    save_file(cross_attention(other), tmp_path / "esd.safetensors")
    with pytest.raises(ModelError, match="--unlearndiff-base"):
        load(tmp_path / "esd.safetensors", None)
    with pytest.raises(ModelError, match=r"esd\.safetensors cannot be .* it is a file: give a pipeline folder"):
        load_pipeline(tmp_path / "esd.safetensors")


def test_checkpoint_is_read_once_for_several_gates(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.save_pretrained(tmp_path / "base")
    save_file(cross_attention(other), tmp_path / "esd.safetensors")
    reads: list[Path] = []
    monkeypatch.setattr(checkpoint, "read_file", lambda path, **how: reads.append(path) or read_file(path, **how))
    cache, spec = ModelCache(), ModelSpec(tmp_path / "esd.safetensors", tmp_path / "base")
    assert cache.victim(spec) is cache.victim(spec)
    assert reads == [tmp_path / "esd.safetensors"]
