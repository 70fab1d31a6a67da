"""The rows of ``examples/plugins``, beside the built-in ones, and tiny models for each."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
from diffusers import LatentConsistencyModelPipeline, LCMScheduler, UNet2DConditionModel
from tiny import tiny_pipeline

from pytest_unlearndiff.core.registry import Registry

FOLDER = Path(__file__).parents[2] / "examples" / "plugins"


def _rows() -> list[Any]:
    sys.path.append(str(FOLDER))
    spec = spec_from_file_location("example_rows", FOLDER / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    rows: list[Any] = module.pytest_unlearndiff_register(None)
    return rows


WITH_EXAMPLES = Registry(_rows())


def tiny_lcm(seed: int = 0) -> Any:
    """A latent consistency model of a few thousand weights."""
    pipe = tiny_pipeline(seed)
    config = {name: value for name, value in pipe.unet.config.items() if not name.startswith("_")}
    config["time_cond_proj_dim"] = 32
    torch.manual_seed(seed)
    lcm = LatentConsistencyModelPipeline(
        vae=pipe.vae,
        text_encoder=pipe.text_encoder,
        tokenizer=pipe.tokenizer,
        unet=UNet2DConditionModel.from_config(config).eval(),
        scheduler=LCMScheduler.from_config(pipe.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    lcm.set_progress_bar_config(disable=True)
    return lcm
