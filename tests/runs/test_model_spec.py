"""Fingerprints of models: their files, and the versions of the code that reads and draws them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_pipeline

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Concept, JudgeConfig
from pytest_unlearndiff.core.info import Info
from pytest_unlearndiff.core.model_info import FormatInfo
from pytest_unlearndiff.core.registry import Registry, registry, set_registry
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.store.key import AttackKey, Fingerprints, key_differences


@pytest.fixture(autouse=True)
def _restored_registry() -> Iterator[None]:
    before = registry()
    yield
    set_registry(before)


def test_fingerprint_of_a_copy_differs_from_its_base(tmp_path: Path) -> None:
    """A copy has to be loaded to be found out."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "model_index.json").write_text("{}")
    source = ModelSpec(shutil.copytree(base, tmp_path / "copy"), base)
    victim, base_only = (Fingerprint.of(spec, Fingerprints()) for spec in (source, source.base_only))
    assert victim.victim != base_only.victim
    assert victim.targets_digest == base_only.targets_digest
    assert victim.victim == Fingerprint.of(ModelSpec(source.model), Fingerprints()).victim


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base of Stable Diffusion, a copy, and a checkpoint with diffusers' names in two file formats."""
    for name in ("base", "copy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    save_file({"down_blocks.0.x.weight": torch.ones(2)}, tmp_path / "unet.safetensors")
    torch.save({"state_dict": {"module.down_blocks.0.x.weight": torch.ones(2)}}, tmp_path / "unet.pt")
    return tmp_path


def raise_version(row: Info) -> None:
    """Give a built-in row another version."""
    changed = Registry()
    changed._table(type(row))[row.name] = replace(row, version=row.version + "1")
    set_registry(changed)


def key(spec: ModelSpec) -> AttackKey:
    concept = Concept("church", (), JudgeConfig("function", {"call": "a:b"}))
    return Campaign(concept, AttackConfig(), Fingerprint.of(spec, Fingerprints()), "j").key


@pytest.mark.parametrize("file", ["unet.safetensors", "unet.pt"])
def test_raised_version_of_a_format_changes_keys_of_its_checkpoints(folder: Path, file: str) -> None:
    specs = [ModelSpec(folder / file, folder / "base"), ModelSpec(folder / "copy", folder / "base")]
    before = [key(spec) for spec in specs]
    raise_version(registry().formats["lora"])
    assert [key(spec) for spec in specs] == before
    raise_version(registry().formats["diffusers"])
    after = [key(spec) for spec in specs]
    assert (after[0].digest != before[0].digest, after[1]) == (True, before[1])
    changes = key_differences(after[0].to_dict(), before[0].to_dict())
    assert changes == ["the version of a model family or checkpoint format"]


@pytest.mark.parametrize("model", ["unet.safetensors", "copy", "pipe", None])
def test_raised_version_of_a_family_changes_keys_of_victim_and_base(folder: Path, model: str | None) -> None:
    spec = ModelSpec(folder / model if model not in (None, "pipe") else None, folder / "base")
    if model == "pipe":
        spec = replace(spec, pipe=tiny_pipeline(0))
    before = key(spec)
    raise_version(registry().families["stable-diffusion-xl"])
    assert key(spec) == before
    raise_version(registry().families["stable-diffusion"])
    assert key(spec).victim != before.victim
    assert key(spec).target != before.target
    assert {*key_differences(key(spec).to_dict(), before.to_dict())} == {
        "the version of a model family or checkpoint format"
    }


def test_plugin_that_takes_over_a_checkpoint_changes_its_key(folder: Path) -> None:
    spec = ModelSpec(folder / "unet.safetensors", folder / "base")
    before = key(spec)
    set_registry(Registry([FormatInfo("others", "a:b", "1", any_name="mid_block")]))
    assert key(spec) == before
    set_registry(Registry([FormatInfo("ours", "a:b", "1", any_name="down_blocks")]))
    assert key(spec).digest != before.digest
