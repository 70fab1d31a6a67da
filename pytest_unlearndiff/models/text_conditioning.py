"""How a pipeline reads text: from token embeddings, which need not belong to any token, to what its UNet is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import torch

from ..core.errors import ModelError
from .pipelines import kind_of
from .vocabulary import Vocabulary


class TextConditioning(Protocol):
    """What a family of pipelines has to say of its text encoders; all else of an attack is common to all."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens an attack chooses from; with several encoders, one row of all their embeddings side by side."""
        ...

    def encode(self, ids: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """See ``DiffusionModel.encode``."""
        ...

    def conditions(self, states: torch.Tensor, latents: torch.Tensor) -> dict[str, Any]:
        """What the UNet is given beside latents (B, C, h, w) and timesteps, in the type of its weights."""
        ...


def text_conditioning(pipe: Any) -> TextConditioning:
    """How a pipeline reads text.

    Raises:
        ModelError: its kind is not known, or its tokenizers have no tokens in common.
    """
    return DualEncoder(pipe) if "text_encoder_2" in kind_of(pipe).networks else SingleEncoder(pipe)


class SingleEncoder:
    """Stable Diffusion 1.x and 2.x: the last states of one CLIP text encoder.

    Args:
        pipe: a ``StableDiffusionPipeline``.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """See ``TextConditioning``."""
        return Vocabulary(self._pipe.tokenizer, _table(self._pipe.text_encoder))

    def encode(self, ids: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """See ``TextConditioning``; states (B, L, d)."""
        states: torch.Tensor = _read(self._pipe.text_encoder, ids, embeddings)[0]
        return states

    def conditions(self, states: torch.Tensor, latents: torch.Tensor) -> dict[str, Any]:
        """See ``TextConditioning``."""
        return {"encoder_hidden_states": states.to(self._pipe.unet.dtype)}


class DualEncoder:
    """Stable Diffusion XL (Podell et al. 2023, section 2.1): penultimate states of two encoders, side by side.

    Both have CLIP's vocabulary, so one set of ids is attacked; a token's embedding is its two embeddings (d1 + d2) one
    after the other, and the gradient by it reaches both encoders.

    States are (B, L + 1, w): a row for every position, then the pooled text embedding (p) of the second encoder, each
    filled up with zeros to w = max(d1 + d2, p).

    Args:
        pipe: a ``StableDiffusionXLPipeline``.

    Raises:
        ModelError: the two tokenizers do not share their vocabulary.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        one, two = pipe.tokenizer, pipe.tokenizer_2
        if one.get_vocab() != two.get_vocab() or len(_table(pipe.text_encoder)) != len(_table(pipe.text_encoder_2)):
            raise ModelError("its two tokenizers have other vocabularies, so that no one set of tokens can be attacked")
        if one.model_max_length != two.model_max_length:
            raise ModelError(
                f"its two tokenizers have {one.model_max_length} and {two.model_max_length} positions; as many are "
                "needed"
            )

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """See ``TextConditioning``."""
        tables = [_table(encoder) for encoder in (self._pipe.text_encoder, self._pipe.text_encoder_2)]
        return Vocabulary(self._pipe.tokenizer, torch.cat(tables, -1), [self._pipe.tokenizer_2])

    @cached_property
    def _second(self) -> TokenizerBridge:
        return TokenizerBridge(self._pipe.tokenizer, self._pipe.tokenizer_2)

    @property
    def _widths(self) -> tuple[int, int]:
        """Numbers of a position's two states together, and of the pooled embedding."""
        one, two = self._pipe.text_encoder.config, self._pipe.text_encoder_2.config
        return one.hidden_size + two.hidden_size, two.projection_dim

    def encode(self, ids: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """See ``TextConditioning``."""
        one, two = self._pipe.text_encoder, self._pipe.text_encoder_2
        width = one.config.hidden_size
        first, second = embeddings[..., :width], embeddings[..., width:]
        spelt, source = self._second(ids)
        chosen = second.gather(1, source.clamp(min=0).unsqueeze(-1).expand_as(second))
        second = torch.where((source >= 0).unsqueeze(-1), chosen, _table(two)[spelt].to(chosen.dtype))
        given = ((one, ids, first), (two, spelt, second))
        reads = [_read(*each, output_hidden_states=True) for each in given]
        states = torch.cat([read.hidden_states[-2] for read in reads], -1)
        full = max(self._widths)
        return torch.cat([_filled(states, full), _filled(reads[1].text_embeds.unsqueeze(1), full)], 1)

    def conditions(self, states: torch.Tensor, latents: torch.Tensor) -> dict[str, Any]:
        """See ``TextConditioning``."""
        states, (width, pooled) = states.to(self._pipe.unet.dtype), self._widths
        scale = self._pipe.vae_scale_factor
        height, breadth = (scale * side for side in latents.shape[-2:])
        # Original size, where it was cropped, and target size, as the pipeline has them where it is told nothing.
        sizes = torch.tensor([[height, breadth, 0, 0, height, breadth]], dtype=states.dtype, device=states.device)
        return {
            "encoder_hidden_states": states[:, :-1, :width],
            "added_cond_kwargs": {
                "text_embeds": states[:, -1, :pooled],
                "time_ids": sizes.expand(len(states), -1),
            },
        }


class TokenizerBridge:
    """The ids that a second tokenizer of the same vocabulary gives to what a first one has spelt.

    They differ in the padding, and in words that hold one of the second's special tokens: that of Stable Diffusion XL
    pads with "!", which makes "!" a token of its own wherever it stands, where the first has tokens such as "!!!".

    Args:
        first: tokenizer of the ids that are given.
        second: tokenizer of those that are wanted.
    """

    def __init__(self, first: Any, second: Any) -> None:
        self._first, self._second = first, second
        special = set(second.all_special_ids) - set(first.all_special_ids)
        marks = [second.decode([token]) for token in special]
        pieces = first.convert_ids_to_tokens(range(len(first)))
        self._ends = [piece.endswith("</w>") for piece in pieces]
        self._marked = {i for i, piece in enumerate(pieces) if any(mark in piece for mark in marks)}

    def __call__(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Spell rows anew.

        Args:
            ids: the first tokenizer's (B, L) int64, each row with begin, end and padding.

        Returns:
            The second's ids (B, L) int64; and the position in the given row that each was taken from (B, L) int64, -1
            where it is another token.
        """
        rows = [self._row(row) for row in ids.tolist()]
        spelt, source = (torch.tensor(column, device=ids.device) for column in zip(*rows, strict=True))
        return spelt, source

    def _row(self, row: list[int]) -> tuple[list[int], list[int]]:
        end = self._end(row)
        found = [pair for word in self._words(row, end) for pair in self._word(row, word)]
        # Too long a text is cut before its end, as the tokenizer does.
        found = [(row[0], 0), *found[: len(row) - 2], (row[end], end)]
        found += [(int(self._second.pad_token_id), -1)] * (len(row) - len(found))
        return [token for token, _ in found], [place for _, place in found]

    def _end(self, row: Sequence[int]) -> int:
        """Where the token stands that ends the text: the first of the padding, where that is the same token."""
        last = len(row)
        while last > 1 and row[last - 1] == self._first.pad_token_id:
            last -= 1
        return last if last < len(row) and row[last] == self._first.eos_token_id else last - 1

    def _words(self, row: Sequence[int], end: int) -> Iterator[range]:
        """The positions of each word."""
        start = 1
        for place in range(1, end):
            if self._ends[row[place]] or place == end - 1:
                yield range(start, place + 1)
                start = place + 1

    def _word(self, row: Sequence[int], word: range) -> list[tuple[int, int]]:
        """A word's ids, each with the place it was taken from."""
        tokens = [row[place] for place in word]
        if self._marked.isdisjoint(tokens):
            return list(zip(tokens, word, strict=True))
        text = self._first.decode(tokens)
        return [(token, -1) for token in self._second(text, add_special_tokens=False, verbose=False).input_ids]


def _table(encoder: Any) -> torch.Tensor:
    """Token embeddings (V, d) of a text encoder."""
    weights: torch.Tensor = encoder.get_input_embeddings().weight.detach()
    return weights


def _read(encoder: Any, ids: torch.Tensor, embeddings: torch.Tensor, **how: Any) -> Any:
    """What a text encoder makes of embeddings (B, L, d) in the place of those of its ids (B, L)."""
    # No version of CLIPTextModel takes inputs_embeds, but every one looks its tokens up in this module.
    hook = encoder.get_input_embeddings().register_forward_hook(lambda *_: embeddings.to(encoder.dtype))
    try:
        return encoder(ids, **how)
    finally:
        hook.remove()


def _filled(rows: torch.Tensor, width: int) -> torch.Tensor:
    """Rows (B, n, d) filled up with zeros to (B, n, width)."""
    return torch.nn.functional.pad(rows, (0, width - rows.shape[-1]))


def concept_conditions(texts: TextConditioning, text: str, latents: torch.Tensor) -> Mapping[str, Any]:
    """What the UNet is given for one text (leading dimension 1), too long ones cut as the tokenizer would."""
    words = texts.vocabulary
    ids = torch.tensor([words.padded(text)], device=latents.device)
    return texts.conditions(texts.encode(ids, words.embeddings[ids]), latents)
