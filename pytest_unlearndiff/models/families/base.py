"""The seam between attacks and model families: what differs between them, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from PIL import Image


@dataclass(frozen=True)
class Conditioning:
    """Encoded text, one row per prompt: rows can be selected and joined, and only their family reads them.

    Attributes:
        tensors: by name, each (B, ...).
    """

    tensors: Mapping[str, torch.Tensor]

    def __len__(self) -> int:
        """Count the rows."""
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: slice | Sequence[int] | torch.Tensor) -> Conditioning:
        """Select rows, by a slice or by indices."""
        return Conditioning({name: tensor[rows] for name, tensor in self.tensors.items()})

    @classmethod
    def join(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """Put rows of several behind each other."""
        return cls({name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors})

    def vectors(self) -> torch.Tensor:
        """Return each row as one vector (B, n) float32, for attacks that compare texts by their encodings."""
        return torch.cat([tensor.float().flatten(1) for tensor in self.tensors.values()], 1)


class Vocabulary:
    """A CLIP tokenizer and the embedding of its tokens.

    Args:
        tokenizer: a CLIP tokenizer of ``transformers``.
        embeddings: token embeddings (V, d).
        others: further tokenizers that read the same text, for encoders beside the first.
    """

    def __init__(self, tokenizer: Any, embeddings: torch.Tensor, others: Sequence[Any] = ()) -> None:
        self._tokenizer = tokenizer
        self._others = others
        self.embeddings = embeddings

    @property
    def length(self) -> int:
        """Positions of the text encoder, the two special tokens included."""
        return int(self._tokenizer.model_max_length)

    @property
    def bos(self) -> int:
        """Id of the token that begins every text."""
        return int(self._tokenizer.bos_token_id)

    @property
    def eos(self) -> int:
        """Id of the token that ends every text."""
        return int(self._tokenizer.eos_token_id)

    @property
    def pad(self) -> int:
        """Id of the token that fills up the rest; not always the end token."""
        return int(self._tokenizer.pad_token_id)

    def ids(self, text: str) -> list[int]:
        """Ids of a text, without special tokens and not truncated."""
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    def padded(self, text: str) -> list[int]:
        """Ids of a text with begin, end and padding, cut as the tokenizer would; ``length`` of them."""
        ids = [self.bos, *self.ids(text)[: self.length - 2], self.eos]
        return ids + [self.pad] * (self.length - len(ids))

    def text(self, ids: list[int]) -> str:
        """Ids as a person would type them."""
        # Not skip_special_tokens: the padding of SD 2.x is "!", which prompts may hold as well.
        return str(self._tokenizer.decode([i for i in ids if i not in (self.bos, self.eos)])).strip()

    @cached_property
    def typeable(self) -> torch.Tensor:
        """Ids (V',) int64 of the tokens that survive decoding and tokenizing on their own.

        An adversarial prompt is text; a token that does not come back from its own text would be optimised as one
        thing and judged as another.
        """
        special = set(self._tokenizer.all_special_ids)
        candidates = [i for i in range(len(self.embeddings)) if i not in special]
        texts = self._tokenizer.batch_decode([[i] for i in candidates])
        readings = [each(texts, add_special_tokens=False).input_ids for each in (self._tokenizer, *self._others)]
        kept = [
            i
            for i, text, *again in zip(candidates, texts, *readings, strict=True)
            if text.strip() and all(ids == [i] for ids in again)
        ]
        return torch.tensor(kept, dtype=torch.int64)


class Family(Protocol):
    """A pipeline as ``DiffusionModel`` needs it, made by a family's ``implementation(pipe, sampling)``.

    All that a network is given by ``predict`` equals what the pipeline's own call gives it for the same text, latents
    and timestep, to the bit (``tests/contracts/test_families.py``).
    """

    @property
    def vocabulary(self) -> Vocabulary:
        """Tokens that an attack chooses from; with several text encoders, their embeddings side by side in one row."""
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

    def timestep(self, share: float) -> int:
        """Return the timestep at a share of the noise schedule, in (0, 1): 0 is the image, 1 is noise."""
        ...

    def encode(self, ids: torch.Tensor, embeddings: torch.Tensor) -> Conditioning:
        """Encode token embeddings; see ``DiffusionModel.encode``."""
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
        """Return arguments of the pipeline's own call beside prompts, negative prompts and generators."""
        ...

    def forwards_per_step(self, guidance: float | None = None) -> int:
        """Count the network's forward passes per image and denoising step; None stands for a usual guidance scale."""
        ...
