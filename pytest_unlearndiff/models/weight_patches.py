"""What a checkpoint does to its base: one patch a component, each accounted for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..core.errors import ModelError
from .accounting import WeightDiff, check_complete, check_fit, check_partial, compare_weights
from .files import Tensors


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
        component: ``unet``, ``text_encoder``, ``text_encoder_2`` or ``vae``.
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
        known, given = module.state_dict(), self.renamed(module, self.tensors)
        check_fit(self.component, known, given)
        if not partial:
            (check_complete if self.complete else check_partial)(self.component, known, given)
        return [apply_weights(pipe, self.component, given)]


def component_of(pipe: Any, component: str) -> Any:
    """A network of a pipeline.

    Raises:
        ModelError: it has none.
    """
    if (module := getattr(pipe, component, None)) is None:
        raise ModelError(f"is of a {component}, which the base ({type(pipe).__name__}) has not; is this its base?")
    return module


def apply_weights(pipe: Any, component: str, tensors: Tensors, how: str = "") -> WeightDiff:
    """Give a pipeline its own copy of a component with these tensors in it, which have been checked to fit."""
    module = getattr(pipe, component)
    mine = copy.deepcopy(module)
    mine.load_state_dict(dict(tensors), strict=False)
    setattr(pipe, component, mine)
    after = mine.state_dict()
    return compare_weights(component, module.state_dict(), {key: after[key] for key in tensors}, how)
