"""The model cache: everything is loaded once, except pipeline objects, which may change between two campaigns."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import EMOJI, tiny_pipeline

from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.models import pipeline_folders
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import ModelSpec


def test_pipeline_object_is_not_cached() -> None:
    """Its outcomes are kept under a hash of its weights as they are now, so nothing older may be attacked."""
    cache, pipe = ModelCache(), tiny_pipeline(0)
    pipe.text_encoder.half()  # mixed types, of which a copy is made
    weights = pipe.text_encoder.get_input_embeddings().weight
    for value in (0.0, 1.0):
        weights.fill_(value)
        loaded = cache.victim(ModelSpec(pipe=pipe)).pipe.text_encoder.get_input_embeddings().weight
        assert torch.equal(loaded, torch.full_like(loaded, value))


def test_changed_folder_is_loaded_again(tmp_path: Path) -> None:
    """Keys follow files, so what was loaded before must not answer for what is there now."""
    cache, folder = ModelCache(), tmp_path / "base"
    source = ModelSpec(base=folder)
    for seed in (0, 1):
        tiny_pipeline(seed).save_pretrained(folder)
        loaded = cache.base(source)
        assert cache.base(source) is loaded
        assert torch.equal(loaded.unet.conv_in.weight, tiny_pipeline(seed).unet.conv_in.weight)


WEIGHTS = Path("unet", "diffusion_pytorch_model.safetensors")


def swap(folder: Path, other: Path) -> None:
    """Copy other weights of the same size and time over a pipeline's."""
    os.utime(other / WEIGHTS, ns=(0, (folder / WEIGHTS).stat().st_mtime_ns))
    shutil.copy2(other / WEIGHTS, folder / WEIGHTS)


def test_changed_weights_of_same_size_and_time_are_loaded_again(tmp_path: Path) -> None:
    cache = ModelCache()
    folders = [tmp_path / "base", tmp_path / "other"]
    for seed, folder in enumerate(folders):
        tiny_pipeline(seed).save_pretrained(folder)
    source = ModelSpec(base=folders[0])
    cache.base(source)
    swap(*folders)
    assert torch.equal(cache.base(source).unet.conv_in.weight, tiny_pipeline(1).unet.conv_in.weight)


def test_folder_that_changes_while_loading_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell which of the two was loaded."""
    folders = [tmp_path / "base", tmp_path / "other"]
    for seed, folder in enumerate(folders):
        tiny_pipeline(seed).save_pretrained(folder)
    real = pipeline_folders.load_pipeline

    def slow(*arguments: Any, **options: Any) -> Any:
        loaded = real(*arguments, **options)
        swap(*folders)
        return loaded

    monkeypatch.setattr(pipeline_folders, "load_pipeline", slow)
    with pytest.raises(ModelError, match=r"base changed as it was loaded: run again"):
        ModelCache().base(ModelSpec(base=folders[0]))


QUIET = """
import json, logging, sys
from pathlib import Path
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.store.key import Fingerprints
from pytest_unlearndiff.core.concept import JudgeConfig

emoji, cache = Path(sys.argv[1]), ModelCache()
source = ModelSpec(base=emoji / "model")
cache.base(source)
cache.judge(JudgeConfig("image-classifier", {"model": str(emoji / "judge" / "object"), "label": 0}), source)
logging.getLogger("ours").warning("heard")
from transformers.utils import logging as theirs
theirs.get_logger("transformers.x").warning("theirs")
print(theirs.is_progress_bar_enabled())
"""


def test_loading_is_silent_and_restores_logging() -> None:
    """What libraries say about image processors and with bars would fill a failing gate's captured stderr."""
    command = [sys.executable, "-c", QUIET, str(EMOJI)]
    heard = ("TRANSFORMERS_", "DIFFUSERS_", "HF_HUB_DISABLE")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(heard)}
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
    lines = loaded.stderr.splitlines()
    assert len(lines) == 2
    assert [line.split()[-1] for line in lines] == ["heard", "theirs"]
    assert loaded.stdout == "True\n"


def test_drop_empties_the_gpu_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    cache = ModelCache()
    cache.drop()
    assert emptied
    monkeypatch.delitem(sys.modules, "torch")
    cache.drop()
    assert len(emptied) == 1, "and imports nothing for it"
