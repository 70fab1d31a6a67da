"""A model that erases everything, which is why there are retention gates: ``model: destroyed:model`` in a gate file."""

from __future__ import annotations

import copy
from pathlib import Path

from pytest_unlearndiff.models.pipeline_folders import load_pipeline


def model():
    """The emoji model with a UNet that predicts no noise at all."""
    pipe = copy.copy(load_pipeline(Path(__file__).parent / "model"))
    pipe.unet.conv_out.weight.zero_()
    pipe.unet.conv_out.bias.zero_()
    return pipe
