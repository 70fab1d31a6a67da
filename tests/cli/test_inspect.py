"""The command ``inspect``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fsspec
import pytest
import torch
from resaved import ATTN2, unet
from resaved_transformers import FAMILIES, FORMATS, WHOLE
from safetensors.torch import save_file
from tiny import tiny_pipeline
from tiny_transformers import tiny_transformer

from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.sources.base_guess import BaseGuess


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect") / "base"
    tiny_pipeline(0).save_pretrained(folder)
    return folder


def test_format_and_changes(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = unet(tiny_pipeline(1), ATTN2)
    save_file(tensors, tmp_path / "esd", metadata={"erase_concept": "church\x1b[2J"})
    assert main(["inspect", str(tmp_path / "esd"), f"--base={base}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"model:   {tmp_path / 'esd'}" in lines
    assert "format:  UNet state dict" in lines
    assert f"base:    {base}" in lines
    count, total = len(tensors), len(unet(tiny_pipeline(1)))
    assert any(f"unet: {count} of {count} given tensors changed ({total} in all), by " in line for line in lines)
    assert any("erase_concept = church" in line for line in lines)
    assert all(line.isprintable() for line in lines)
    assert lines[-1] == "verdict: can be attacked"


def test_url_and_ignored_tensors(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    torch.save({"state_dict": unet(tiny_pipeline(1), ATTN2), "optimizer": {"state": {}}}, tmp_path / "esd.pt")
    fsspec.filesystem("memory").pipe_file("/inspected/esd.pt", (tmp_path / "esd.pt").read_bytes())
    assert main(["inspect", "memory://inspected/esd.pt", f"--base={base}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("note:") and "beside state_dict, left out: optimizer" in line for line in lines)
    assert lines[-1] == "verdict: can be attacked"


def test_pipeline_without_base(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(base)]) == 0
    assert "unknown without a base" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("unchanged", "nothing was unlearned"),
        ("no base", "give its base with --base=CompVis/stable-diffusion-v1-4"),
        ("code", "names what is no tensor"),
        ("gap", "--partial"),
        ("nothing", "there is nothing at"),
    ],
)
def test_refusal(content: str, reason: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, arguments, tensors = tmp_path / "x", [f"--base={base}"], unet(tiny_pipeline(1), ATTN2)
    if content == "unchanged":
        save_file(unet(tiny_pipeline(0)), path)
    elif content == "no base":
        arguments = []
        save_file({"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": torch.ones(320, 768)}, path)
    elif content == "code":
        torch.save(tensors | {"x": print}, path)
    elif content == "gap":
        tensors.popitem()
        save_file(tensors, path)
    assert main(["inspect", str(path), *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    if content == "gap":
        assert main(["inspect", str(path), *arguments, "--partial"]) == 0


def test_assumed_base_and_notes(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The format that every safetensors file names is nothing to tell."""
    folder = tmp_path / "sld"
    shutil.copytree(base, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "StableDiffusionPipelineSafe"}))
    save_file(unet(tiny_pipeline(1), ATTN2), tmp_path / "esd", metadata={"format": "pt"})
    monkeypatch.setattr(BaseGuess, "folder", lambda _: base)
    monkeypatch.setattr(
        "pytest_unlearndiff.cli.inspect.guess_base", lambda _: BaseGuess("Stable Diffusion 1.x", "x/y", "its shapes")
    )
    assert main(["inspect", str(tmp_path / "esd")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"base:    {base} (assumed)" in lines
    assert not [line for line in lines if line.startswith("it says")]
    assert main(["inspect", str(folder)]) == 0
    assert "note:    attacked only with --unlearndiff-sld, which guides its images" in capsys.readouterr().out


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("esd-x", "transformer state dict"),
        ("all in one file", "transformer, CLIP-{clips}L and T5 and autoencoder in one file with its publisher's names"),
        ("transformer folder in shards", "transformer folder"),
        ("pipeline folder", "pipeline folder, {pipeline}"),
    ],
)
def test_formats_of_transformers(
    name: str, title: str, family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, erased = (tiny_transformer(family, seed) for seed in (0, 1))
    base.save_pretrained(tmp_path / "base")
    FORMATS[name].write(erased, tmp_path / "x")
    assert main(["inspect", str(tmp_path / "x"), f"--base={tmp_path / 'base'}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    clips = "G and CLIP-" if hasattr(erased, "text_encoder_3") else ""
    assert f"format:  {title.format(pipeline=type(erased).__name__, clips=clips)}" in lines
    changed = {line.split()[1].rstrip(":") for line in lines if line.startswith("changes:")}
    assert changed == {component for component in FORMATS[name].carries if hasattr(base, component)}
    assert changed <= set(WHOLE)
    assert lines[-1] == "verdict: can be attacked"
