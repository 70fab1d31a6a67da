"""Flow matching (Lipman et al. 2023, arXiv 2210.02747) along straight paths (Esser et al. 2024, arXiv 2403.03206)."""

from __future__ import annotations

from typing import Any

import torch

from ...core.concept import Sampling
from ...core.errors import ModelError


class FlowMatching:
    """A mixin: the part of ``Family`` that noises latents, for networks that predict velocities.

    x_u = (1 - u) x0 + u noise, and the network predicts dx_u/du = noise - x0 (Esser et al., section 2, equations 6 and
    13). Timesteps count u in equal parts. A sampler may shift u, which decides where it asks the network, not what the
    answer is.
    """

    _pipe: Any

    @property
    def timesteps(self) -> int:
        """See ``Family``."""
        return int(self._pipe.scheduler.config.num_train_timesteps)

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Family``."""
        u = (t.to(x0) / self.timesteps).view(-1, *[1] * (x0.dim() - 1))
        return (1 - u) * x0 + u * noise, noise - x0


def check_flow(scheduler: Any, sampling: Sampling) -> None:
    """Refuse schedulers that do not follow straight paths, and sampling by another one.

    Raises:
        ModelError: names the scheduler.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if not name.startswith("FlowMatch") and not config.get("use_flow_sigmas"):
        raise ModelError(f"its scheduler is a {name}, and its network predicts velocities of flow matching")
    if sampling.scheduler != "own":
        raise ModelError(
            f"{sampling.scheduler} sampling does not go with flow matching: give the concept 'sampling: {{scheduler: "
            "own}', or leave its sampling out"
        )
