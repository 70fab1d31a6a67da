"""Sparse autoencoders (SAE) on hidden states of one module, read from the files that two published methods write.

A state h has the latents ``z = ReLU(E (h - b) + c)``, of which an encoding keeps the k largest; it is reconstructed as
``D^T z + b``. Either published file serves either method:

- ``features``, after SAeUron (Cywinski and Deja 2025, arXiv 2501.18052), on an attention block of the UNet: some of the
  k kept latents are multiplied by a strength, and what the SAE does not reconstruct stays: ``h + (s - 1) D_F^T z_F``.
  The authors choose latents for each of the sampler's steps, and scale them by mean activations on prompts, above a
  mean over concepts. These activations are not in the published files: here latents and strength are those of the
  options, at every step. The authors' program adds the SAE's error with the other sign, so that states change where
  no latent does; here they do not.
- ``concept``, after Concept Steerers (Kim and Ghadiyaram 2025, arXiv 2501.19066), on a layer of the text encoder: the
  latents of a text, all of them, are decoded without b and added to the states of each prompt, position by position:
  ``h_i + s D^T z_i``. As in the authors' program for Stable Diffusion 1.4, they are subtracted from the text that is
  encoded after the prompts, which is the empty one of classifier-free guidance, or the negative prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...core.errors import ModelError
from ...core.untrusted import printable, short_repr
from ...store.files import read_json_object
from ..families.vocabulary import ClipVocabulary, FilledPrompt
from ..tensor_files import read_file
from . import DefendedModel
from .steering_vector import states_hook

# Names of tensors with their axes: l of latents, w of the width of states.
_LAYOUTS = (
    {"encoder.weight": "lw", "encoder.bias": "l", "W_dec": "lw", "b_dec": "w"},  # SAeUron's sae.safetensors
    {
        "encoder.weight": "lw",
        "latent_bias": "l",
        "decoder.weight": "wl",
        "pre_bias": "w",
        "stats_last_nonzero": "l",  # steps since a latent was last active: of training only
    },  # Concept Steerers' state_dict.pth
)
_ENCODER = "text_encoder"


@dataclass(frozen=True)
class _Weights:
    """An SAE of n latents of states of width d.

    Attributes:
        encoder: E (n, d) float32.
        latent_bias: c (n,) float32.
        decoder: D (n, d) float32.
        bias: b (d,) float32, of states.
    """

    encoder: torch.Tensor
    latent_bias: torch.Tensor
    decoder: torch.Tensor
    bias: torch.Tensor

    def to(self, device: torch.device) -> _Weights:
        if self.bias.device == device:
            return self
        return _Weights(*(each.to(device) for each in (self.encoder, self.latent_bias, self.decoder, self.bias)))

    def latents(self, states: torch.Tensor) -> torch.Tensor:
        """Return E (h - b) + c (..., n), before the ReLU, of states (..., d)."""
        return (states.float() - self.bias) @ self.encoder.T + self.latent_bias


class SparseAutoencoder:
    """Changes hidden states through an SAE's latents (``Defense``).

    Args:
        file: path of SAeUron's ``sae.safetensors`` or Concept Steerers' ``state_dict.pth``.
        module: dotted path from the pipeline of the module whose output is changed.
        features: numbers of latents, counted from 0 and separated by semicolons; empty with ``concept``.
        concept: text whose latents are added; empty with ``features``.
        strength: factor ``s``, as text. Of ``features``, 0 removes and -1 inverts a latent; of ``concept``, a negative
            one removes it.
        k: latents that an encoding keeps, as text, with ``features``.

    Raises:
        ModelError: the file is none of these, its configuration beside it says otherwise, or options do not fit.
    """

    extra_forwards_per_step = 0

    def __init__(self, file: str, module: str, features: str, concept: str, strength: str, k: str) -> None:
        self._weights = _read(Path(file))
        latents = len(self._weights.encoder)
        self._features, self._concept = _numbers(features, latents), concept.strip()
        if bool(len(self._features)) == bool(self._concept):
            raise ModelError(
                "sparse-autoencoder: give features=0;1;2, latents to scale, or concept=TEXT, whose latents are added"
            )
        if not self._concept and (not float(k).is_integer() or not 1 <= float(k) <= latents):
            raise ModelError(f"sparse-autoencoder: k={short_repr(k)} must be a whole number from 1 to {latents}")
        self._k = int(float(k))
        _check_configuration(Path(file), None if self._concept else self._k)
        self._module, self._strength = module, float(strength)
        self._change: torch.Tensor | None = None
        if self._concept and not module.startswith(f"{_ENCODER}."):
            raise ModelError(
                f"sparse-autoencoder: concept acts on a layer of the text encoder, and {printable(module, 200)} is "
                f"none: give module={_ENCODER}.PATH, or features"
            )

    def call_arguments(self, count: int, guidance: float) -> dict[str, Any]:
        """See ``Defense``."""
        return {}

    @contextmanager
    def applied(self, model: DefendedModel, guidance: float) -> Iterator[None]:
        """See ``Defense``.

        Gradients pass through states and latents; which latents are the k largest, and a concept's, are constants.
        """
        module, handles = model.module(self._module), []
        if self._concept and self._change is None:
            self._change = self._of_concept(model, module)
        passes = 0

        def count(*_: Any) -> None:
            nonlocal passes
            passes += 1

        def steer(states: torch.Tensor) -> torch.Tensor:
            return self._steered(states, 1 if passes < 2 else -1)

        try:
            if self._concept:
                handles.append(model.module(_ENCODER).register_forward_pre_hook(count))
            handles.append(
                module.register_forward_hook(states_hook(self._module, steer if self._concept else self._scaled))
            )
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _checked(self, states: torch.Tensor) -> _Weights:
        """Return the SAE on the device of states (..., d)."""
        if states.shape[-1] != (width := len(self._weights.bias)):
            raise ModelError(
                f"the sparse autoencoder of {self._module} is for hidden states of {width} numbers, and those there "
                f"have {states.shape[-1]}"
            )
        self._weights = self._weights.to(states.device)
        return self._weights

    def _scaled(self, states: torch.Tensor) -> torch.Tensor:
        """Multiply the chosen latents, where they are kept, by the strength."""
        weights, chosen = self._checked(states), self._features.to(states.device)
        with torch.no_grad():
            encoded = weights.latents(states)
            kept = encoded[..., chosen] >= encoded.topk(self._k).values[..., -1:]
        part = _Weights(weights.encoder[chosen], weights.latent_bias[chosen], weights.decoder, weights.bias)
        latents = torch.where(kept, part.latents(states).relu(), 0.0)
        change: torch.Tensor = (self._strength - 1) * latents @ weights.decoder[chosen]
        return states + change.to(states.dtype)

    def _steered(self, states: torch.Tensor, sign: int) -> torch.Tensor:
        """Add what the concept's latents decode to, or subtract it."""
        assert self._change is not None
        if states.shape[1:] != self._change.shape:
            raise ModelError(
                f"hidden states of {self._module} are {tuple(states.shape[1:])}, and of the concept "
                f"{tuple(self._change.shape)}"
            )
        return states + sign * self._change.to(states)

    @torch.no_grad()
    def _of_concept(self, model: DefendedModel, module: Any) -> torch.Tensor:
        """Return what the latents of the concept's text decode to (L, d) float32, times the strength."""
        vocabulary, encoder = model.vocabulary, model.module(_ENCODER)
        if not isinstance(vocabulary, ClipVocabulary):
            raise ModelError("sparse-autoencoder: concept acts on text encoders of CLIP only; give features")
        ids = vocabulary.padded(FilledPrompt(vocabulary.unattacked(self._concept)).pieces)
        seen: list[torch.Tensor] = []

        def keep(states: torch.Tensor) -> torch.Tensor:
            seen.append(states)
            return states

        handle = module.register_forward_hook(states_hook(self._module, keep))
        try:
            encoder(torch.tensor([ids], device=encoder.get_input_embeddings().weight.device))
        finally:
            handle.remove()
        weights = self._checked(seen[0])
        change: torch.Tensor = self._strength * weights.latents(seen[0][0]).relu() @ weights.decoder
        return change


