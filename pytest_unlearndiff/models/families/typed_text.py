"""Text of families whose encoders differ: typed, and read by the pipeline's own ``encode_prompt``.

So templates, padding, masks and pooling are those that ship. Gradients come from hooks on the modules that look tokens
up, which add to the embeddings in the slots.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from inspect import signature
from typing import Any, ClassVar

import torch

from .base import Conditioning
from .vocabulary import FilledPrompt, Slots
from .words import TextEncoder, WordVocabulary

Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Returns a module's output anew, from its input and its output."""

Positions = list[list[list[int]]]
"""Positions in what an encoder is given, by encoder and slot; none where the tokenizer cuts the slot off."""


class _AllRead(Exception):
    """Raised when every encoder has been given its ids, since encoding them takes time."""


class TypedText(ABC):
    """A mixin: ``Family.vocabulary`` and ``Family.encode`` by a pipeline's own ``encode_prompt``."""

    encoders: tuple[tuple[str, str], ...]
    """Pairs of a tokenizer's and an encoder's component, as ``encode_texts`` runs them."""

    lower_case: ClassVar[bool] = False
    """True for pipelines that read lower-case letters only, whatever is typed."""

    _pipe: Any

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> Conditioning:
        """Run the pipeline's own ``encode_prompt`` on texts, without a negative prompt; one row each."""

    @abstractmethod
    def text_lengths(self) -> tuple[int, ...]:
        """Return how many tokens each encoder reads, special ones included."""

    @cached_property
    def vocabulary(self) -> WordVocabulary:
        """See ``Family``."""
        tokenizers = [getattr(self._pipe, tokenizer) for tokenizer, _ in self.encoders]
        parts = zip(tokenizers, self._lookups, self.text_lengths(), strict=True)
        return WordVocabulary(
            [TextEncoder(*each) for each in parts], self._pipe._execution_device, lower_case=self.lower_case
        )

    @cached_property
    def _lookups(self) -> list[torch.nn.Module]:
        return [lookup_of(getattr(self._pipe, encoder)) for _, encoder in self.encoders]

    @cached_property
    def _positions(self) -> dict[Slots, Positions]:
        """Positions of the slots of prompts seen so far."""
        return {}

    def encode(self, prompts: Sequence[FilledPrompt], slot_embeddings: torch.Tensor | None) -> Conditioning:
        """See ``Family``.

        Encoders are given what the typed text looks up, plus the difference of ``slot_embeddings`` to the embeddings of
        the tokens in the slots: none at all where they are these.
        """
        texts = [self.vocabulary.text(prompt.pieces) for prompt in prompts]
        if slot_embeddings is None or slot_embeddings.shape[1] == 0:
            return self.encode_texts(texts)
        with ExitStack() as stack:
            for lookup, change in zip(self._lookups, self._changes(prompts, slot_embeddings), strict=True):
                stack.enter_context(hooked(lookup, change))
            return self.encode_texts(texts)

    @contextmanager
    def embedded(self, prompts: Sequence[FilledPrompt], embeddings: torch.Tensor) -> Iterator[None]:
        """See ``Family``."""
        read = self._ids([self.vocabulary.text(prompt.pieces) for prompt in prompts])
        with ExitStack() as stack:
            for lookup, change, ids in zip(self._lookups, self._changes(prompts, embeddings), read, strict=True):
                stack.enter_context(hooked(lookup, _in_rows(ids, change)))
            yield

    def _changes(self, prompts: Sequence[FilledPrompt], slot_embeddings: torch.Tensor) -> list[Change]:
        """Return, for each encoder, the change of what it looks up to these embeddings (B, k, d) in the slots."""
        table = self.vocabulary.embeddings
        tokens = torch.tensor([prompt.tokens for prompt in prompts], device=table.device)
        positions = [self._locate(prompt.slots) for prompt in prompts]
        parts = torch.split(slot_embeddings - table[tokens].float(), self.vocabulary.widths, -1)
        return [_adder(part, [row[index] for row in positions]) for index, part in enumerate(parts)]

    def _locate(self, slots: Slots) -> Positions:
        """Find a prompt's slots by exchanging their words, one at a time, and seeing which ids change."""
        if slots not in self._positions:
            one, other = self.vocabulary.unlike_pair
            count = len(slots.positions)
            fillings = [[other if slot == changed else one for slot in range(count)] for changed in (-1, *range(count))]
            rows = self._ids([self.vocabulary.text(slots.filled(filling)) for filling in fillings])
            self._positions[slots] = [
                [(changed != ids[0]).nonzero().flatten().tolist() for changed in ids[1:]] for ids in rows
            ]
        return self._positions[slots]

    @torch.no_grad()
    def _ids(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """Return the ids (B, L) that each encoder is given for texts."""
        ids: list[torch.Tensor | None] = [None] * len(self.encoders)

        def noter(index: int) -> Callable[..., torch.Tensor]:
            def note(tokens: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
                ids[index] = tokens.detach()
                if all(row is not None for row in ids):
                    raise _AllRead
                return output

            return note

        with ExitStack() as stack:
            for index, lookup in enumerate(self._lookups):
                stack.enter_context(hooked(lookup, noter(index)))
            with suppress(_AllRead):
                self.encode_texts(texts)
        return [row for row in ids if row is not None]


def text_limit(call: Callable[..., Any], *tokenizers: Any) -> int:
    """Return a call's ``max_sequence_length`` by default, as far as texts of tokenizers may be as long."""
    default = signature(call).parameters["max_sequence_length"].default
    return min([int(default), *(int(tokenizer.model_max_length) for tokenizer in tokenizers)])


def lookup_of(encoder: Any) -> torch.nn.Module:
    """Return the module that an encoder looks its tokens up in.

    ``T5EncoderModel.get_input_embeddings()`` is one that its stack's own is tied to and that is never called.
    """
    module: torch.nn.Module | None = getattr(getattr(encoder, "encoder", None), "embed_tokens", None)
    if module is None:
        module = encoder.get_input_embeddings()
        assert module is not None
    return module


@contextmanager
def hooked(module: torch.nn.Module, change: Change) -> Iterator[None]:
    """Change a module's output, as a function of its input and output."""
    hook = module.register_forward_hook(lambda _, inputs, output: change(inputs[0], output))
    try:
        yield
    finally:
        hook.remove()


def _in_rows(ids: torch.Tensor, change: Change) -> Change:
    """Return a change that only rows undergo whose ids are these (B, L), which stand among others in their order."""

    def changed(tokens: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        rows, left = [], list(ids.to(tokens))
        for row, given in enumerate(tokens):
            if left and torch.equal(given, left[0]):
                rows.append(row)
                left.pop(0)
        if left:  # texts beside the prompts, such as negative ones
            return output
        output = output.clone()
        output[rows] = change(tokens[rows], output[rows])
        return output

    return changed


def _adder(difference: torch.Tensor, positions: Sequence[Sequence[Sequence[int]]]) -> Change:
    """Return a change of embeddings (B, L, d) by a difference (B, k, d) at the positions of each row's slots."""

    def change(_: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        chosen = output.new_zeros(*output.shape[:2], difference.shape[1], dtype=torch.float32)
        for row, slots in enumerate(positions):
            for slot, tokens in enumerate(slots):
                chosen[row, tokens, slot] = 1.0
        return output + (chosen @ difference.to(chosen.device)).to(output.dtype)

    return change
