"""Stable Diffusion 1.x and 2.x, and what XL has in common with them: a UNet on latents, under DDPM's noise schedule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch

from ...core.concept import Sampling
from .base import Conditioning
from .ddpm import DdpmNoise
from .latent_images import LatentImages
from .typed_text import Change, hooked
from .vocabulary import ClipVocabulary, FilledPrompt


class LatentDiffusion(DdpmNoise, LatentImages, ABC):
    """A bound pipeline but for its text encoders, which subclasses add (``Family``).

    Args:
        pipe: the pipeline, whose scheduler may be replaced.
        sampling: how evaluation images are drawn.

    Raises:
        ModelError: its noise schedule is not DDPM's, its network predicts something else than noise, velocity or
            the sample, or its scheduler cannot be replaced as ``sampling`` asks.
    """

    def __init__(self, pipe: Any, sampling: Sampling) -> None:
        self._take_schedule(pipe, sampling)
        self._pipe = pipe

    @property
    def _network(self) -> Any:
        return self._pipe.unet

    @property
    @abstractmethod
    def vocabulary(self) -> ClipVocabulary:
        """See ``Family``."""

    @abstractmethod
    def encode_ids(self, ids: torch.Tensor, embeddings: torch.Tensor) -> Conditioning:
        """Encode token embeddings, which need not be those of their tokens.

        Args:
            ids: token ids (B, L) int64, which decide masks and pooling.
            embeddings: token embeddings (B, L, d), which replace the encoders' own look-up.

        Returns:
            B rows; gradients reach ``embeddings``.
        """

    def encode(self, prompts: Sequence[FilledPrompt], slot_embeddings: torch.Tensor | None) -> Conditioning:
        """See ``Family``."""
        vocabulary = self.vocabulary
        device = vocabulary.embeddings.device
        ids = torch.tensor([vocabulary.padded(prompt.pieces) for prompt in prompts], device=device)
        embeddings = vocabulary.embeddings[ids].float()
        if slot_embeddings is not None:
            # Behind the token that begins every text.
            positions = torch.tensor([p.slots.positions for p in prompts], dtype=torch.int64, device=device) + 1
            embeddings = embeddings.scatter(1, positions.unsqueeze(-1).expand_as(slot_embeddings), slot_embeddings)
        return self.encode_ids(ids, embeddings)

    @abstractmethod
    def _text_encoders(self) -> tuple[Any, ...]:
        """Return the text encoders, whose embeddings of a token stand side by side in ``vocabulary``."""

    @contextmanager
    def embedded(self, prompts: Sequence[FilledPrompt], embeddings: torch.Tensor) -> Iterator[None]:
        """See ``Family``."""
        lookups = [encoder.get_input_embeddings() for encoder in self._text_encoders()]
        parts = torch.split(embeddings, [lookup.weight.shape[-1] for lookup in lookups], -1)
        holders = torch.tensor([prompt.tokens for prompt in prompts])
        with ExitStack() as stack:
            for lookup, part in zip(lookups, parts, strict=True):
                stack.enter_context(hooked(lookup, _exchange(holders, part)))
            yield

    def network_arguments(self, conditioning: Conditioning, latents: torch.Tensor) -> dict[str, Any]:
        """See ``Family``."""
        return {"encoder_hidden_states": conditioning.tensor("encoder_hidden_states").to(self._dtype)}

    def predict(self, x_t: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """See ``Family``."""
        x_t = x_t.to(self._dtype)
        sample: torch.Tensor = self._pipe.unet(x_t, t, **self.network_arguments(conditioning, x_t)).sample
        return sample.float()

    def call_arguments(self, guidance: float, steps: int) -> dict[str, Any]:
        """See ``Family``."""
        return {"guidance_scale": guidance, "num_inference_steps": steps}

    def forwards_per_step(self, guidance: float | None = None) -> int:
        """See ``Family``; classifier-free guidance (scale above 1) adds a pass without the text."""
        return 1 if guidance is not None and guidance <= 1 else 2


class StableDiffusion(LatentDiffusion):
    """A ``StableDiffusionPipeline`` as attacks need it (``Family``)."""

    def _text_encoders(self) -> tuple[Any, ...]:
        return (self._pipe.text_encoder,)

    @cached_property
    def vocabulary(self) -> ClipVocabulary:
        """See ``Family``."""
        table = token_embeddings(self._pipe.text_encoder).to(self._pipe._execution_device)
        return ClipVocabulary(self._pipe.tokenizer, table)

    def encode_ids(self, ids: torch.Tensor, embeddings: torch.Tensor) -> Conditioning:
        """See ``LatentDiffusion``; hidden states (B, L, d)."""
        return Conditioning({"encoder_hidden_states": encode_with(self._pipe.text_encoder, ids, embeddings)[0]})


def _exchange(holders: torch.Tensor, embeddings: torch.Tensor) -> Change:
    """Return a change of looked-up embeddings, in rows that hold one of these tokens (B, 1), to others (B, 1, d)."""

    def change(ids: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        rows = torch.isin(ids, holders.to(ids)).any(1)
        if not rows.any():
            return output
        changed = output.clone()
        held = (ids[rows] == holders.to(ids)).unsqueeze(-1)
        changed[rows] = torch.where(held, embeddings.to(output), output[rows])
        return changed

    return change


def token_embeddings(encoder: Any) -> torch.Tensor:
    """Return the token embeddings (V, d) of a text encoder."""
    weights: torch.Tensor = encoder.get_input_embeddings().weight.detach()
    return weights


def encode_with(encoder: Any, ids: torch.Tensor, embeddings: torch.Tensor, **options: Any) -> Any:
    """Run a text encoder on embeddings (B, L, d) in place of those of its ids (B, L)."""
    # No version of CLIPTextModel takes inputs_embeds, but every one looks its tokens up in this module.
    with hooked(encoder.get_input_embeddings(), lambda _, output: embeddings.to(output)):
        return encoder(ids, **options)
