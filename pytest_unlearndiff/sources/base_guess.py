"""The base of a bare checkpoint: guessed from its metadata, names and shapes, and compared with them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from ..core.model_info import KnownBase
from ..core.registry import registry
from ..core.untrusted import printable
from .model_header import Shapes, inspect_model, read_header
from .resolve import hub_folder
from .weight_files import part_folders, read_json, weight_files, weights_stem

ADAPTER_CONFIG = "adapter_config.json"

_BLOCKS = ("down_blocks", "transformer_blocks")
"""Beginnings of names in diffusers' UNets, and in its transformers."""
_VOCABULARY = re.compile(r"(token_embedding|embed_tokens|shared)\.weight$")
"""Tensors with a row per token, of which training may have added some."""


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
        if (hub_id := _hub_id(file.metadata.get("base_model_id"))) is not None:
            return BaseGuess(hub_id, hub_id, "as its metadata says")
    if (hub_id := _of_adapter(path)) is not None:
        return BaseGuess(hub_id, hub_id, f"as its {ADAPTER_CONFIG} says")
    declared = next(filter(None, (_of_metadata(file.metadata) for file in header.files)), None)
    return declared or _of_shapes({key: shape for file in header.files for key, shape in file.shapes.items()})


_ARCHITECTURE = ("modelspec.architecture", "ss_base_model_version")
"""Names of an architecture in metadata: of Stability AI's ModelSpec, and of kohya's training scripts."""


def _of_metadata(metadata: Mapping[str, Any]) -> BaseGuess | None:
    bases = [base for row in registry().families.values() for base in row.bases if base.declared is not None]
    for key, text in ((key, str(metadata[key])) for key in _ARCHITECTURE if key in metadata):
        base = next((base for base in bases if re.match(str(base.declared), text.lower())), None)
        if base is not None:
            return _guess(base, f"its metadata says {key}={printable(text, 100)}")
    return None


def _of_adapter(path: Path) -> str | None:
    """Return the Hub id that a folder of PEFT names as its base; None for any other."""
    try:
        named = read_json(path / ADAPTER_CONFIG).get("base_model_name_or_path")
    except ModelError:
        return None
    return _hub_id(named)


def _hub_id(named: object) -> str | None:
    return named if isinstance(named, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", named) else None


def base_request(path: Path) -> str:
    """Ask for the base of a checkpoint, and name the likely one."""
    guess = guess_base(path)
    likely = f"={guess.base}. It seems to be of {guess.name} ({guess.why})" if guess is not None else ""
    return f"give its base with --unlearndiff-base{likely}"


def misfit(path: Path, base: Path) -> str:
    """Say which tensor of a checkpoint has another size in a base; empty where headers show none.

    Names that the base does not have are left to loading, which knows the formats.

    Raises:
        OSError: a file cannot be read.
    """
    expected: dict[str, list[tuple[int, ...]]] = {}
    try:
        files = [file for part in part_folders(base) for file in weight_files(part, weights_stem(part.name)).files]
    except ModelError:  # which loading says
        return ""
    for header in filter(None, map(read_header, files)):
        for name, shape in header.shapes.items():
            expected.setdefault(name, []).append(shape)
    components = {name.partition(".")[0] for name in expected}
    for name, shape in ((name, shape) for file in inspect_model(path).files for name, shape in file.shapes.items()):
        if expected and (block := name.partition(".")[0]) in _BLOCKS and block not in components:
            return f"it holds {printable(name, 200)}, and the base no {block}; is this its base?"
        fits = any(math.prod(shape) == math.prod(other) for other in expected.get(name, [shape]))
        if not fits and not _VOCABULARY.search(name):
            return f"{printable(name, 200)} is {list(shape)}, in the base {list(expected[name][0])}; is this its base?"
    return ""


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
