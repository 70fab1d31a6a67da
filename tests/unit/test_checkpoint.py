"""From a path to a victim: bit-equal weights, or one error that names the reason."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.models.checkpoint import read_checkpoint
from pytest_unlearndiff.models.loading import Loaded, load_victim, weights_digest
from pytest_unlearndiff.models.pipeline_folders import load_pipeline

Tensors = dict[str, torch.Tensor]


def load(path: Path, base: StableDiffusionPipeline | None) -> Loaded:
    return load_victim(read_checkpoint(path), base)


def cross_attention(pipe: StableDiffusionPipeline) -> Tensors:
    return {key: value.clone() for key, value in pipe.unet.state_dict().items() if ".attn2." in key}


def adv_unlearn_layout(pipe: StableDiffusionPipeline) -> Tensors:
    """Each weight twice, under a wrapper's name and under an alias, and the ids old versions kept."""
    plain = {key.removeprefix("text_model."): value.clone() for key, value in pipe.text_encoder.state_dict().items()}
    wrapped = {f"text_encoder.text_model.{key}": value for key, value in plain.items()}
    aliases = {re.sub("^embeddings", "embedding", key): value.clone() for key, value in plain.items()}
    return {**wrapped, **aliases, "text_encoder.text_model.embeddings.position_ids": torch.arange(32)}


UNET_FORMATS: dict[str, Callable[[StableDiffusionPipeline, Path], Path]] = {
    "full.safetensors": lambda pipe, path: (save_file(pipe.unet.state_dict(), path), path)[1],
    "full.pt": lambda pipe, path: (torch.save(pipe.unet.state_dict(), path), path)[1],
    "old.pt": lambda pipe, path: (
        torch.save(pipe.unet.state_dict(), path, _use_new_zipfile_serialization=False),
        path,
    )[1],
    "wrapped.ckpt": lambda pipe, path: (torch.save({"state_dict": pipe.unet.state_dict()}, path), path)[1],
    "prefixed.pt": lambda pipe, path: (
        torch.save({f"unet.{k}": v for k, v in pipe.unet.state_dict().items()}, path),
        path,
    )[1],
    "folder": lambda pipe, path: (pipe.unet.save_pretrained(path), path)[1],
}


