"""The model cache: everything is loaded once, except pipeline objects, which may change between two campaigns."""

from __future__ import annotations

import json
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
from pytest_unlearndiff.core.model_options import defense
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
from pytest_unlearndiff.models.pipeline_folders import load_scheduler

emoji, cache = Path(sys.argv[1]), ModelCache()
source = ModelSpec(base=emoji / "model")
cache.base(source)
load_scheduler(source.base)
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


def test_components_that_victim_and_base_have_alike_are_loaded_once(tmp_path: Path) -> None:
    base, victim = tiny_pipeline(0), tiny_pipeline(0)
    victim.unet = tiny_pipeline(1).unet
    for pipe, name in ((base, "base"), (victim, "victim")):
        pipe.save_pretrained(tmp_path / name)
    config = tmp_path / "victim" / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "transformers_version": "0", "_name_or_path": "x"}))
    cache, source = ModelCache(), ModelSpec(tmp_path / "victim", tmp_path / "base")
    loaded, erased = cache.victim(source), tiny_pipeline(1)
    assert loaded.pipe.text_encoder is cache.base(source).text_encoder
    assert loaded.pipe.vae is cache.base(source).vae
    assert torch.equal(loaded.pipe.unet.conv_in.weight, erased.unet.conv_in.weight)
    assert {change.component: change.changed > 0 for change in loaded.changes} == {
        "unet": True,
        "text_encoder": False,
        "vae": False,
    }


def test_component_that_computes_otherwise_is_loaded_apart(tmp_path: Path) -> None:
    for name in ("base", "victim"):
        tiny_pipeline(0).save_pretrained(tmp_path / name)
    config = tmp_path / "victim" / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "hidden_act": "gelu"}))
    cache = ModelCache()
    source = ModelSpec(tmp_path / "victim", tmp_path / "base", defenses=(defense("negative-prompt", prompt="x"),))
    assert cache.victim(source).pipe.text_encoder is not cache.base(source).text_encoder


def test_copy_of_the_base_is_refused_though_it_is_not_loaded_again(tmp_path: Path) -> None:
    for name in ("base", "victim"):
        tiny_pipeline(0).save_pretrained(tmp_path / name)
    with pytest.raises(ModelError, match="nothing was unlearned"):
        ModelCache().victim(ModelSpec(tmp_path / "victim", tmp_path / "base"))
