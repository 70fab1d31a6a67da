"""The seam between attacks and model families: what differs between them, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from PIL import Image

from .vocabulary import FilledPrompt, Vocabulary

Rows = torch.Tensor | tuple[torch.Tensor, ...]
"""One tensor (B, ...), or one tensor per row where rows differ in length."""


@dataclass(frozen=True)
class Conditioning:
    """Encoded text, one row per prompt: rows can be selected and joined, and only their family reads them.

    Attributes:
        tensors: by name, B rows each.
        masks: by the name of a mask (B, L), the states (B, L, d) of which the network reads nothing where it is 0;
            None where it reads them all the same.
    """

    tensors: Mapping[str, Rows]
    masks: Mapping[str, str | None] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the rows."""
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: slice | Sequence[int] | torch.Tensor) -> Conditioning:
        """Select rows, by a slice or by indices."""
        return replace(self, tensors={name: _select(values, rows) for name, values in self.tensors.items()})

    @classmethod
    def join(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """Put rows of several behind each other."""
        first, *_ = parts
        return replace(first, tensors={name: _join([part.tensors[name] for part in parts]) for name in first.tensors})

    def tensor(self, name: str) -> torch.Tensor:
        """Return the rows of a name, which are of one length (B, ...)."""
        rows = self.tensors[name]
        assert isinstance(rows, torch.Tensor)
        return rows

    def vectors(self) -> torch.Tensor:
        """Return each row as one vector (B, n) float32, for attacks that compare texts by their encodings.

        States that the network does not read are zero in it, so that no attack moves padding.

        Raises:
            ValueError: rows differ in length.
        """
        if any(isinstance(values, tuple) for values in self.tensors.values()):
            raise ValueError("encodings of texts of several lengths cannot be compared number by number")
        names = [name for name in self.tensors if name not in self.masks]
        return torch.cat([self._read(name).float().flatten(1) for name in names], 1)

    def _read(self, name: str) -> torch.Tensor:
        """Return what the network reads of a tensor."""
        states = self.tensor(name)
        for mask in (mask for mask, masked in self.masks.items() if masked == name):
            states = states.masked_fill((self.tensor(mask) == 0).unsqueeze(-1), 0)
        return states


def _select(values: Rows, rows: slice | Sequence[int] | torch.Tensor) -> Rows:
    if isinstance(values, torch.Tensor):
        return values[rows]
    return values[rows] if isinstance(rows, slice) else tuple(values[int(row)] for row in rows)


def _join(parts: Sequence[Rows]) -> Rows:
    tensors = [part for part in parts if isinstance(part, torch.Tensor)]
    return torch.cat(tensors) if tensors else tuple(row for part in parts for row in part)


class Family(Protocol):
    """A pipeline as ``DiffusionModel`` needs it, made by a family's ``implementation(pipe, sampling)``.

    All that a network is given by ``predict`` equals what the pipeline's own call gives it for the same text, latents
    and timestep, to the bit (``tests/contracts/test_families.py``).
    """

    @property
    def vocabulary(self) -> Vocabulary:
        """Tokens that an attack chooses from, and how they stand in a prompt."""
        ...

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents that the network was made for."""
        ...

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the images that it draws, in pixels."""
        ...

    @property
    def timesteps(self) -> int:
        """Training timesteps; a family of continuous time counts its own in so many equal steps."""
        ...

    def encode(self, prompts: Sequence[FilledPrompt], slot_embeddings: torch.Tensor | None) -> Conditioning:
        """Encode prompts; see ``DiffusionModel.encode``."""
        ...

    def embedded(self, prompts: Sequence[FilledPrompt], embeddings: torch.Tensor) -> AbstractContextManager[None]:
        """Have the pipeline's own call read the token in each prompt's slot as another embedding, as ``encode`` does.

        Args:
            prompts: the call's, in its order, with one slot each, whose token no other text of the call has.
            embeddings: in the slots (B, 1, d) float32.
        """
        ...

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return noised latents and the network's regression target; see ``DiffusionModel.add_noise``."""
        ...

    def network_arguments(self, conditioning: Conditioning, latents: torch.Tensor) -> dict[str, Any]:
        """Return the network's keyword arguments beside latents (B, C, h, w) and timestep, in the network's dtype."""
        ...

    def predict(self, x_t: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """Return the network's prediction (B, C, h, w) float32; see ``DiffusionModel.predict``."""
        ...

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Encode one batch of RGB images to latents (B, C, h, w) float32, scaled as the network sees them."""
        ...

    def call_arguments(self, guidance: float, steps: int) -> dict[str, Any]:
        """Return arguments of the pipeline's own call beside prompts and generators.

        A negative prompt, where guidance needs one, is one text for all prompts.
        """
        ...

    def forwards_per_step(self, guidance: float | None = None) -> int:
        """Count the network's forward passes per image and denoising step; None stands for a usual guidance scale."""
        ...
