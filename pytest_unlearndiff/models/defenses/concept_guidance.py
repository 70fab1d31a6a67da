"""Guidance away from a concept inside a pipeline's own call, whose network predicts the concept as well."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from . import DefendedModel


class Guide(ABC):
    """Changes of one call of a pipeline, step by step."""

    def inputs(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the latents (3B, C, h, w) that the network is given: those of empty text, text and concept."""
        return latents

    @abstractmethod
    def outputs(self, predictions: torch.Tensor, timestep: Any) -> torch.Tensor:
        """Return predictions (2B, C, h, w) for classifier-free guidance, from those (3B, C, h, w) with the concept's.

        Args:
            predictions: of empty text, text and concept.
            timestep: that the network was given.
        """


class ConceptGuidance(ABC):
    """Base of defenses (``Defense``) that need a prediction of the concept in every step.

    Args:
        concept: what images are guided away from.
    """

    extra_forwards_per_step = 1

    def __init__(self, concept: str) -> None:
        self._concept = concept

    @abstractmethod
    def _guide(self, model: DefendedModel) -> AbstractContextManager[Guide]:
        """Return the changes of one call of the pipeline."""

    def call_arguments(self, count: int, guidance: float) -> dict[str, Any]:
        """See ``Defense``."""
        return {}

    def applied(self, model: DefendedModel, guidance: float) -> AbstractContextManager[None]:
        """See ``Defense``; without classifier-free guidance (scale above 1) no text is predicted to guide away from."""
        return nullcontext() if guidance <= 1 else self._hooked(model)

    @contextmanager
    def _hooked(self, model: DefendedModel) -> Iterator[None]:
        network, concept = model.network, model.network_arguments(self._concept)
        with self._guide(model) as guide:

            def before(_: Any, positional: Any, named: Any) -> tuple[Any, Any]:
                (latents, *rest), named = _add_concept(positional, named, concept)
                return (guide.inputs(latents), *rest), named

            def after(_: Any, positional: Any, output: Any) -> tuple[torch.Tensor]:
                return (guide.outputs(output[0], positional[1]),)

            hooks = network.register_forward_pre_hook(before, with_kwargs=True), network.register_forward_hook(after)
            try:
                yield
            finally:
                for hook in hooks:
                    hook.remove()


def _add_concept(positional: Any, named: Any, concept: Mapping[str, Any]) -> tuple[Any, Any]:
    """Append the latents once more, to be predicted for the concept."""
    latents, *rest = positional
    count = len(latents) // 2
    conditions = {name: _append(named[name], value, count) for name, value in concept.items()}
    return (torch.cat([latents, latents[:count]]), *rest), {**named, **conditions}


def _append(batch: Any, concept: Any, count: int) -> Any:
    """Append ``count`` copies of the concept's conditions to a batch's."""
    if isinstance(concept, Mapping):
        return {**batch, **{name: _append(batch[name], value, count) for name, value in concept.items()}}
    return torch.cat([batch, concept.to(batch).expand(count, *concept.shape[1:])])
