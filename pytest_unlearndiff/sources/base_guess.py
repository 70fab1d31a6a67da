"""The base of a bare checkpoint, guessed from its metadata, names and shapes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..core.model_info import KnownBase
from ..core.registry import registry
from .model_header import Shapes, inspect_model
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
    for file in header.files:
        hub_id = file.metadata.get("base_model_id")
        if isinstance(hub_id, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id):
            return BaseGuess(hub_id, hub_id, "as its metadata says")
    return _of_shapes({key: shape for file in header.files for key, shape in file.shapes.items()})


def base_request(path: Path) -> str:
    """Ask for the base of a checkpoint, and name the likely one."""
    guess = guess_base(path)
    likely = f"={guess.base}. It seems to be of {guess.name} ({guess.why})" if guess is not None else ""
    return f"give its base with --unlearndiff-base{likely}"


def _of_shapes(shapes: Shapes) -> BaseGuess | None:
    # Names have the last word: a pipeline's first text encoder alone looks like that of another family.
    rows = registry().families.values()
    for row in (row for row in rows if row.own_name is not None):
        key = next((key for key in shapes if re.search(str(row.own_name), key)), None)
        base = next((base for base in row.bases if base.suits(shapes)), None)
        if key is not None and base is not None:
            return _guess(base, f"it holds {key}")
    bases = [base for row in rows for base in row.bases if base.suits(shapes)]
    rules = (
        (base, rule)
        for key, shape in shapes.items()
        for base in bases
        for rule in base.shapes
        if rule.holds(key, shape)
    )
    return next((_guess(base, str(rule)) for base, rule in rules), None)


def _guess(base: KnownBase, reason: str) -> BaseGuess:
    return BaseGuess(base.title, base.hub_id, f"{reason}; {base.remark}")
