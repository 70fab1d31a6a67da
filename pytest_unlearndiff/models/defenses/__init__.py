"""Defenses, which erase at inference time: one module each, and one row here, which needs no torch."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from ...core.model_info import DefenseInfo

ROWS = (
    DefenseInfo(
        "negative-prompt",
        f"{__name__}.negative_prompt:NegativePrompt",
        "1",
        description="negative prompt {prompt!r}",
        options=("prompt",),
    ),
    DefenseInfo(
        "safe-latent-diffusion",
        f"{__name__}.safe_latent_diffusion:SafeLatentDiffusion",
        "1",
        description="safe latent diffusion ({strength}, warm-up in {warmup}) away from {concept!r}",
        options=("strength", "concept", "warmup"),
        choices={"strength": ("weak", "medium", "strong", "max"), "warmup": ("steps", "timesteps")},
        predicts_concept=True,
    ),
    DefenseInfo(
        "steering-vector",
        f"{__name__}.steering_vector:SteeringVector",
        "1",
        description="steering vector {file} (module {module}, {mode}, strength {strength})",
        options=("file", "module", "mode", "strength"),
        choices={"mode": ("add", "project")},
        defaults={"module": "file", "mode": "add", "strength": "1"},
        numbers=("strength",),
        files=("file",),
        attacked_through=True,
    ),
    DefenseInfo(
        "sparse-autoencoder",
        f"{__name__}.sparse_autoencoder:SparseAutoencoder",
        "1",
        description="sparse autoencoder {file} on {module} (latents {features!r}, concept {concept!r}, "
        "strength {strength}, k {k})",
        options=("file", "module", "features", "concept", "strength", "k"),
        defaults={"features": "", "concept": "", "k": "32"},
        numbers=("strength", "k"),
        files=("file",),
        attacked_through=True,
    ),
    DefenseInfo(
        "safree",
        f"{__name__}.safree:Safree",
        "1",
        description="SAFREE's text filter against {concepts!r}",
        options=("concepts",),
        attacked_through=True,
        families=("stable-diffusion",),
    ),
    DefenseInfo(
        "trasce",
        f"{__name__}.trasce:Trasce",
        "1",
        description="TraSCE away from {concept!r} (scale {scale}, sigma {sigma})",
        options=("concept", "scale", "sigma"),
        defaults={"scale": "1", "sigma": "1"},
        numbers=("scale", "sigma"),
        positive=("sigma",),
        predicts_concept=True,
        families=("stable-diffusion", "stable-diffusion-xl"),
    ),
)


class DefendedModel(Protocol):
    """A model whose images a defense changes; ``DiffusionModel`` is one."""

    @property
    def network(self) -> Any:
        """The network that predicts noise, on which hooks may be registered while images are drawn."""
        ...

    @property
    def scheduler(self) -> Any:
        """The scheduler that images are drawn with, whose ``step`` may be exchanged meanwhile."""
        ...

    @property
    def vocabulary(self) -> Any:
        """The family's ``Vocabulary``."""
        ...

    def network_arguments(self, text: str) -> dict[str, Any]:
        """Return the network's keyword arguments for one text, each (1, ...), beside latents and timestep."""
        ...

    def module(self, path: str) -> Any:
        """Return a module by its dotted path from the pipeline, such as ``unet.mid_block``.

        Raises:
            ModelError: there is none.
        """
        ...


class Defense(Protocol):
    """An inference-time eraser, made by a defense's ``implementation(**options)``."""

    @property
    def extra_forwards_per_step(self) -> int:
        """Forward passes of the network that it adds to each image and denoising step."""
        ...

    def call_arguments(self, count: int, guidance: float) -> dict[str, Any]:
        """Return arguments of the pipeline's call to add or replace.

        Args:
            count: prompts of the call.
            guidance: their classifier-free guidance scale.
        """
        ...

    def applied(self, model: DefendedModel, guidance: float) -> AbstractContextManager[None]:
        """Act on one call of the pipeline; where its row says ``attacked_through``, on encodings and predictions too.

        Args:
            model: the model that draws, encodes or predicts.
            guidance: classifier-free guidance scale of the call; 1 where it encodes or predicts.
        """
        ...
