"""Foreign text in model files: names, metadata and configurations, of any kind and length."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from hostile import TEXTS, check
from resaved import low_rank, peft, unet
from safetensors.torch import save_file

from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.models.checkpoint import read_checkpoint
from pytest_unlearndiff.models.loading import load_victim
from pytest_unlearndiff.models.pipeline_folders import load_pipeline

NAMES = [text for text in TEXTS if text != "\ud800"]


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_names_of_tensors_are_printable_and_short(
    base: StableDiffusionPipeline, tmp_path: Path, nested: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    known = unet(base)
    first = next(iter(known))
    for index, name in enumerate(NAMES):
        for tensors in ({name: torch.ones(2)}, {f"{first}{name}": torch.ones(2)}, {**known, name: torch.ones(2)}):
            path = tmp_path / f"{index}.pt"
            torch.save({"a": {"b": tensors}} if nested else tensors, path)
            with pytest.raises(ModelError) as caught:
                load_victim(read_checkpoint(path), base)
            check(str(caught.value))
    assert main(["inspect", str(tmp_path / "0.pt")]) == 1
    check(capsys.readouterr().err.strip())


def test_metadata_is_printable(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base.save_pretrained(tmp_path / "base")
    capsys.readouterr()
    metadata = {"a\x1b[31m": "b\x1b[31m\n::error::c", "long": "x" * 50_000}
    save_file(unet(other), tmp_path / "esd.safetensors", metadata=metadata)
    plain = {"epoch\x1b[31m": 3, **{f"{i}\u202e": i for i in range(2_000)}}
    torch.save({"state_dict": unet(other), **plain}, tmp_path / "wrapped.pt")
    torch.save({**unet(other), **plain}, tmp_path / "beside.pt")
    for name in ("esd.safetensors", "wrapped.pt", "beside.pt"):
        assert main(["inspect", str(tmp_path / name), f"--base={tmp_path / 'base'}"]) == 0
        said = capsys.readouterr().out
        assert "can be attacked" in said
        for line in said.strip().split("\n"):
            check(line)


NOTES = [
    "[1]",
    "1",
    "[" * 100_000,
    '{"lora_alpha": 1e999}',
    '{"lora_alpha": ' + "9" * 400 + "}",
    '{"r": NaN}',
    '{"r": true}',
]
NOTES += [
    json.dumps({"r": 1, "bias": "\x1b[31m" * 10_000}),
    json.dumps({"r": 1, "rank_pattern": [[["x"] * 9] * 9] * 9}),
]


@pytest.mark.parametrize("noted", NOTES, ids=range(len(NOTES)))
def test_malformed_lora_metadata_is_one_error(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path, noted: str
) -> None:
    path = tmp_path / "lora.safetensors"
    save_file(peft(low_rank(other, 1), "unet."), path, metadata={"lora_adapter_metadata": noted})
    with pytest.raises(ModelError) as caught:
        load_victim(read_checkpoint(path), base)
    check(str(caught.value))


LONG = "\x1b[31m" + "x" * 12_000_000
INDICES: dict[str, Any] = {
    "a class": {"_class_name": LONG},
    "a list for a class": {"_class_name": ["x" * 100] * 100_000},
    "a component": {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", LONG]},
    "a library": {"_class_name": "StableDiffusionPipeline", "unet": [LONG, "x"]},
    "a component's name": {"_class_name": "StableDiffusionPipeline", LONG: ["own", "x"]},
    "many parts": {"_class_name": "StableDiffusionPipeline", "unet": ["x"] * 1_000_000},
}


@pytest.mark.parametrize("name", INDICES)
def test_long_index_is_not_quoted_whole(tmp_path: Path, name: str) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps(INDICES[name]))
    for read in (read_checkpoint, load_pipeline):
        with pytest.raises(ModelError) as caught:
            read(tmp_path)
        check(str(caught.value))


def test_index_of_60_mb_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model_index.json"
    path.write_bytes(b'{"_class_name": "' + b"x" * 60_000_000 + b'"}')
    begun = time.monotonic()
    with pytest.raises(ModelError, match=r"model_index\.json cannot be read: has more than 16,777,216 bytes"):
        read_checkpoint(tmp_path)
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("value", [*NAMES, 10**30, None, [], {"x": "\x1b"}], ids=range(len(NAMES) + 4))
def test_any_value_in_a_configuration_is_one_error(tmp_path: Path, value: Any) -> None:
    configurations = {
        "unet": ("config.json", {"_class_name": value}),
        "peft": ("adapter_config.json", {"peft_type": value}),
        "receler": ("eraser_config.json", {"eraser_type": value}),
    }
    for folder, (name, config) in configurations.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(json.dumps(config))
        with pytest.raises(ModelError) as caught:
            read_checkpoint(tmp_path / folder)
        check(str(caught.value))
    index = {"weight_map": {"conv_in.weight": value}}
    (tmp_path / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError) as caught:
        read_checkpoint(tmp_path / "unet")
    check(str(caught.value))


@pytest.mark.parametrize("name", ["model_index.json", "config.json", "adapter_config.json", "eraser_config.json"])
def test_named_pipe_is_refused(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ModelError):
        read_checkpoint(tmp_path)
