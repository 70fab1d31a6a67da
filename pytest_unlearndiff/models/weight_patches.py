"""Patch the base's weights with a checkpoint's tensors, and account for every one: where it goes, whether it fits."""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ..core.errors import ModelError
from .tensor_files import Tensors

NOTHING_CHANGED = "every tensor equals the base's, so nothing was unlearned in this checkpoint"
"""The reason to refuse a victim that is its base."""

_ALMOST_ALL = 0.9
_MOST_ADDED = 1_000
_FAINT = 1e-5


@dataclass(frozen=True)
class WeightDiff:
    """The difference between a component of a victim and of its base.

    Attributes:
        component: name of the pipeline's component, such as ``unet``, ``transformer``, ``text_encoder`` or ``vae``.
        given: tensors in the checkpoint.
        total: tensors in the component.
        changed: given tensors that differ from the base's.
        relative: norm of the change over the norm of the base, over the given tensors; None where there is no such
            base, as for networks that are added.
        how: where tensors are not simply replaced, in words.
        file: name of the checkpoint, where there are several.
    """

    component: str
    given: int
    total: int
    changed: int
    relative: float | None
    how: str = ""
    file: str = ""

    def __str__(self) -> str:
        """``unet: 80 of 80 given tensors changed (686 in all), by 3.1 % of their norm in the base``."""
        percent = 100 * (self.relative or 0.0)
        share = f"{percent:{'.0f' if percent >= 100 else '.2g'}} %"
        much = f", by {share} of their norm in the base" if self.relative is not None else ""
        how = f", {self.how}" if self.how else ""
        file = f"{self.file}: " if self.file else ""
        given = f"{self.changed} of {self.given} given tensors changed ({self.total} in all)"
        return f"{file}{self.component}: {given}{much}{how}"


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
    total, found = (Counter(layer_kind(key) for key in keys) for keys in (known, given))
    for kind, count in sorted(found.items()):
        if count < total[kind]:
            raise ModelError(
                f"holds {count} of the {component}'s {total[kind]} tensors of the kind {kind}: some seem lost. If it "
                "is meant to change only these, add --unlearndiff-partial: the rest stays the base's"
            )


def layer_kind(key: str) -> str:
    """Return a tensor's name without its block: ``attentions.transformer_blocks.attn2.to_k.weight``."""
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


def faint_change_note(changes: Sequence[WeightDiff]) -> str:
    """Say that a victim is almost its base; empty where it is not, or where networks were added."""
    most = max((math.inf if change.relative is None else change.relative for change in changes), default=math.inf)
    if most >= _FAINT:
        return ""
    return (
        f"its weights differ from the base's by {100 * most:.1g} % only, far less than erasing takes: was the right "
        "file saved, at the right scale?"
    )


class WeightPatch(Protocol):
    """One change to a pipeline."""

    def apply(self, pipe: Any, *, partial: bool) -> list[WeightDiff]:
        """Put it into a pipeline that may be changed, but whose components may not.

        Args:
            pipe: a copy of the base; its components are still the base's own.
            partial: whether to accept a component of which tensors are missing without a pattern.

        Returns:
            What differs from the base, by component; nothing where the patch only checks.

        Raises:
            ModelError: something has no place, another shape, or is not finite.
        """
        ...


@dataclass(frozen=True)
class Weights:
    """Tensors that replace the base's.

    Attributes:
        component: name of the pipeline's component, such as ``unet``, ``transformer``, ``text_encoder`` or ``vae``.
        tensors: by the names the file has.
        renamed: gives the tensors the names the component has; it may depend on the component's layout.
        complete: whether the file must hold every tensor of the component.
    """

    component: str
    tensors: Tensors
    renamed: Callable[[Any, Tensors], Tensors] = lambda _, tensors: tensors
    complete: bool = False

    def apply(self, pipe: Any, *, partial: bool) -> list[WeightDiff]:
        """See ``WeightPatch``."""
        module = component_of(pipe, self.component)
        expected, tensors = module.state_dict(), dict(self.renamed(module, self.tensors))
        how = ""
        if added := added_rows(module, tensors):
            # Rows beyond the base's tokenizer, as training leaves them that adds a token for the concept.
            how = f"{added} token embeddings left out, which no text reaches with the base's tokenizer"
            tensors |= {key: tensors[key][: len(expected[key])] for key in embedding_keys(module) if key in tensors}
        check_fit(self.component, expected, tensors)
        if not partial:
            (check_complete if self.complete else check_partial)(self.component, expected, tensors)
        return [apply_weights(pipe, self.component, tensors, how)]