@pytest.mark.parametrize("name", UNET_FORMATS)
def test_complete_unets_load_to_the_bit(
    name: str, base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    loaded = load(UNET_FORMATS[name](other, tmp_path / name), base)
    for key, value in other.unet.state_dict().items():
        assert torch.equal(loaded.pipe.unet.state_dict()[key], value), key
    (change,) = loaded.changes
    assert change.component == "unet"
    assert change.given == change.total == len(other.unet.state_dict())


@pytest.mark.parametrize("name", ["esd.safetensors", "delta.bin", "folder"])
def test_partial_unets_change_what_they_hold_and_nothing_else(
    name: str, base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    path, tensors = tmp_path / name, cross_attention(other)
    if name == "delta.bin":
        torch.save({"unet": tensors}, path)
    elif name == "folder":
        path.mkdir()
        torch.save({"unet": tensors}, path / "delta.bin")
    else:
        save_file(tensors, path, metadata={"erase_concept": "church"})
    loaded = load(path, base)
    for key, value in loaded.pipe.unet.state_dict().items():
        assert torch.equal(value, tensors.get(key, base.unet.state_dict()[key])), key
    assert loaded.changes[0].given == len(tensors) < loaded.changes[0].total
    if name == "esd.safetensors":
        assert loaded.metadata == {"erase_concept": "church"}


@pytest.mark.parametrize("name", ["folder", "plain.safetensors", "advunlearn.pt"])
def test_text_encoders(
    name: str, base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    path = tmp_path / name
    if name == "folder":
        other.text_encoder.save_pretrained(path)
    elif name == "advunlearn.pt":
        torch.save(adv_unlearn_layout(other), path)
    else:
        save_file(other.text_encoder.state_dict(), path)
    loaded = load(path, base)
    for key, value in other.text_encoder.state_dict().items():
        assert torch.equal(loaded.pipe.text_encoder.state_dict()[key], value), key


def test_a_pipeline_folder_needs_no_base(other: StableDiffusionPipeline, tmp_path: Path) -> None:
    other.save_pretrained(tmp_path / "pipe")
    loaded = load(tmp_path / "pipe", None)
    assert weights_digest(loaded.pipe) == weights_digest(other)
    assert loaded.changes == ()


def test_loading_leaves_the_base_alone(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    before = weights_digest(base)
    save_file(other.unet.state_dict(), tmp_path / "unet.safetensors")
    load(tmp_path / "unet.safetensors", base)
    assert weights_digest(base) == before


def test_nothing_unlearned_is_an_error(base: StableDiffusionPipeline, tmp_path: Path) -> None:
    save_file(base.unet.state_dict(), tmp_path / "same.safetensors")
    base.save_pretrained(tmp_path / "pipe")
    for path in (tmp_path / "same.safetensors", tmp_path / "pipe"):
        with pytest.raises(ModelError, match="nothing was unlearned"):
            load(path, base)


def spoiled(tensors: Tensors, how: str) -> Tensors:
    first = next(iter(tensors))
    match how:
        case "unexpected key":
            return {**tensors, first + "_x": tensors[first].clone()}
        case "another shape":
            return {**tensors, first: torch.zeros(3, 3)}
        case "not a number":
            return {**tensors, first: torch.full_like(tensors[first], torch.nan)}
        case "swapped prefix":
            return {f"model.diffusion_model.{key}": value for key, value in tensors.items()}
    raise AssertionError(how)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("unexpected key", "have no place in the base's unet"),
        ("another shape", "is this its base"),
        ("not a number", "NaN or infinity"),
        ("swapped prefix", "have no place in the base's unet"),
    ],
)
def test_tensors_that_do_not_fit_are_errors(
    how: str, reason: str, base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    path = tmp_path / "spoiled.safetensors"
    save_file(spoiled(cross_attention(other), how), path)
    with pytest.raises(ModelError, match=reason) as caught:
        load(path, base)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pt"])
def test_truncated_files_are_errors(name: str, share: float, other: StableDiffusionPipeline, tmp_path: Path) -> None:
    path = UNET_FORMATS["full.pt" if name.endswith("pt") else "full.safetensors"](other, tmp_path / name)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(ModelError, match="cut"):
        read_checkpoint(path)


class Bomb:
    """Unpickles by making a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    torch.save({"down_blocks.x": Bomb(tmp_path / "ran")}, tmp_path / "bomb.pt")
    with pytest.raises(ModelError, match=r"posix\.mkdir\. Nothing of it was executed"):
        read_checkpoint(tmp_path / "bomb.pt")
    assert not (tmp_path / "ran").exists()


def test_a_missing_tensor_in_a_pipeline_folder_is_an_error(other: StableDiffusionPipeline, tmp_path: Path) -> None:
    other.save_pretrained(tmp_path / "pipe")
    file = tmp_path / "pipe" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = {key: value for key, value in other.unet.state_dict().items() if ".attn2." not in key}
    save_file(tensors, file)
    with pytest.raises(ModelError, match="random numbers"):
        load_pipeline(tmp_path / "pipe")


@pytest.mark.parametrize("content", ["empty folder", "another model", "no such path", "a text file"])
def test_what_is_no_model_says_what_it_is(content: str, tmp_path: Path) -> None:
    path = tmp_path / "thing"
    if content != "no such path":
        path.mkdir()
    if content == "another model":
        (path / "config.json").write_text(json.dumps({"architectures": ["BertModel"]}))
    if content == "a text file":
        path = tmp_path / "thing.txt"
        path.write_text("hello")
    expected = {
        "empty folder": "no model_index.json",
        "another model": "found a BertModel",
        "no such path": "no model at",
        "a text file": "not a checkpoint file",
    }
    with pytest.raises(ModelError, match=expected[content]):
        read_checkpoint(path)


def test_a_bare_checkpoint_names_the_option_it_lacks(other: StableDiffusionPipeline, tmp_path: Path) -> None:
    save_file(cross_attention(other), tmp_path / "esd.safetensors")
    with pytest.raises(ModelError, match="--unlearndiff-base"):
        load(tmp_path / "esd.safetensors", None)
