"""The same weights draw the same images, saved again or not; a scheduler that is not its base's is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import PROMPTS, tiny_pipeline, tiny_xl

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import SPACINGS, Concept, JudgeConfig, Sampling
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.families.ddpm import lms, scheduler_differences
from pytest_unlearndiff.models.libraries import library_warnings_ignored
from pytest_unlearndiff.models.pipeline_folders import load_pipeline, load_scheduler
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.local_backend import LocalBackend
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.runs.runner import Runner
from pytest_unlearndiff.store.store import Store

# As Stable Diffusion 1.4 is published: the spacing of timesteps is left to the scheduler's class.
PUBLISHED = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}
CLASSES = ("PNDMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "LCMScheduler")
DRAWINGS = [GenerationRequest(prompt.text, prompt.seed, prompt.guidance) for prompt in PROMPTS[:2]]


def scheduler(name: str = "PNDMScheduler", **settings: Any) -> Any:
    """A scheduler as a pipeline loads it, with these settings in its file."""
    with library_warnings_ignored():
        return getattr(diffusers, name).from_config({**PUBLISHED, **settings})


def saved_again(given: Any, folder: Path) -> Any:
    given.save_pretrained(folder)
    return type(given).from_pretrained(folder)


def fifty(given: Any) -> Any:
    """The scheduler, ready for 50 steps."""
    with library_warnings_ignored():
        given.set_timesteps(50)
    return given


def images(given: Any, sampling: Sampling) -> list[np.ndarray]:
    pipe = tiny_pipeline()
    pipe.scheduler = given
    return [np.asarray(image) for image in DiffusionModel(pipe, sampling).generate(DRAWINGS)]


@pytest.mark.parametrize("spacing", ["linspace", "own"])
def test_saved_pipeline_draws_the_same_images(spacing: str, tmp_path: Path) -> None:
    before, sampling = scheduler(), Sampling(3, spacing=spacing)
    again = saved_again(before, tmp_path)
    assert all(map(np.array_equal, images(before, sampling), images(again, sampling)))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", CLASSES)
def test_saved_scheduler_has_the_same_timesteps(name: str, spacing: str, tmp_path: Path) -> None:
    before = scheduler(name)
    again = saved_again(before, tmp_path)
    first, second = (fifty(lms(each, spacing)) for each in (before, again))
    assert torch.equal(first.timesteps, second.timesteps)
    assert torch.equal(first.sigmas, second.sigmas)
    assert scheduler_differences(again, before, Sampling(spacing=spacing)) == []


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("settings", [{}, {"timestep_spacing": "trailing"}, {"use_karras_sigmas": True}])
def test_lms_timesteps_are_upstreams(name: str, settings: dict[str, Any]) -> None:
    mine = fifty(lms(scheduler(name, **settings), Sampling().spacing))
    with library_warnings_ignored():
        upstream = diffusers.LMSDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
        )
    fifty(upstream)
    assert torch.equal(mine.timesteps, torch.from_numpy(np.linspace(999, 0, 50, dtype=np.float32)))
    assert torch.equal(mine.timesteps, upstream.timesteps)
    assert torch.equal(mine.sigmas, upstream.sigmas)


@pytest.mark.parametrize(
    ("spacing", "first", "last"), [("linspace", 999, 0), ("leading", 981, 1), ("trailing", 999, 19), ("own", 981, 1)]
)
def test_spacings(spacing: str, first: int, last: int) -> None:
    found = fifty(lms(scheduler(), spacing))
    assert (found.timesteps[0], found.timesteps[-1]) == (first, last)


def test_own_spacing_keeps_the_pipelines_sigmas() -> None:
    found = lms(scheduler("EulerDiscreteScheduler", use_karras_sigmas=True, timestep_spacing="leading"), "own")
    assert found.config.use_karras_sigmas
    assert found.config.timestep_spacing == "leading"


def test_spacing_is_in_the_key() -> None:
    def digest(sampling: Sampling) -> str:
        asked = Concept("church", tuple(PROMPTS), JudgeConfig("function"), sampling=sampling)
        return Campaign(asked, AttackConfig(), Fingerprint("victim", "base"), "judge").key.digest

    assert asdict(Sampling()) == {"steps": 50, "scheduler": "lms", "spacing": "linspace"}
    assert asdict(Sampling(scheduler="own")) == {"steps": 50, "scheduler": "own", "spacing": "own"}
    assert len({digest(Sampling(spacing=spacing)) for spacing in SPACINGS}) == len(SPACINGS)
    assert digest(Sampling()) == digest(Sampling(spacing="linspace"))


LMS, LEADING, OWN = Sampling(), Sampling(spacing="leading"), Sampling(scheduler="own")


@pytest.mark.parametrize(
    ("settings", "sampling", "told"),
    [
        ({"beta_end": 0.02}, LMS, ["beta_end (0.02, the base's 0.012)"]),
        ({"beta_schedule": "linear"}, LMS, ["beta_schedule ('linear', the base's 'scaled_linear')"]),
        ({"prediction_type": "v_prediction"}, LMS, ["prediction_type ('v_prediction', the base's 'epsilon')"]),
        ({"trained_betas": np.full(1000, 0.1)}, LMS, [f"trained_betas ({str([0.1] * 9)[:37]}..., the base's None)"]),
        ({"trained_betas": [0.1] * 1000}, LMS, [f"trained_betas ({str([0.1] * 9)[:37]}..., the base's None)"]),
        ({"timestep_spacing": "trailing"}, LMS, []),
        ({"steps_offset": 0}, LMS, []),
        ({"steps_offset": 0}, LEADING, ["steps_offset (0, the base's 1)"]),
        ({"timestep_spacing": "trailing"}, LEADING, []),
        (
            {"timestep_spacing": "trailing"},
            Sampling(spacing="own"),
            ["timestep_spacing ('trailing', the base's 'leading')"],
        ),
        ({"timestep_spacing": "trailing"}, OWN, ["timestep_spacing ('trailing', the base's 'leading')"]),
        ({"skip_prk_steps": True}, OWN, ["skip_prk_steps (True, the base's False)"]),
        ({"skip_prk_steps": True}, LMS, []),
        ({"unknown\x1b[2J": 1}, OWN, []),
    ],
)  # fmt: skip
def test_differences_that_can_change_an_image(settings: dict[str, Any], sampling: Sampling, told: list[str]) -> None:
    assert scheduler_differences(scheduler(**settings), scheduler(), sampling) == told


def test_differences_of_scheduler_classes() -> None:
    found = scheduler_differences(scheduler("EulerDiscreteScheduler"), scheduler(), OWN)
    assert found[0] == "class ('EulerDiscreteScheduler', the base's 'PNDMScheduler')"
    assert scheduler_differences(scheduler("EulerDiscreteScheduler"), scheduler(), LMS) == []


def test_differences_stay_one_short_line() -> None:
    noise = {"beta_start": 1e-4, "beta_end": 0.5, "beta_schedule": "linear", "prediction_type": "v_prediction"}
    rest = {"steps_offset": 0, "skip_prk_steps": True, "timestep_spacing": "trailing", "set_alpha_to_one": True}
    found = scheduler_differences(scheduler(**noise, **rest), scheduler(), OWN)
    assert found[-1] == "and 3 more"
    assert len(", ".join(found)) < 1000


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl])
def test_load_scheduler_equals_the_loaded_pipelines(make: Callable[[], Any], tmp_path: Path) -> None:
    """Of an old config too, which pipelines mend as they are made; no weights are there to be read."""
    make().save_pretrained(tmp_path)
    old = scheduler("DDIMScheduler", steps_offset=0, clip_sample=True)
    old.save_pretrained(tmp_path / "scheduler")
    whole = load_pipeline(tmp_path).scheduler
    for weights in tmp_path.rglob("*.safetensors"):
        weights.unlink()
    alone = load_scheduler(tmp_path)
    assert (type(alone), dict(alone.config)) == (type(whole), dict(whole.config))
    (tmp_path / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(ModelError, match=r"its scheduler cannot be loaded: "):
        load_scheduler(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "object", "state dict"])
def test_scheduler_differences_are_notes_of_the_campaign(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "eye_of_schedules.py").write_text("def look(images):\n    return [True for _ in images]\n")
    monkeypatch.syspath_prepend(tmp_path)
    tiny_pipeline(0).save_pretrained(tmp_path / "base")
    pipe = tiny_pipeline(1)
    pipe.scheduler = scheduler(beta_schedule="linear")
    source = ModelSpec(tmp_path / "model", tmp_path / "base")
    if kind == "folder":
        pipe.save_pretrained(tmp_path / "model")
    elif kind == "object":
        source = replace(source, model=None, pipe=pipe)
    else:
        save_file({f"unet.{key}": value for key, value in pipe.unet.state_dict().items()}, tmp_path / "model")
    judge = JudgeConfig("function", {"call": "eye_of_schedules:look"})
    asked = Concept("church", tuple(PROMPTS[:1]), judge, sampling=Sampling(steps=2))
    store = Store(tmp_path / "store")
    campaign = Campaign(asked, AttackConfig("none"), Fingerprint.of(source, store.fingerprints), "judge")
    result = Runner(store, ModelCache(), LocalBackend(), batch_size=1).run(campaign, lambda: source)
    told = "its scheduler differs from its base's in beta_schedule ('linear', the base's 'scaled_linear')"
    unused = "its scheduler, PNDMScheduler, is not used: the concept says scheduler: lms; scheduler: own tests"
    notes = result.provenance["notes"]
    assert [note[: len(unused)] for note in notes] == ([] if kind == "state dict" else [told, unused])


def test_lms_coefficients_are_integrated_once_and_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    remembering = lms(scheduler(), "linspace")
    with library_warnings_ignored():
        plain = diffusers.LMSDiscreteScheduler.from_config(remembering.config)

    def coefficients(each: Any) -> list[float]:
        numbers = []
        for steps in (7, 9, 7):
            with library_warnings_ignored():
                each.set_timesteps(steps)
                orders = [(order, t) for t in range(1, steps) for order in range(1, min(t, 4))]
                numbers += [each.get_lms_coefficient(order, t, 0) for order, t in orders]
        return numbers

    expected = coefficients(plain)
    assert coefficients(remembering) == expected
    monkeypatch.setattr(diffusers.LMSDiscreteScheduler, "get_lms_coefficient", lambda *_: pytest.fail("again"))
    assert coefficients(remembering) == expected
