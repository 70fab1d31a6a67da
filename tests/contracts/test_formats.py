"""The contract of checkpoint formats, over all rows of the registry: account for every tensor, refuse the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from resaved import Tensors, compvis, erasers, kohya, low_rank, unet
from resaved_transformers import original
from safetensors.torch import save_file
from tiny import tiny_pipeline
from tiny_transformers import tiny_transformer

from examples import WITH_EXAMPLES
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.core.registry import registry
from pytest_unlearndiff.models.checkpoint import read_checkpoint
from pytest_unlearndiff.models.families.lookup import family_of
from pytest_unlearndiff.models.loading import Loaded, load_victim
from pytest_unlearndiff.sources.model_header import inspect_model, possible_formats


def receler(pipe: Any) -> Tensors:
    return {f"{place}.{part}": value for place, parts in erasers(pipe).items() for part, value in parts.items()}


SAMPLES: Mapping[str, Callable[[Any], Tensors]] = {
    "lora": lambda pipe: kohya(low_rank(pipe, 1), 1.0),
    "receler": receler,
    "compvis": compvis,
    "diffusers": unet,
    "original": lambda pipe: original(pipe, r"\.ff\.|\.to_out\."),
    "weight-deltas": lambda pipe: {f"delta.{key}": value for key, value in unet(pipe).items()},
}
"""Tensors of each format for a pipeline: a new row needs one here, or its test says so."""


def pipeline(name: str, seed: int) -> Any:
    """A pipeline that has this format."""
    return tiny_transformer("flux", seed) if name == "original" else tiny_pipeline(seed)


@pytest.fixture
def base(name: str) -> Any:
    return pipeline(name, 0)


@pytest.fixture
def erased(name: str) -> Any:
    return pipeline(name, 1)


@pytest.fixture(params=list(WITH_EXAMPLES.formats))
def name(request: pytest.FixtureRequest) -> str:
    assert request.param in SAMPLES, f"add tensors of the format {request.param} to SAMPLES"
    return str(request.param)


@pytest.fixture
def tensors(name: str, erased: Any) -> Tensors:
    return {key: value.clone() for key, value in SAMPLES[name](erased).items()}


def load(tensors: Mapping[str, torch.Tensor], base: Any, folder: Path) -> Loaded:
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "x")
    return load_victim(read_checkpoint(folder / "x"), base)


def test_every_tensor_is_accounted_for(name: str, tensors: Tensors, base: Any, tmp_path: Path) -> None:
    loaded = load(tensors, base, tmp_path)
    parts_per_weight = len(tensors) / sum(change.given for change in loaded.changes)
    assert parts_per_weight == {"lora": 3}.get(name, 1)
    assert all(change.changed > 0 for change in loaded.changes)
    assert not any(
        tensor.requires_grad for tensor in getattr(loaded.pipe, family_of(base).network).state_dict().values()
    )


def test_first_row_that_matches_is_its_own(name: str, tensors: Tensors) -> None:
    assert next(row.name for row in registry().formats.values() if row.matches(tensors)) == name


@pytest.mark.parametrize("zipped", [True, False, None])
def test_header_shows_the_format(name: str, tensors: Tensors, zipped: bool | None, tmp_path: Path) -> None:
    """The key holds the version of the formats that its header shows, before anything is loaded."""
    if zipped is None:
        save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / "x")
    else:
        torch.save(tensors, tmp_path / "x", _use_new_zipfile_serialization=zipped)
    assert registry().formats[name] in possible_formats(inspect_model(tmp_path / "x"))


def without_one(tensors: Tensors) -> Tensors:
    return dict(list(tensors.items())[1:])


def with_one_that_has_no_place(tensors: Tensors) -> Tensors:
    key = next(key for key in tensors if re.search(r"\d", key))
    return {**tensors, re.sub(r"\d", "99", key, count=1): tensors[key].clone()}


def with_another_shape(tensors: Tensors) -> Tensors:
    key = next(key for key, value in tensors.items() if value.dim() == 2)
    return {**tensors, key: torch.cat([tensors[key], tensors[key]], 1)}


def with_nan(tensors: Tensors) -> Tensors:
    key = next(key for key, value in tensors.items() if value.dim() >= 2)
    return {**tensors, key: tensors[key] * torch.nan}


def with_whole_numbers(tensors: Tensors) -> Tensors:
    key = next(key for key, value in tensors.items() if value.dim() >= 2)
    return {**tensors, key: tensors[key].long()}


@pytest.mark.parametrize(
    "damage", [without_one, with_one_that_has_no_place, with_another_shape, with_nan, with_whole_numbers]
)
def test_damaged_tensors_are_refused_by_name(
    damage: Callable[[Tensors], Tensors], tensors: Tensors, base: Any, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"(blocks|attn|attentions|conv|time_emb|lora_unet)"):
        load(damage(tensors), base, tmp_path)


def test_truncated_file_is_refused(tensors: Tensors, base: Any, tmp_path: Path) -> None:
    load(tensors, base, tmp_path)
    content = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="is not a whole safetensors file"):
        read_checkpoint(tmp_path / "x")


def touch(path: str) -> None:
    Path(path).touch()


class Touches:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return touch, (self._path,)


@pytest.mark.parametrize("trust", [False, True])
def test_code_in_a_pickle_is_never_executed(trust: bool, tensors: Tensors, tmp_path: Path) -> None:
    torch.save({"state_dict": tensors, "hook": Touches(tmp_path / "executed")}, tmp_path / "x")
    if trust:
        assert read_checkpoint(tmp_path / "x", trust_pickle=True).patches
    else:
        with pytest.raises(ModelError, match=r"names what is no tensor: .*Nothing of it was executed"):
            read_checkpoint(tmp_path / "x")
    assert not (tmp_path / "executed").exists()
