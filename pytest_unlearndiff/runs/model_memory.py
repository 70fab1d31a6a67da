"""Memory that the weights of a victim and its base take, from the headers of their files, before anything is loaded."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..core.device import WEIGHTS
from ..core.errors import ModelError
from ..core.model_info import FamilyInfo
from ..models.families.lookup import family_named
from ..sources.model_header import Shapes, inspect_model, read_header
from ..sources.weight_files import CONFIG, STEMS, part_folders, same_files, weight_files, weights_stem
from ..store.key import Fingerprints
from .model_spec import ModelSpec

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_GIB = 2**30
_UP = {"lora_A": "lora_B", "lora_down": "lora_up", ".down.": ".up."}
_DOWN = re.compile(r"lora_A|lora_down|(?<=_lora)\.down\.")
_LOW_RANK = re.compile(r"lora|\.alpha$")


@dataclass(frozen=True)
class WeightsMemory:
    """Weights of a victim and its base, where both are loaded.

    Attributes:
        victim: bytes of the victim.
        base: bytes that the base takes beside them, without what both share.
        dtype: floating-point type of the weights.
    """

    victim: int
    base: int
    dtype: str

    def __str__(self) -> str:
        """``weights take about 53 GiB in bfloat16: the victim 31 GiB, its base 22 GiB beside what they share``."""
        both = f"weights take about {_size(self.victim + self.base)} in {self.dtype}"
        if not self.base:
            return both
        return f"{both}: the victim {_size(self.victim)}, its base {_size(self.base)} beside what they share"


def _size(count: int) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB / 10 else f"{count / 2**20:.1f} MiB"


def weights_memory(spec: ModelSpec, fingerprints: Fingerprints) -> WeightsMemory | None:
    """Add up what the files of a victim and its base hold; None where their headers do not tell.

    Args:
        spec: the victim.
        fingerprints: hashes files, to see which components both have alike.

    Raises:
        StoreError: a file cannot be read.
    """
    folder = next((path for path in (spec.model, spec.base) if path is not None and _family(path) is not None), None)
    family = _family(folder) if folder is not None else None
    if folder is None or family is None:
        return None
    width = _BYTES[WEIGHTS[spec.dtype]]
    names = [name for name in family.components if name not in family.optional or (folder / name).is_dir()]
    sizes = {name: _numbers(folder / name) * width for name in names}
    if not all(sizes.values()):
        return None
    if spec.base is None or spec.model is None:
        beside = 0
    elif folder == spec.model:
        other = {name for name in sizes if not same_files(folder, spec.base, name, fingerprints.of)}
        beside = sum(_numbers(spec.base / name) * width for name in other)
    else:
        beside = sum(map(_replaced, (spec.model, *spec.adapters))) * width
    return WeightsMemory(sum(sizes.values()), beside, WEIGHTS[spec.dtype])


def _family(path: Path) -> FamilyInfo | None:
    return family_named(inspect_model(path).pipeline)


def _numbers(component: Path) -> int:
    """Count the numbers of a component that is loaded; 0 where its files do not tell."""
    headers = [read_header(file) for file in _files(component)]
    return sum(math.prod(shape) for header in headers if header is not None for shape in header.shapes.values())


def _files(component: Path) -> tuple[Path, ...]:
    # A folder that is given alone may have any name; it holds files of one of both.
    for stem in dict.fromkeys((weights_stem(component.name), *STEMS)):
        with suppress(ModelError):
            return weight_files(component, stem).files
    return ()


def _replaced(checkpoint: Path) -> int:
    """Count the numbers that a checkpoint replaces."""
    if (checkpoint / CONFIG).is_file():
        return _numbers(checkpoint)
    if parts := part_folders(checkpoint):
        return sum(map(_numbers, parts))
    return sum(_changed(file.shapes) for file in inspect_model(checkpoint).files)


def _changed(shapes: Shapes) -> int:
    """Count the numbers that a file replaces; a low-rank pair changes as many as its product has."""
    count = 0
    for name, shape in shapes.items():
        if (match := _DOWN.search(name)) is None:
            count += 0 if _LOW_RANK.search(name) else math.prod(shape)
            continue
        up = shapes.get(name[: match.start()] + _UP[match[0]] + name[match.end() :], (0,))
        count += up[0] * math.prod(shape[1:])
    return count
