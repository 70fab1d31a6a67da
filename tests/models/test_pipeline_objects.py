"""A pipeline object is held against its base: one that is its base is refused as a file would be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_pipeline, tiny_xl

from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.core.model_options import defense
from pytest_unlearndiff.models.loading import weights_digest, wrap_pipeline
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import ModelSpec

from .test_safety_checker import checked_pipeline

REFUSED = r"pipeline \(pipeline object\): every tensor equals the base's, so nothing was unlearned in this checkpoint"


def _vae(pipe: Any) -> None:
    pipe.vae.decoder.conv_in.weight.add_(1)


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # torch's own, as it compiles
@pytest.mark.parametrize(
    "done",
    [
        lambda p: None,
        lambda p: p.to(torch.float16),
        lambda p: p.to(torch.bfloat16),
        lambda p: p.text_encoder.half(),
        lambda p: setattr(p, "unet", torch.compile(p.unet)),
        _vae,
    ],
    ids=["nothing", "half", "bfloat16", "mixed", "compiled", "autoencoder"],
)
@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl])
def test_pipeline_with_the_bases_weights_is_refused(make: Callable[..., Any], done: Callable[[Any], Any]) -> None:
    done(pipe := make(1))
    with pytest.raises(ModelError, match=REFUSED):
        wrap_pipeline(pipe, make(1))
    loaded = wrap_pipeline(pipe, make(1), acts=("forward hook on unet (<sae.Hook>)",))
    assert "its weights are the base's: all that is tested is forward hook on unet (<sae.Hook>)" in loaded.notes


def test_base_of_coarser_dtype_is_refused() -> None:
    with pytest.raises(ModelError, match=REFUSED):
        wrap_pipeline(tiny_pipeline(1), tiny_pipeline(1).to(torch.float16))


def _edited() -> Any:
    pipe = tiny_pipeline(1)
    pipe.unet.conv_in.weight.add_(1e-2)
    return pipe


@pytest.mark.parametrize(
    ("make", "changed"),
    [(lambda: tiny_pipeline(2), ["unet", "text_encoder", "vae"]), (_edited, ["unet"]), (lambda: tiny_xl(1), [])],
    ids=["others", "one tensor", "another family"],
)
def test_changes_of_a_pipeline_object(make: Callable[[], Any], changed: list[str]) -> None:
    loaded = wrap_pipeline(make(), tiny_pipeline(1))
    assert loaded.notes == ()
    assert [change.component for change in loaded.changes if change.changed] == changed


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, ""),
        ({"defenses": (defense("negative-prompt", prompt="a church"),)}, "negative prompt 'a church'"),
        ({"safety_checker": True}, "its own safety checker"),
    ],
)
def test_inference_time_erasers_are_enough(tmp_path: Path, told: dict[str, Any], said: str) -> None:
    tiny_pipeline(1).save_pretrained(tmp_path)
    source = ModelSpec(base=tmp_path, pipe=checked_pipeline(1), **told)
    if said:
        assert f"its weights are the base's: all that is tested is {said}" in ModelCache().victim(source).notes
    else:
        with pytest.raises(
            ModelError, match=r"the StableDiffusionPipeline of unlearned_pipe \(pipeline object\): every"
        ):
            ModelCache().victim(source)


@pytest.mark.parametrize(("make", "encoder"), [(tiny_pipeline, "text_encoder"), (tiny_xl, "text_encoder_2")])
def test_pipeline_of_mixed_types_uses_the_networks_type(make: Callable[[int], Any], encoder: str) -> None:
    """As ``from_pretrained`` without a type gives it where files are in half precision."""
    pipe = make(1)
    getattr(pipe, encoder).half()
    before = weights_digest(pipe)
    with pytest.raises(RuntimeError, match="dtype"):
        pipe("a church", num_inference_steps=1)
    loaded = wrap_pipeline(pipe)
    assert loaded.notes == (f"{encoder} cast from float16 to float32, the UNet's type",)
    assert len(loaded.pipe("a church", num_inference_steps=1).images) == 1
    assert weights_digest(pipe) == before
    assert loaded.pipe.unet is pipe.unet
    assert (getattr(loaded.pipe, encoder).dtype, getattr(pipe, encoder).dtype) == (torch.float32, torch.float16)
