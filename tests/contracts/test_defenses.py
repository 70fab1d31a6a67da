"""The contract of defenses, over all rows of the registry and all families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tiny import shown, tiny_pipeline, tiny_xl

from examples import WITH_EXAMPLES
from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.core.model_options import DefenseConfig, defense, describe_defenses
from pytest_unlearndiff.core.outcome import computed_forwards
from pytest_unlearndiff.core.registry import registry
from pytest_unlearndiff.models.diffusion_model import DiffusionModel

OPTIONS: Mapping[str, Mapping[str, str]] = {
    "negative-prompt": {"prompt": "church"},
    "guidance-cap": {"scale": "2"},
    "safe-latent-diffusion": {"strength": "max", "concept": "church", "warmup": "steps"},
}
"""Options of each defense: a new row needs some here, or its test says so."""
REQUESTS = [GenerationRequest(f"a church, {n}", n, 5.0) for n in range(4)]
SAMPLING = Sampling(2, "own")


@pytest.fixture(params=list(WITH_EXAMPLES.defenses))
def config(request: pytest.FixtureRequest) -> DefenseConfig:
    assert request.param in OPTIONS, f"add options of the defense {request.param} to OPTIONS"
    return defense(request.param, **OPTIONS[request.param])


@pytest.fixture(params=[tiny_pipeline, tiny_xl])
def pipe(request: pytest.FixtureRequest) -> Any:
    return request.param(1)


def test_images_change_and_nothing_stays_behind(config: DefenseConfig, pipe: Any) -> None:
    plain = [image.tobytes() for image in shown(DiffusionModel(pipe, SAMPLING).generate(REQUESTS))]
    model = DiffusionModel(pipe, SAMPLING, (config,))
    before = computed_forwards()
    drawn = [image.tobytes() for image in shown(model.generate(REQUESTS))]
    assert computed_forwards() - before == len(REQUESTS) * model.forwards_per_image
    assert all(one != other for one, other in zip(plain, drawn, strict=True))
    assert not pipe.unet._forward_hooks
    assert not pipe.unet._forward_pre_hooks
    assert [image.tobytes() for image in shown(DiffusionModel(pipe, SAMPLING).generate(REQUESTS))] == plain


def test_every_option_enters_the_description(config: DefenseConfig) -> None:
    """Its description enters the key, so that two settings must never share one."""
    row = registry().defenses[config.name]
    for option, value in config.options:
        others = row.choices.get(option, (value, "another"))
        other = next(each for each in others if each != value)
        assert describe_defenses([defense(config.name, **{**dict(config.options), option: other})]) != str(config)
