"""The family of a pipeline or of a class, by its row in the registry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ...core.concept import Sampling
from ...core.errors import ModelError
from ...core.model_info import FamilyInfo
from ...core.registry import registry
from ...core.untrusted import short_repr
from ...sources.resolve import import_string

if TYPE_CHECKING:
    from .base import Family


def supported_families() -> str:
    """Name the families that can be attacked, for messages."""
    titles = ", ".join(family.title for family in registry().families.values())
    return f"only pipelines of {titles} can be attacked so far"


def refusal(pipeline_class: str) -> str:
    """Say why pipelines of a class are refused, and what to give instead, to follow the name of the class."""
    plain = re.sub(r"Img2Img|Inpaint(ing)?", "", pipeline_class)
    if plain == pipeline_class or family_named(plain) is None:
        return f"; {supported_families()}"
    if "Img2Img" in pipeline_class:  # the refiner of Stable Diffusion XL, which is one, lacks a text encoder
        return (
            f", which begins with an image; gates draw from text alone. Save its components as those of a "
            f"{plain}: {plain}.from_pipe(pipe).save_pretrained(FOLDER)"
        )
    return f", which draws into an image; gates draw from text alone. Give the {plain} that the concept was erased from"


def family_named(pipeline_class: object) -> FamilyInfo | None:
    """Return the family of a pipeline class by the class's name; None for an unknown one."""
    return next((family for family in registry().families.values() if pipeline_class in family.pipeline_classes), None)


def family_of_class(pipeline: type) -> FamilyInfo | None:
    """Return the family of a pipeline class or of a subclass, by names; None for an unknown one."""
    return next((family for each in pipeline.__mro__ if (family := family_named(each.__name__)) is not None), None)


def family_of(pipe: Any) -> FamilyInfo:
    """Return the family of a pipeline.

    Raises:
        ModelError: it is of none, or lacks a component, or its network asks for inputs that the family does not have.
    """
    # By name first, since importing every family's pipeline takes seconds.
    names = {each.__name__ for each in type(pipe).__mro__}
    rows = (row for row in registry().families.values() if row.pipeline_classes[0] in names)
    family = next((row for row in rows if isinstance(pipe, import_string(row.pipeline))), None)
    name = type(pipe).__name__
    if family is None:
        raise ModelError(f"the pipeline is a {name}{refusal(name)}")
    for component, classes in family.components.items():
        # Only its presence: what compiles or wraps a network has another class, and keeps the configuration.
        if getattr(pipe, component, None) is None and component not in family.optional:
            raise ModelError(f"the {name} has no {component} ({' or '.join(classes)}); {supported_families()}")
    config = getattr(pipe, family.network).config
    for setting, expected in family.network_config.items():
        if (value := config.get(setting)) != expected:
            raise ModelError(
                f"its {family.network} has {setting}={short_repr(value)} where {expected!r} is known; "
                f"{supported_families()}"
            )
    return family


def components_of(pipe: Any) -> tuple[str, ...]:
    """Return the names of a pipeline's components with weights.

    Raises:
        ModelError: see ``family_of``.
    """
    return tuple(name for name in family_of(pipe).components if getattr(pipe, name, None) is not None)


def bind_family(pipe: Any, sampling: Sampling) -> Family:
    """Bind a pipeline, whose scheduler may be replaced, to its family's implementation.

    Raises:
        ModelError: see ``family_of``, and what the implementation refuses.
    """
    family: Family = import_string(family_of(pipe).implementation)(pipe, sampling)
    return family
