"""The base of a bare checkpoint, guessed from its metadata, names and shapes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..core.model_info import KnownBase
from ..core.registry import registry
from .model_header import FileHeader, Shapes, inspect_model
from .resolve import hub_folder


@dataclass(frozen=True)
class BaseGuess:
    """The likely base of a checkpoint.

    Attributes:
        name: of the models with its shapes, for people; the base's id where only that is known.
        base: Hub id.
        why: the reason, and how sure it is.
    """

    name: str
    base: str
    why: str

    def folder(self) -> Path | None:
        """Return the base on this machine, if it is there."""
        return hub_folder(self.base)

    def __str__(self) -> str:
        """``Stable Diffusion 1.x, base CompVis/stable-diffusion-v1-4 (...)``."""
        return f"{self.name}, base {self.base} ({self.why})"


def guess_base(path: Path) -> BaseGuess | None:
    """Guess a checkpoint's base; None for whole pipelines, and where nothing tells."""
    try:
        header = inspect_model(path)
    except OSError:
        return None
    return next((guess for file in header.files if (guess := _of_file(file)) is not None), None)


def _of_file(file: FileHeader) -> BaseGuess | None:
    hub_id = file.metadata.get("base_model_id")
    if isinstance(hub_id, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id):
        return BaseGuess(hub_id, hub_id, "as its metadata says")
    return _of_shapes(file.shapes)


def _of_shapes(shapes: Shapes) -> BaseGuess | None:
    families, guess = list(registry().families.values()), None
    for key, shape in shapes.items():
        if own := next((row for row in families if row.bases and row.own_name and re.search(row.own_name, key)), None):
            return _guess(own.bases[0], f"it holds {key}")
        if guess is None:
            rules = ((base, rule) for row in families for base in row.bases for rule in base.shapes)
            guess = next((_guess(base, str(rule)) for base, rule in rules if rule.holds(key, shape)), None)
    return guess


def _guess(base: KnownBase, reason: str) -> BaseGuess:
    return BaseGuess(base.title, base.hub_id, f"{reason}; {base.remark}")
