"""A checkpoint format: differences to the base's UNet, each tensor under ``delta.`` and its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_unlearndiff.models.tensor_files import Contents, Tensors
from pytest_unlearndiff.models.weight_patches import DetectedFormat, WeightDiff, apply_weights, check_fit, check_partial


def read_deltas(named: Tensors, contents: Contents) -> DetectedFormat:
    """Read tensors that are all named ``delta.``."""
    deltas = {name.removeprefix("delta."): value for name, value in named.items()}
    return DetectedFormat("weight deltas", (Deltas(deltas),))


@dataclass(frozen=True)
class Deltas:
    """Adds differences to the base's weights.

    Attributes:
        tensors: by the names that the UNet has.
    """

    tensors: Tensors

    def apply(self, pipe: Any, *, partial: bool) -> list[WeightDiff]:
        """Check that every tensor fits, and give the pipeline a UNet of its own with the sums."""
        weights = pipe.unet.state_dict()
        check_fit("unet", weights, self.tensors)
        if not partial:
            check_partial("unet", weights, self.tensors)
        sums = {name: weights[name] + delta for name, delta in self.tensors.items()}
        return [apply_weights(pipe, "unet", sums, "as differences")]
