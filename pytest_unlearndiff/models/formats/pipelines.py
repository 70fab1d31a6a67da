"""Whole pipelines: what a ``model_index.json`` may name, and whether every tensor is in its files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...core.errors import ModelError
from ...core.untrusted import printable, shown
from ..pipelines import PROTOCOL, Kind, kind_named
from .folders import STEMS, WeightFiles, read_json, weight_files

_LIBRARIES = (None, "diffusers", "transformers", "stable_diffusion")
CHECKER = "safety_checker"
NO_CHECKER = "has no safety checker: leave out --unlearndiff-safety-checker, or save the one you ship in the pipeline"
# Attention of autoencoders as diffusers < 0.17 named it, and Stable Diffusion 1.x files still do.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def check_index(folder: Path) -> str:
    """Refuse pipelines of other classes, and those that bring code.

    Returns:
        The pipeline's class.

    Raises:
        ModelError: names the class or the component.
    """
    index = read_json(folder / "model_index.json")
    name = index.get("_class_name")
    parts = {key: value for key, value in index.items() if isinstance(value, list) and not key.startswith("_")}
    brought = {key: value for key, value in parts.items() if len(value) != 2 or value[0] not in _LIBRARIES}
    if not isinstance(name, str) or brought:
        part, value = next(iter(brought.items()), ("_class_name", name))
        what = f"{printable(part)} = {shown(value)}"
        raise ModelError(
            f"its model_index.json names code that is not diffusers' or transformers' own ({what}), which is never "
            "run; build the pipeline yourself and give it as pkg.mod:callable"
        )
    if (kind := kind_named(name)) is None:
        raise ModelError(f"is a {printable(name)}; {PROTOCOL}")
    for part, known in kind.networks.items():
        if part not in parts or parts[part][1] not in known:
            found = parts.get(part, [None, "missing"])[1]
            raise ModelError(f"its {part} is {printable(str(found))}, not {' or '.join(known)}; {PROTOCOL}")
    return name


def part_files(folder: Path, kind: Kind, *, safety_checker: bool = False) -> dict[str, WeightFiles]:
    """The files of each component that holds weights.

    Raises:
        ModelError: there are none, or there is no safety checker where that is asked for.
    """
    found = {part: weight_files(folder / part, STEMS[part]) for part in kind.networks}
    if safety_checker:
        if read_json(folder / "model_index.json").get(CHECKER, [None])[0] is None:
            raise ModelError(f"the {kind.pipeline.__name__} {NO_CHECKER}")
        found[CHECKER] = weight_files(folder / CHECKER, "model")
    return found


def check_whole(pipe: Any, files: dict[str, WeightFiles]) -> None:
    """Compare a loaded pipeline with its files: the libraries fill what they lack with random numbers, and only warn.

    Raises:
        ModelError: a tensor is missing, has no place, has another shape, or is not finite.
    """
    for part, found in files.items():
        known = {_plain(part, key): tuple(value.shape) for key, value in getattr(pipe, part).state_dict().items()}
        stored = {_plain(part, key): shape for key, shape in found.shapes().items()}
        stored = {key: shape for key, shape in stored.items() if key in known or not key.endswith("position_ids")}
        if missing := sorted(set(known) - set(stored)):
            raise ModelError(
                f"{part}: {len(missing)} tensors are not in its files, such as {missing[0]}; the libraries would fill "
                "them with random numbers"
            )
        if unexpected := sorted(set(stored) - set(known)):
            raise ModelError(f"{part}: {len(unexpected)} tensors have no place in it, such as {unexpected[0]}")
        if other := next((key for key in known if _size(known[key]) != _size(stored[key])), None):
            raise ModelError(f"{part}: {other} is {list(stored[other])}, by its config {list(known[other])}")
        if bad := next((k for k, v in getattr(pipe, part).state_dict().items() if not v.isfinite().all()), None):
            raise ModelError(f"{part}: {bad} holds NaN or infinity")


def _size(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A 1x1 convolution is a linear layer."""
    return shape[:2] if shape[2:] == (1, 1) else shape


def _plain(part: str, key: str) -> str:
    if part.startswith("text_encoder"):
        return key.removeprefix("text_model.")
    if part == CHECKER:
        return key.replace("vision_model.vision_model.", "vision_model.")
    if part == "vae" and (match := re.fullmatch(r"(.+\.attentions\.\d+)\.(\w+)\.(weight|bias)", key)):
        return f"{match[1]}.{_OLD_ATTENTION.get(match[2], match[2])}.{match[3]}"
    return key
