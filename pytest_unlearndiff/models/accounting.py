"""Account for every tensor of a checkpoint: where it goes, whether it fits, what it changes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..core.errors import ModelError
from .files import Tensors

NOTHING_CHANGED = "every tensor equals the base's, so nothing was unlearned in this checkpoint"
"""Why a victim that is its base is refused."""

_ALMOST_ALL = 0.9


@dataclass(frozen=True)
class WeightDiff:
    """How one component of a victim differs from the base.

    Attributes:
        component: ``unet``, ``text_encoder``, ``text_encoder_2`` or ``vae``.
        given: tensors in the checkpoint.
        total: tensors in the component.
        changed: given tensors that differ from the base's.
        relative: norm of the change over the norm of the base, over the given tensors; None where there is no such
            base, as for networks that are added.
        how: where tensors are not simply replaced, in words.
    """

    component: str
    given: int
    total: int
    changed: int
    relative: float | None
    how: str = ""

    def __str__(self) -> str:
        """``unet: 80 of 80 given tensors changed (686 in all), by 3.1 %``."""
        much = f", by {100 * self.relative:.2g} %" if self.relative is not None else ""
        how = f", {self.how}" if self.how else ""
        return (
            f"{self.component}: {self.changed} of {self.given} given tensors changed ({self.total} in all){much}{how}"
        )


def check_fit(component: str, known: Tensors, given: Tensors) -> None:
    """Refuse tensors that have no place, another shape or kind of number, or that are not finite.

    Raises:
        ModelError: names the first of them.
    """
    if unexpected := sorted(set(given) - set(known)):
        raise ModelError(
            f"{len(unexpected)} of {len(given)} tensors have no place in the base's {component}, such as "
            f"{unexpected[0]}; is this the right base?"
        )
    for key, value in given.items():
        check_tensor(key, value)
        if value.shape != known[key].shape:
            raise ModelError(f"{key} is {list(value.shape)}, in the base {list(known[key].shape)}; is this its base?")
        if value.is_floating_point() != known[key].is_floating_point():
            raise ModelError(f"{key} is of type {value.dtype}, in the base {known[key].dtype}")
        if not value.to(known[key].dtype).isfinite().all():
            raise ModelError(f"{key} holds NaN or infinity" + _overflow(value, known[key]))


def check_tensor(key: str, value: torch.Tensor) -> None:
    """Refuse tensors that hold no plain numbers.

    Raises:
        ModelError: names it.
    """
    if value.is_meta or value.layout is not torch.strided or value.is_quantized or value.is_complex():
        kind = "has no data" if value.is_meta else "is not a dense tensor of real numbers"
        raise ModelError(f"{key} {kind}; save the weights themselves, as safetensors")


def _overflow(value: torch.Tensor, known: torch.Tensor) -> str:
    finite = value.is_floating_point() and bool(value.float().isfinite().all())
    return f" as {known.dtype}: choose another --unlearndiff-dtype" if finite else ""


def check_complete(component: str, known: Tensors, given: Tensors) -> None:
    """Refuse a component of which tensors are missing.

    Raises:
        ModelError: says how many and which.
    """
    if missing := sorted(set(known) - set(given)):
        raise ModelError(
            f"{len(missing)} of the {component}'s {len(known)} tensors are missing, such as {missing[0]}. If it is "
            "meant to hold only a part, add --unlearndiff-partial: the rest stays the base's"
        )


def check_partial(component: str, known: Tensors, given: Tensors) -> None:
    """Accept a part of a component only where it holds all tensors of a kind, or none.

    Methods train a kind of layer in every block (ESD-x: ``attn2``). One that is there in 15 of 16 blocks has lost
    tensors on the way, as partial checkpoints do in diffusers' own converter from CompVis names. One that holds almost
    all tensors was meant to hold all: the largest part that methods train (ESD-all) is two thirds.

    Raises:
        ModelError: names a kind of which some are missing.
    """
    if len(given) > _ALMOST_ALL * len(known):
        check_complete(component, known, given)
    total, found = (Counter(kind_of(key) for key in keys) for keys in (known, given))
    for kind, count in sorted(found.items()):
        if count < total[kind]:
            raise ModelError(
                f"holds {count} of the {component}'s {total[kind]} tensors of the kind {kind}: some seem lost. If it "
                "is meant to change only these, add --unlearndiff-partial: the rest stays the base's"
            )


def kind_of(key: str) -> str:
    """A tensor's name without the block it is in: ``attentions.transformer_blocks.attn2.to_k.weight``."""
    return re.sub(r"\.\d+(?=\.)", "", re.sub(r"^((down|up)_blocks\.\d+|mid_block)\.", "", key))


def compare_weights(component: str, known: Tensors, given: Tensors, how: str = "") -> WeightDiff:
    """Compare given tensors with the base's of the same names and shapes."""
    differences = {key: (given[key].float() - known[key].float()).norm().item() for key in given}
    norm = sum(known[key].float().norm().item() ** 2 for key in given) ** 0.5
    moved = sum(value**2 for value in differences.values()) ** 0.5
    changed = sum(value > 0 for value in differences.values())
    return WeightDiff(component, len(given), len(known), changed, moved / norm if norm else 0.0, how)


def check_changed(changes: Sequence[WeightDiff]) -> None:
    """Refuse a victim that is its base.

    Raises:
        ModelError: nothing differs.
    """
    if not any(change.changed for change in changes):
        raise ModelError(NOTHING_CHANGED)
