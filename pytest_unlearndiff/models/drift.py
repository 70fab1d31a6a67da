"""How far a victim's predicted noise has moved from its base's, on given prompts; no image is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .batches import in_batches
from .diffusion_model import DiffusionModel


@torch.no_grad()
def noise_drift(
    victim: DiffusionModel, base: DiffusionModel, texts: Sequence[str], *, samples: int = 8, seed: int = 0
) -> list[float]:
    """||eps_victim - eps_base||^2 / ||eps_base||^2 for each text, each model with its own text states.

    It is averaged over ``samples`` timesteps in the noisier half of the schedule. Noise alone stands in for x_t, so
    that no image has to be drawn; the figure compares prompts of one pair of models, and nothing else.

    Args:
        victim: the unlearned model.
        base: the un-erased one; of the same latent size and noise schedule.
        texts: prompts.
        samples: noise samples, one a timestep; every text is measured with the same ones.
        seed: of the noise.

    Returns:
        One number a text; 0 where nothing has moved.
    """
    shape = (samples, *base.latent_shape)
    noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)).to(base.device)
    half = base.timesteps // 2
    t = torch.tensor([half + (2 * s + 1) * half // (2 * samples) for s in range(samples)], device=base.device)
    states = victim.encode_prompts(texts), base.encode_prompts(texts)
    pairs = [(text, sample) for text in range(len(texts)) for sample in range(samples)]
    found: list[float] = []
    for count, part in in_batches(pairs):
        chosen, drawn = (torch.tensor(column, device=base.device) for column in zip(*part, strict=True))
        moved, here = (
            model.predict(noise[drawn], t[drawn], mine[chosen])
            for model, mine in zip((victim, base), states, strict=True)
        )
        found += ((moved - here).square().sum((1, 2, 3)) / here.square().sum((1, 2, 3)))[:count].tolist()
    return [sum(found[i : i + samples]) / samples for i in range(0, len(found), samples)]
