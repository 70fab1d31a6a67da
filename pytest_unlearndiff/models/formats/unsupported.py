"""Models of other families: recognised so that they can be refused by name."""

from __future__ import annotations

from ...core.errors import ModelError
from ..families import supported_families
from ..files import Contents, Tensors
from .detected import DetectedFormat

# Parts of names that only this family has.
_MARKS = {
    "Stable Diffusion XL's refiner": ("conditioner.embedders.0.model.",),
    "FLUX": ("single_transformer_blocks.", "double_blocks.", "single_blocks.", "context_embedder."),
    "Stable Diffusion 3": ("joint_blocks.",),
    "a diffusion transformer": ("transformer.transformer_blocks.", "caption_projection.", "adaln_single."),
}
_FAMILIES = {"flux": "FLUX", "flux2_klein": "FLUX.2 klein", "sd3": "Stable Diffusion 3"}

_REFINER = 1280


def detect(named: Tensors, contents: Contents) -> DetectedFormat | None:
    """See ``detect_format``.

    Raises:
        ModelError: it is of another family.
    """
    refuse_other_families(named, contents)
    return None


def refuse_other_families(named: Tensors, contents: Contents) -> None:
    """Refuse by name what belongs to another family.

    Raises:
        ModelError: names the family.
    """
    if (said := contents.metadata.get("family")) in _FAMILIES:
        raise ModelError(f"is of {_FAMILIES[said]}, as its metadata says; {supported_families()}")
    for family, marks in _MARKS.items():
        if found := next((key for key in named if key.startswith(marks) or any(f".{m}" in key for m in marks)), None):
            raise ModelError(f"is of {family} (it holds {found}); {supported_families()}")
    if blocks := next((key for key in named if key.startswith("transformer_blocks.")), None):
        raise ModelError(f"is of a diffusion transformer (it holds {blocks}); {supported_families()}")
    if any(".attn2.to_k." in key and value.shape[1:] == (_REFINER,) for key, value in named.items()):
        raise ModelError(
            f"is of Stable Diffusion XL's refiner (its cross-attention reads {_REFINER} numbers a token); "
            f"{supported_families()}"
        )