def _numbers(features: str, latents: int) -> torch.Tensor:
    """Read numbers of latents (F,) int64, none twice."""
    texts = [text.strip() for text in features.split(";") if text.strip()]
    for text in texts:
        if not (text.isascii() and text.isdigit()) or int(text) >= latents:
            raise ModelError(
                f"sparse-autoencoder: {short_repr(text)} of features is no latent: they are numbers from 0 to "
                f"{latents - 1}, separated by ';'"
            )
    return torch.tensor(sorted({int(text) for text in texts}), dtype=torch.int64)


def _read(path: Path) -> _Weights:
    """Read an SAE, every tensor of which has a known name and a shape that fits the others."""
    try:
        tree = read_file(path).tree
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    layout = next((each for each in _LAYOUTS if each.keys() == tree.keys()), None)
    if layout is None:
        expected = "; or ".join(", ".join(each) for each in _LAYOUTS)
        named = ", ".join(printable(name, 100) for name in sorted(tree)[:8])
        raise ModelError(f"{path} is no sparse autoencoder: it must hold {expected}; and holds {named}")
    shapes = {name: tuple(getattr(value, "shape", ())) for name, value in tree.items()}
    sizes = dict(zip("lw", shapes["encoder.weight"], strict=False))
    for name, axes in layout.items():
        expected_shape = tuple(sizes.get(axis, 0) for axis in axes)
        if shapes[name] != expected_shape or 0 in expected_shape or not tree[name].isfinite().all():
            raise ModelError(
                f"{path}: {name} must be finite numbers {expected_shape}, as encoder.weight says, and is {shapes[name]}"
            )
    encoder, latent_bias, decoder, bias = (tree[name].float() for name in list(layout)[:4])
    return _Weights(encoder, latent_bias, decoder.T if "decoder.weight" in layout else decoder, bias)


def _check_configuration(path: Path, k: int | None) -> None:
    """Refuse what a configuration beside the file contradicts; it is not in the key, so nothing is taken from it."""
    for name in ("cfg.json", "config.json"):
        config = read_json_object(path.with_name(name)) or {}
        if k is not None and config.get("k", k) != k:
            raise ModelError(
                f"{path.with_name(name)} says k={short_repr(config['k'])}: give k={short_repr(config['k'])}"
            )
        if config.get("input_unit_norm"):
            raise ModelError(f"{path.with_name(name)} says input_unit_norm, which is not built: SAeUron's own has none")
