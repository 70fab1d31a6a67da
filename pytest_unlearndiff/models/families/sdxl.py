"""Stable Diffusion XL (Podell et al. 2023, section 2.1): two text encoders' penultimate states side by side.

Both encoders have CLIP's vocabulary, so one set of ids is attacked; a token's embedding is its two embeddings (d1 + d2)
one after the other, and the gradient with respect to it reaches both encoders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch

from ...core.concept import Sampling
from ...core.errors import ModelError
from .base import Conditioning
from .stable_diffusion import LatentDiffusion, encode_with, token_embeddings
from .vocabulary import ClipVocabulary


class StableDiffusionXL(LatentDiffusion):
    """A ``StableDiffusionXLPipeline`` as attacks need it (``Family``).

    Args:
        pipe: see ``LatentDiffusion``.
        sampling: see ``LatentDiffusion``.

    Raises:
        ModelError: see ``LatentDiffusion``; or the two tokenizers do not share their vocabulary.
    """

    def __init__(self, pipe: Any, sampling: Sampling) -> None:
        one, two = pipe.tokenizer, pipe.tokenizer_2
        sizes = [len(token_embeddings(encoder)) for encoder in (pipe.text_encoder, pipe.text_encoder_2)]
        if one.get_vocab() != two.get_vocab() or sizes[0] != sizes[1]:
            raise ModelError("its two tokenizers have other vocabularies, so that no one set of tokens can be attacked")
        if one.model_max_length != two.model_max_length:
            raise ModelError(
                f"its two tokenizers have {one.model_max_length} and {two.model_max_length} positions; as many are "
                "needed"
            )
        super().__init__(pipe, sampling)

    def _text_encoders(self) -> tuple[Any, ...]:
        return self._pipe.text_encoder, self._pipe.text_encoder_2

    @cached_property
    def vocabulary(self) -> ClipVocabulary:
        """See ``Family``."""
        tables = [token_embeddings(encoder).to(self._pipe._execution_device) for encoder in self._text_encoders()]
        return ClipVocabulary(self._pipe.tokenizer, torch.cat(tables, -1), [self._pipe.tokenizer_2])

    @cached_property
    def _bridge(self) -> TokenizerBridge:
        return TokenizerBridge(self._pipe.tokenizer, self._pipe.tokenizer_2)

    def encode_ids(self, ids: torch.Tensor, embeddings: torch.Tensor) -> Conditioning:
        """See ``LatentDiffusion``; hidden states (B, L, d1 + d2), and the second encoder's pooled embedding (B, p)."""
        one, two = self._pipe.text_encoder, self._pipe.text_encoder_2
        width = one.config.hidden_size
        first, second = embeddings[..., :width], embeddings[..., width:]
        second_ids, source = self._bridge(ids)
        copied = second.gather(1, source.clamp(min=0).unsqueeze(-1).expand_as(second))
        second = torch.where(
            (source >= 0).unsqueeze(-1), copied, self.vocabulary.embeddings[second_ids, width:].to(copied.dtype)
        )
        outputs = [
            encode_with(*arguments, output_hidden_states=True)
            for arguments in ((one, ids, first), (two, second_ids, second))
        ]
        return Conditioning(
            {
                "encoder_hidden_states": torch.cat([output.hidden_states[-2] for output in outputs], -1),
                "text_embeds": outputs[1].text_embeds,
            }
        )

    def network_arguments(self, conditioning: Conditioning, latents: torch.Tensor) -> dict[str, Any]:
        """See ``Family``."""
        arguments = super().network_arguments(conditioning, latents)
        states = arguments["encoder_hidden_states"]
        height, width = (self._pipe.vae_scale_factor * side for side in latents.shape[-2:])
        # Original size, crop offset and target size, as the pipeline sets them by default.
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=states.dtype, device=states.device)
        return arguments | {
            "added_cond_kwargs": {
                "text_embeds": conditioning.tensor("text_embeds").to(states.dtype),
                "time_ids": sizes.expand(len(states), -1),
            }
        }


class TokenizerBridge:
    """Ids of a second tokenizer of the same vocabulary, for text in the ids of a first.

    They differ in the padding, and in words that hold one of the second's special tokens: that of Stable Diffusion XL
    pads with "!", which makes "!" a token of its own wherever it stands, where the first has tokens such as "!!!".

    Args:
        first: tokenizer of the ids that are converted.
        second: tokenizer of the result.
    """

    def __init__(self, first: Any, second: Any) -> None:
        self._first, self._second = first, second
        special = set(second.all_special_ids) - set(first.all_special_ids)
        marks = [second.decode([token]) for token in special]
        pieces = first.convert_ids_to_tokens(range(len(first)))
        self._ends_word = [piece.endswith("</w>") for piece in pieces]
        self._respelled = {i for i, piece in enumerate(pieces) if any(mark in piece for mark in marks)}

    def __call__(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Convert rows of ids.

        Args:
            ids: the first tokenizer's (B, L) int64, each row with begin, end and padding.

        Returns:
            The second's ids (B, L) int64; and for each the position in the first's row that it was copied from (B, L)
            int64, -1 for another token.
        """
        rows = [self._row(row) for row in ids.tolist()]
        converted, source = (torch.tensor(column, device=ids.device) for column in zip(*rows, strict=True))
        return converted, source

    def _row(self, row: list[int]) -> tuple[list[int], list[int]]:
        end = self._end(row)
        pairs = [pair for word in self._words(row, end) for pair in self._word(row, word)]
        # Too long a text is cut before its end, as the tokenizer does.
        pairs = [(row[0], 0), *pairs[: len(row) - 2], (row[end], end)]
        pairs += [(int(self._second.pad_token_id), -1)] * (len(row) - len(pairs))
        return [token for token, _ in pairs], [position for _, position in pairs]

    def _end(self, row: Sequence[int]) -> int:
        """Find the position of the end token: the first of the padding, where that is the same token."""
        last = len(row)
        while last > 1 and row[last - 1] == self._first.pad_token_id:
            last -= 1
        return last if last < len(row) and row[last] == self._first.eos_token_id else last - 1

    def _words(self, row: Sequence[int], end: int) -> Iterator[range]:
        """Yield the positions of each word."""
        start = 1
        for position in range(1, end):
            if self._ends_word[row[position]] or position == end - 1:
                yield range(start, position + 1)
                start = position + 1

    def _word(self, row: Sequence[int], word: range) -> list[tuple[int, int]]:
        """Return a word's ids, each with the position it was copied from."""
        tokens = [row[position] for position in word]
        if self._respelled.isdisjoint(tokens):
            return list(zip(tokens, word, strict=True))
        text = self._first.decode(tokens)
        return [(token, -1) for token in self._second(text, add_special_tokens=False, verbose=False).input_ids]
