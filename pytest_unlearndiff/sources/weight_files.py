"""Files of components' weights, chosen as diffusers and transformers choose them; without torch or numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import untrusted
from ..core.errors import ModelError
from ..core.registry import registry
from ..core.untrusted import printable

CONFIG = "config.json"
"""File that makes a folder a component."""
STEMS = ("model", "diffusion_pytorch_model")
"""Names of weight files, as transformers and diffusers write them."""


@dataclass(frozen=True)
class WeightFiles:
    """Files of a component's tensors.

    Attributes:
        files: one, or shards.
        variant: such as ``fp16``, as part of their names; None for the plain ones.
    """

    files: tuple[Path, ...]
    variant: str | None = None

    @property
    def safe(self) -> bool:
        """True for safetensors, False for pickles."""
        return self.files[0].suffix == ".safetensors"


def weights_stem(component: str) -> str:
    """Return the name of a component's weight file, as transformers and diffusers write it."""
    return STEMS[0] if component.startswith("text_encoder") else STEMS[1]


def weight_files(folder: Path, stem: str) -> WeightFiles:
    """Find a component's files as the libraries do: safetensors before pickles, plain before half precision.

    Raises:
        ModelError: there are none, or an index names what is not in the folder.
    """
    stems = (stem, "pytorch_model") if stem == "model" else (stem,)
    for ending in ("safetensors", "bin"):
        for variant in (None, "fp16", "bf16"):
            for name in stems:
                middle = f".{variant}" if variant else ""
                if (folder / f"{name}{middle}.{ending}").is_file():
                    return WeightFiles((folder / f"{name}{middle}.{ending}",), variant)
                if (folder / f"{name}.{ending}.index{middle}.json").is_file():
                    return WeightFiles(_shards(folder, f"{name}.{ending}.index{middle}.json"), variant)
    raise ModelError(f"{folder.name} has a config.json, but no {stem}.safetensors beside it")


def _shards(folder: Path, index: str) -> tuple[Path, ...]:
    named = read_json(folder / index).get("weight_map")
    names = sorted(set(named.values())) if isinstance(named, dict) and all(map(_plain, named.values())) else []
    if not names:
        raise ModelError(f"{folder.name}/{index} is no index of files beside it")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(f"{folder.name}: {printable(missing[0])} is missing, which {index} names")
    return tuple(folder / name for name in names)


def _plain(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name


def part_folders(path: Path) -> list[Path]:
    """Return the components in a folder that a checkpoint may be of: all but autoencoders."""
    families = registry().families.values()
    names = dict.fromkeys(name for family in families for name in family.components if name != "vae")
    return [path / name for name in names if (path / name / CONFIG).is_file()]


def same_files(one: Path, other: Path, component: str, hashed: Callable[[Path], str]) -> bool:
    """Tell whether two pipeline folders have the same component, so that it need be loaded once.

    Args:
        one: a pipeline folder.
        other: another.
        component: its name.
        hashed: hashes a file's content.
    """
    try:
        weights = [weight_files(folder / component, weights_stem(component)).files for folder in (one, other)]
        configs = [read_json(folder / component / CONFIG) for folder in (one, other)]
    except ModelError:
        return False
    # Where a configuration came from, and which versions wrote it, changes nothing.
    settings = [{k: v for k, v in config.items() if k[:1] != "_" and k != "transformers_version"} for config in configs]
    names = [[file.name for file in files] for files in weights]
    return (
        settings[0] == settings[1]
        and names[0] == names[1]
        and all(hashed(file) == hashed(twin) for file, twin in zip(*weights, strict=True))
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: it cannot be read, or is something else.
    """
    try:
        data = untrusted.read_json(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise ModelError(f"{path.name} is no JSON object")
    return data
