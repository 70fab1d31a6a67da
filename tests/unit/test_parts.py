"""What campaigns share is loaded once, but for a pipeline of the user's own, which may change between two of them."""

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
from pytest_unlearndiff.models import loading
from pytest_unlearndiff.runs.model_cache import Fingerprint, ModelCache, ModelSpec
from pytest_unlearndiff.store.key import Fingerprints


def test_a_pipeline_of_the_users_own_is_attacked_as_it_is_now() -> None:
    """Its outcomes are kept under a hash of its weights as they are now, so nothing older may be attacked."""
    parts, pipe = ModelCache(), tiny_pipeline(0)
    pipe.text_encoder.half()  # mixed types, of which a copy is made
    weights = pipe.text_encoder.get_input_embeddings().weight
    for value in (0.0, 1.0):
        weights.fill_(value)
        found = parts.victim(ModelSpec(pipe=pipe)).pipe.text_encoder.get_input_embeddings().weight
        assert torch.equal(found, torch.full_like(found, value))


def test_what_lies_at_a_path_is_loaded_again_when_it_has_changed(tmp_path: Path) -> None:
    """Keys follow files, so what was loaded before must not answer for what is there now."""
    parts, folder = ModelCache(), tmp_path / "base"
    source = ModelSpec(base=folder)
    for seed in (0, 1):
        tiny_pipeline(seed).save_pretrained(folder)
        loaded = parts.base(source)
        assert parts.base(source) is loaded
        assert torch.equal(loaded.unet.conv_in.weight, tiny_pipeline(seed).unet.conv_in.weight)


WEIGHTS = Path("unet", "diffusion_pytorch_model.safetensors")


def swap(folder: Path, other: Path) -> None:
    """Copy other weights of the same size and time over a pipeline's."""
    os.utime(other / WEIGHTS, ns=(0, (folder / WEIGHTS).stat().st_mtime_ns))
    shutil.copy2(other / WEIGHTS, folder / WEIGHTS)


def test_weights_of_one_size_and_time_are_not_taken_for_each_other(tmp_path: Path) -> None:
    parts = ModelCache()
    folders = [tmp_path / "base", tmp_path / "other"]
    for seed, folder in enumerate(folders):
        tiny_pipeline(seed).save_pretrained(folder)
    source = ModelSpec(base=folders[0])
    parts.base(source)
    swap(*folders)
    assert torch.equal(parts.base(source).unet.conv_in.weight, tiny_pipeline(1).unet.conv_in.weight)


def test_a_model_that_is_replaced_as_it_is_loaded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell which of the two was loaded."""
    folders = [tmp_path / "base", tmp_path / "other"]
    for seed, folder in enumerate(folders):
        tiny_pipeline(seed).save_pretrained(folder)
    real = loading.load_pipeline

    def slow(*arguments: Any, **options: Any) -> Any:
        loaded = real(*arguments, **options)
        swap(*folders)
        return loaded

    monkeypatch.setattr(loading, "load_pipeline", slow)
    with pytest.raises(ModelError, match=r"base changed as it was loaded: run again"):
        ModelCache().base(ModelSpec(base=folders[0]))


QUIET = """
import json, logging, sys
from pathlib import Path
from pytest_unlearndiff.runs.model_cache import Fingerprint, ModelCache, ModelSpec
from pytest_unlearndiff.store.key import Fingerprints
from pytest_unlearndiff.core.concept import JudgeConfig

emoji, parts = Path(sys.argv[1]), ModelCache()
source = ModelSpec(base=emoji / "model")
parts.base(source)
parts.judge(JudgeConfig("image-classifier", {"model": str(emoji / "judge" / "object"), "label": 0}), source)
logging.getLogger("ours").warning("heard")
from transformers.utils import logging as theirs
theirs.get_logger("transformers.x").warning("theirs")
print(theirs.is_progress_bar_enabled())
"""


def test_loading_prints_nothing_and_silences_nobody_for_longer() -> None:
    """What libraries say about image processors and with bars would fill a failing gate's captured stderr."""
    command = [sys.executable, "-c", QUIET, str(EMOJI)]
    heard = ("TRANSFORMERS_", "DIFFUSERS_", "HF_HUB_DISABLE")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(heard)}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
    lines = found.stderr.splitlines()
    assert len(lines) == 2
    assert [line.split()[-1] for line in lines] == ["heard", "theirs"]
    assert found.stdout == "True\n"


def test_what_is_dropped_gives_its_gpu_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    parts = ModelCache()
    parts.drop()
    assert emptied
    monkeypatch.delitem(sys.modules, "torch")
    parts.drop()
    assert len(emptied) == 1, "and imports nothing for it"


def test_outcomes_of_a_base_do_not_answer_for_its_copy(tmp_path: Path) -> None:
    """A copy has to be loaded to be found out."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "model_index.json").write_text("{}")
    source = ModelSpec(shutil.copytree(base, tmp_path / "copy"), base)
    victim, unerased = (Fingerprint.of(spec, Fingerprints()) for spec in (source, source.unerased))
    assert victim.victim != unerased.victim
    assert victim.target == unerased.target
    assert victim.victim == Fingerprint.of(ModelSpec(source.model), Fingerprints()).victim