def embedding_keys(module: Any) -> list[str]:
    """Return all names of a text encoder's token embeddings; none for other networks."""
    embeddings = module.get_input_embeddings() if hasattr(module, "get_input_embeddings") else None
    if embeddings is None:
        return []
    at = embeddings.weight.data_ptr()
    return [key for key, value in module.state_dict().items() if value.data_ptr() == at and at]


def added_rows(module: Any, tensors: Tensors) -> int:
    """Count the token embeddings that tensors hold behind those of a text encoder, for tokens that training added."""
    expected = module.state_dict()
    for key in embedding_keys(module):
        value, own = tensors.get(key), expected[key]
        if value is not None and value.shape[1:] == own.shape[1:] and 0 < len(value) - len(own) <= _MOST_ADDED:
            return len(value) - len(own)
    return 0


@dataclass(frozen=True)
class OneOf:
    """Patches for one of several components: text encoders of the same kind do not say which of them they are.

    Attributes:
        choices: the patches by the component that they would be for, the likeliest first.
    """

    choices: Mapping[str, tuple[WeightPatch, ...]]

    def apply(self, pipe: Any, *, partial: bool) -> list[WeightDiff]:
        """See ``WeightPatch``; the component is that which the patches fit."""
        fitting, errors = dict[str, tuple[Any, list[WeightDiff]]](), list[ModelError]()
        present = {name: patches for name, patches in self.choices.items() if getattr(pipe, name, None) is not None}
        for component, patches in (present or self.choices).items():
            trial = copy.copy(pipe)
            try:
                changes = [change for patch in patches for change in patch.apply(trial, partial=partial)]
                fitting[component] = getattr(trial, component), changes
            except ModelError as error:
                errors.append(error)
        if not fitting:
            raise errors[0]
        if len(fitting) > 1:
            raise ModelError(
                f"fits {' and '.join(fitting)} of the base alike: save it in a folder of the component's name, or "
                f"begin its tensors' names with it, as in {next(iter(fitting))}."
            )
        component, (module, changes) = next(iter(fitting.items()))
        setattr(pipe, component, module)
        return changes


def component_of(pipe: Any, component: str) -> Any:
    """Return a network of a pipeline, whose weights can be replaced.

    Raises:
        ModelError: it has none, or its weights are quantised.
    """
    if (module := getattr(pipe, component, None)) is None:
        raise ModelError(f"is of a {component}, which the base ({type(pipe).__name__}) has not; is this its base?")
    if method := quantizer(module):
        raise ModelError(
            f"changes the {component}, which is quantised ({method}) in the base: give the base as it was before that"
        )
    return module


def quantizer(module: Any) -> str:
    """Return the method by which a network's weights are quantised, as diffusers and transformers name it; or none."""
    if (used := getattr(module, "hf_quantizer", None)) is None:
        return ""
    method = getattr(used.quantization_config, "quant_method", type(used).__name__)
    return str(getattr(method, "value", method))


def apply_weights(pipe: Any, component: str, tensors: Tensors, how: str = "") -> WeightDiff:
    """Give a pipeline its own copy of a component with these tensors in it, which have been checked to fit.

    All others are the base's own, so that a victim takes no more memory than what its checkpoint changes.
    """
    module = getattr(pipe, component)
    patched = copy_sharing_weights(module, tensors)
    setattr(pipe, component, patched)
    after = patched.state_dict()
    return compare_weights(component, module.state_dict(), {key: after[key] for key in tensors}, how)


def copy_sharing_weights(module: torch.nn.Module, replaced: Tensors | None = None) -> torch.nn.Module:
    """Copy a network, whose tensors stay those of the original but for these.

    Args:
        module: the network.
        replaced: tensors by name, which are converted to the type, device and layout of those that they replace.
    """
    known = module.state_dict(keep_vars=True)
    copies = {id(value): value for value in known.values()}
    for key, value in (replaced or {}).items():
        old = known[key]
        new = torch.empty_like(old, requires_grad=False).copy_(value)
        copies[id(old)] = torch.nn.Parameter(new, requires_grad=False) if isinstance(old, torch.nn.Parameter) else new
    return copy.deepcopy(module, copies)


@dataclass(frozen=True)
class DetectedFormat:
    """A checkpoint's format, and what it does to a base.

    Attributes:
        format: for people.
        patches: one per component.
        notes: what was left out or assumed, for the report.
        metadata: what the checkpoint says about itself.
    """

    format: str
    patches: tuple[WeightPatch, ...]
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
