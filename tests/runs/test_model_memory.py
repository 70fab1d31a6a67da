"""The memory that weights will take is told from headers, before anything is loaded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from resaved import KV, kohya, low_rank, text, unet
from safetensors.torch import save_file
from tiny import tiny_pipeline
from tiny_transformers import tiny_transformer

from pytest_unlearndiff.models.families.lookup import components_of
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_memory import weights_memory
from pytest_unlearndiff.runs.model_spec import ModelSpec
from pytest_unlearndiff.store.key import Fingerprints


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, base, victim = tmp_path_factory.mktemp("memory"), tiny_pipeline(0), tiny_pipeline(0)
    victim.unet = tiny_pipeline(1).unet
    base.save_pretrained(folder / "base")
    victim.save_pretrained(folder / "pipeline", safe_serialization=True)
    save_file(unet(victim, KV), folder / "esd")
    save_file(kohya(low_rank(base, 1), 1.0), folder / "lora")
    save_file(text(tiny_pipeline(1), "text_model."), folder / "encoder")
    victim.unet.save_pretrained(folder / "parts" / "unet")
    tiny_pipeline(1).text_encoder.save_pretrained(folder / "parts" / "text_encoder")
    config = shutil.copytree(folder / "pipeline", folder / "configured") / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_act": "gelu"}))
    return folder


def loaded_bytes(spec: ModelSpec) -> int:
    """Bytes of the weights of a victim and its base as they are loaded, each tensor once."""
    cache = ModelCache()
    pipes: list[Any] = [cache.victim(spec).pipe, *([cache.base(spec)] if spec.base is not None else [])]
    tensors = {
        value.data_ptr(): value.nbytes
        for pipe in pipes
        for name in components_of(pipe)
        for value in getattr(pipe, name).parameters()
    }
    return sum(tensors.values())


@pytest.mark.parametrize(
    ("names", "based"),
    [
        (["pipeline"], False),
        (["pipeline"], True),
        (["esd"], True),
        (["lora"], True),
        (["encoder"], True),
        (["parts"], True),
        (["configured"], True),
        (["esd", "lora", "encoder"], True),
    ],
)
def test_it_is_what_loading_takes(names: list[str], based: bool, folder: Path) -> None:
    first, *adapters = (folder / name for name in names)
    spec = ModelSpec(first, folder / "base" if based else None, adapters=tuple(adapters))
    memory = weights_memory(spec, Fingerprints())
    assert memory is not None
    assert memory.victim + memory.base == pytest.approx(loaded_bytes(spec), rel=0.02)  # adapters may change the same
    half = weights_memory(replace(spec, dtype="bfloat16"), Fingerprints())
    assert half is not None
    assert half.victim * 2 == memory.victim


def test_shards_and_variants_count_once(tmp_path: Path) -> None:
    pipe = tiny_transformer("flux", 0)
    pipe.save_pretrained(tmp_path / "plain")
    pipe.save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    pipe.save_pretrained(tmp_path / "both")
    pipe.save_pretrained(tmp_path / "both", variant="fp16")
    shutil.copytree(tmp_path / "shards", tmp_path / "both", dirs_exist_ok=True)
    sizes = {weights_memory(ModelSpec(tmp_path / name), Fingerprints()) for name in ("plain", "shards", "both")}
    assert len(sizes) == 1
    assert None not in sizes


def test_nothing_is_said_where_headers_do_not_tell(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    for spec in (ModelSpec(tmp_path), ModelSpec(folder / "esd"), ModelSpec(folder / "esd", tmp_path)):
        assert weights_memory(spec, Fingerprints()) is None


def test_it_is_said_in_gib(folder: Path) -> None:
    memory = weights_memory(ModelSpec(folder / "esd", folder / "base"), Fingerprints())
    assert memory is not None
    large = replace(memory, victim=31 * 2**30, base=22 * 2**30, dtype="bfloat16")
    assert str(large) == (
        "weights take about 53.0 GiB in bfloat16: the victim 31.0 GiB, its base 22.0 GiB beside what they share"
    )
