"""A prompt in the middle of its attack, packed so that another process of the same campaign goes on with it."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.concept import Prompt

if TYPE_CHECKING:
    from ..models.diffusion_model import DiffusionModel
    from ..models.target_images import Targets
    from .engine import RunningPrompt


@dataclass(frozen=True)
class Begun:
    """What a worker gives back unfinished; only another worker looks inside.

    Attributes:
        prompt: which.
        rounds: how often its lane has advanced.
        packed: its lane, and what it has cost so far.
    """

    prompt: Prompt
    rounds: int
    packed: bytes


class Packer:
    """Packs prompts, in which every process puts its own models.

    Args:
        victim: of this process.
        targets: of this process.
    """

    def __init__(self, victim: DiffusionModel, targets: Targets | None) -> None:
        self._victim = victim
        self._targets = targets

    def pack(self, seat: RunningPrompt) -> Begun | None:
        """A prompt as its lane stands; None where that cannot leave this process, as in some attack of a plugin's."""
        packed = io.BytesIO()
        try:
            self._pickler(packed).dump(seat)
        except Exception:  # a plugin's lane may hold anything, and what it raises stops no campaign
            return None
        return Begun(seat.state.prompt, seat.state.block, packed.getvalue())

    def unpack(self, begun: Begun) -> RunningPrompt:
        """The prompt's lane, to go on with; packed by a worker of the same campaign."""
        unpickler = pickle.Unpickler(io.BytesIO(begun.packed))  # noqa: S301 - Ray's every message is a pickle too
        unpickler.persistent_load = self._model  # type: ignore[method-assign]
        seat: RunningPrompt = unpickler.load()
        return seat

    def _pickler(self, packed: io.BytesIO) -> pickle.Pickler:
        pickler = pickle.Pickler(packed, pickle.HIGHEST_PROTOCOL)
        pickler.persistent_id = self._name  # type: ignore[method-assign]
        return pickler

    def _name(self, part: Any) -> str | None:
        """What a model is called in a pickle; None for whatever is none.

        Raises:
            PicklingError: another process does not have it.
        """
        from torch.nn import Module

        from ..models.diffusion_model import DiffusionModel

        if part is self._victim:
            return "victim"
        if isinstance(part, DiffusionModel) and self._targets is not None and part is self._targets.base:
            return "base"
        if isinstance(part, (DiffusionModel, Module)):
            raise pickle.PicklingError(f"a {type(part).__name__} does not travel with a prompt")
        return None

    def _model(self, name: str) -> DiffusionModel:
        if name == "victim":
            return self._victim
        assert self._targets is not None
        return self._targets.base
