"""DDPM's noise schedule (Ho et al. 2020), and the schedulers that draw on it."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from diffusers import DDPMScheduler, LMSDiscreteScheduler

from ...core.concept import Sampling
from ...core.errors import ModelError
from ..libraries import library_warnings_ignored

_PREDICTIONS = (None, "epsilon", "v_prediction", "sample")
_NOISE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")
_TOLD = 5  # differences that are told: who sees more has another kind of scheduler
_SIGMAS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")


class DdpmNoise:
    """A mixin: the part of ``Family`` that noises latents, for networks trained on DDPM's schedule."""

    def _take_schedule(self, pipe: Any, sampling: Sampling) -> None:
        """Take over a pipeline's noise schedule, and replace its scheduler as ``sampling`` asks.

        Raises:
            ModelError: see ``check_schedule``.
        """
        check_schedule(pipe.scheduler, sampling)
        self._noise = ddpm(pipe.scheduler)
        if sampling.scheduler == "lms":
            pipe.scheduler = lms(pipe.scheduler, sampling.spacing)

    @property
    def timesteps(self) -> int:
        """See ``Family``."""
        return int(self._noise.config.num_train_timesteps)

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Family``."""
        match self._noise.config.prediction_type:
            case "v_prediction":
                target = self._noise.get_velocity(x0, noise, t)
            case "sample":
                target = x0
            case _:
                target = noise
        return self._noise.add_noise(x0, noise, t), target


def check_schedule(scheduler: Any, sampling: Sampling) -> None:
    """Refuse schedules that are not DDPM's, and a scheduler that cannot be replaced as ``sampling`` asks.

    Raises:
        ModelError: names the scheduler and its settings.
    """
    if not hasattr(scheduler, "alphas_cumprod") or scheduler.config.get("prediction_type") not in _PREDICTIONS:
        raise ModelError(
            f"its scheduler is a {type(scheduler).__name__} with prediction_type="
            f"{scheduler.config.get('prediction_type')!r}; only DDPM's noise schedule and predictions of noise "
            "(epsilon), velocity (v_prediction) or the sample can be attacked"
        )
    if sampling.scheduler == "lms" and scheduler.config.get("rescale_betas_zero_snr"):
        raise ModelError(
            "its schedule ends in pure noise (rescale_betas_zero_snr), which LMS sampling does not have, so images "
            "would not be those that ship: give the concept 'sampling: {scheduler: own}'"
        )


def lms(scheduler: Any, spacing: str) -> Any:
    """LMS on the noise schedule of a pipeline's scheduler.

    Settings that a scheduler's config leaves to its class count as if they were written there: saving a pipeline writes
    them down (Stable Diffusion 1.4 then says ``leading``, where LMS would have taken ``linspace``), and the same
    weights have to draw the same images before and after.

    Args:
        scheduler: the pipeline's.
        spacing: one of ``core.concept.SPACINGS``; ``own`` takes over how the pipeline's spaces timesteps and sigmas.
    """
    named = _named(scheduler, *_NOISE, "steps_offset")
    if spacing == "own":
        named |= _named(scheduler, "timestep_spacing", *_SIGMAS)
    else:
        named["timestep_spacing"] = spacing
    with library_warnings_ignored():
        return RememberingLms.from_config(named)


class RememberingLms(LMSDiscreteScheduler):  # type: ignore[misc]
    """LMS that integrates its coefficients once: they follow from the number of steps, and cost a tenth of an image."""

    def get_lms_coefficient(self, order: int, t: int, current_order: int) -> float:
        """Return a coefficient of the multistep method, as the base class does."""
        remembered: dict[tuple[int, int, int, int], float] = self.__dict__.setdefault("_coefficients", {})
        key = self.num_inference_steps, order, t, current_order
        if key not in remembered:
            remembered[key] = super().get_lms_coefficient(order, t, current_order)
        return remembered[key]


def noise_settings(scheduler: Any) -> dict[str, Any]:
    """Return the settings of a scheduler that say its noise schedule and what its network predicts."""
    return _named(scheduler, *_NOISE, "steps_offset", "rescale_betas_zero_snr")


def ddpm(scheduler: Any) -> Any:
    """DDPM on the same noise schedule.

    Euler's and LMS's ``add_noise`` scale by sigma; the loss wants the variance-preserving x_t of DDPM.
    """
    with library_warnings_ignored():
        return DDPMScheduler.from_config(_named(scheduler, *_NOISE, "rescale_betas_zero_snr"))


def _named(scheduler: Any, *names: str) -> dict[str, Any]:
    """These settings of a scheduler, as far as it has them."""
    return {name: scheduler.config[name] for name in names if name in scheduler.config}


def scheduler_differences(mine: Any, base: Any, sampling: Sampling) -> list[str]:
    """List the settings in which a victim's scheduler differs from its base's, of those that can change outcomes.

    Args:
        mine: the victim's scheduler.
        base: the base's.
        sampling: how images are drawn.

    Returns:
        Such as ``prediction_type ('v_prediction', the base's 'epsilon')``.
    """
    here, there = _deciding(mine, sampling), _deciding(base, sampling)
    if here.get("class") != there.get("class"):  # which have settings that the other does not know
        here, there = ({name: value for name, value in here.items() if name in there}, there)
    names = [name for name in here if _plain(here[name]) != _plain(there.get(name))]
    more = [f"and {len(names) - _TOLD} more"] if len(names) > _TOLD else []
    return [f"{name} ({_short(here[name])}, the base's {_short(there.get(name))})" for name in names[:_TOLD]] + more


def _deciding(scheduler: Any, sampling: Sampling) -> Mapping[str, Any]:
    """Return the settings of a scheduler that decide images and denoising errors."""
    if sampling.scheduler == "own":
        # Not what else stands in a config, which a class that does not know it ignores.
        return {"class": type(scheduler).__name__, **_named(scheduler, *signature(type(scheduler)).parameters)}
    drawing = lms(scheduler, sampling.spacing)
    offset = () if drawing.config.timestep_spacing != "leading" else ("steps_offset",)
    return _named(drawing, *_NOISE, "timestep_spacing", *_SIGMAS, *offset)


def _plain(value: Any) -> Any:
    """Return a setting in comparable form; betas may be an array."""
    return value.tolist() if hasattr(value, "tolist") else value


def _short(value: object) -> str:
    text = repr(_plain(value))
    return text if len(text) <= 40 else f"{text[:37]}..."
