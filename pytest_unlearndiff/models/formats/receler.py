"""Receler: small networks behind the cross-attention of every block (Huang et al. 2024, section 3.2).

Published as a folder with ``eraser_config.json`` and ``eraser_weights.pt``; each eraser adds
``up(GELU(down(y)))`` to the output ``y`` of ``attn2``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ...core.errors import ModelError
from ...core.untrusted import short_repr
from ..tensor_files import Contents, Tensors
from ..weight_patches import DetectedFormat, WeightDiff, Weights, check_fit, copy_sharing_weights

_NAME = re.compile(r"((?:(?:down|up)_blocks\.\d+|mid_block)\.attentions\.\d+)\.((?:down|up)\.(?:weight|bias))")
_TITLE = "Receler's erasers"


# Where a whole UNet was saved with the erasers in place (erase-eval).
_IN_PLACE = re.compile(r"(.+\.attentions\.\d+)\.transformer_blocks\.0\.attn2\.adapter\.(.+)")


def read_receler(named: Tensors, contents: Contents) -> DetectedFormat | None:
    """Read tensors with these names (``FormatInfo``)."""
    if all(_NAME.fullmatch(key) for key in named):
        _check_config(named, contents.config or {})
        config = {key: str(value) for key, value in (contents.config or {}).items()}
        return DetectedFormat(_TITLE, (Erasers(named),), metadata=config)
    erasers = {f"{match[1]}.{match[2]}": value for key, value in named.items() if (match := _IN_PLACE.fullmatch(key))}
    if not erasers:
        return None
    rest = {key: value for key, value in named.items() if not _IN_PLACE.fullmatch(key)}
    unet = {key.replace(".attn2.attn.", ".attn2."): value for key, value in rest.items()}
    return DetectedFormat(f"UNet state dict with {_TITLE}", (Weights("unet", unet, complete=True), Erasers(erasers)))


class Eraser(torch.nn.Module):
    """A cross-attention layer with an eraser behind it.

    Args:
        attention: the layer.
        width: numbers of its output.
        rank: numbers between.
    """

    def __init__(self, attention: Any, width: int, rank: int) -> None:
        super().__init__()
        self.attention = attention
        self.down = torch.nn.Linear(width, rank)
        self.up = torch.nn.Linear(rank, width)

    def forward(self, *arguments: Any, **keywords: Any) -> torch.Tensor:
        """Return the layer's output plus the eraser's correction."""
        states = self.attention(*arguments, **keywords)
        corrected: torch.Tensor = states + self.up(torch.nn.functional.gelu(self.down(states)))
        return corrected


@dataclass(frozen=True)
class Erasers:
    """Adds the erasers to a UNet.

    Attributes:
        tensors: four for each place, such as ``down_blocks.0.attentions.1.up.bias``.
    """

    tensors: Tensors

    def apply(self, pipe: Any, *, partial: bool) -> list[WeightDiff]:
        """See ``WeightPatch``."""
        unet = copy_sharing_weights(pipe.unet)
        total, left, blocks = len(pipe.unet.state_dict()), dict(self.tensors), _blocks(unet)
        for place, block in blocks.items():
            names = {f"{place}.{part}": part for part in ("down.weight", "down.bias", "up.weight", "up.bias")}
            given = {part: left.pop(name) for name, part in names.items() if name in left}
            if len(given) < len(names):
                raise ModelError(f"holds no whole eraser for {place}; is this the right base?")
            block.attn2 = _with_eraser(place, block.attn2, given)
        if left:
            raise ModelError(f"{next(iter(left))} has no place in the base's unet; is this the right base?")
        pipe.unet = unet
        ups = [value for key, value in self.tensors.items() if ".up." in key]
        active = sum(bool(value.count_nonzero()) for value in ups)
        how = f"as {len(blocks)} erasers behind cross-attention"
        return [WeightDiff("unet", len(self.tensors), total, len(self.tensors) if active else 0, None, how)]


def _blocks(unet: Any) -> dict[str, Any]:
    """Return transformer blocks by the name that Receler gives their position."""
    return {
        name.split(".transformer_blocks.")[0]: module
        for name, module in unet.named_modules()
        if type(module).__name__ == "BasicTransformerBlock"
    }


def _with_eraser(place: str, attention: Any, given: Tensors) -> Eraser:
    weight = attention.to_out[0].weight
    down = given["down.weight"]
    if down.dim() != 2 or not 0 < down.shape[0] <= weight.shape[0] or down.is_meta:
        raise ModelError(f"{place}.down.weight is {list(down.shape)}, which no eraser of a {len(weight)} wide layer is")
    eraser = Eraser(attention, weight.shape[0], down.shape[0]).to(weight.device, weight.dtype)
    own = {key: value for key, value in eraser.state_dict().items() if not key.startswith("attention.")}
    expected, named = ({f"{place}.{key}": value for key, value in part.items()} for part in (own, given))
    check_fit("erasers", expected, named)
    eraser.load_state_dict(dict(given), strict=False)
    return eraser.eval()


def _check_config(named: Tensors, config: Mapping[str, Any]) -> None:
    """Refuse another kind of eraser, and weights of another rank than their configuration says."""
    if (kind := config.get("eraser_type", "adapter")) != "adapter":
        raise ModelError(f"eraser_config.json has eraser_type={short_repr(kind)}; only adapter is known")
    rank = config.get("eraser_rank")
    for key, value in named.items():
        if key.endswith("down.weight") and rank is not None and value.shape[:1] != (rank,):
            raise ModelError(
                f"{key} is {list(value.shape)}, but eraser_config.json says eraser_rank={short_repr(rank)}"
            )
