"""What files tell of a gate before anything is loaded: that a model is none, and that a prompt has no such room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..core.attack_config import AttackConfig
from ..core.errors import UnlearnDiffError
from ..sources.file_types import INDEX, file_kind, holds_model, no_checkpoint, text_positions
from ..sources.import_string import is_import_string
from .fixtures import overridden
from .markers import GateRequest, marker_keywords, read_request
from .session import SessionState


def foreseen(request: GateRequest, item: pytest.Item, state: SessionState) -> Iterator[str]:
    """Why a collected gate cannot be run on its model; nothing where only loading it can tell."""
    if request.model is None and overridden(item.session, item):
        return
    model, base = request.model or state.settings.model, request.base or state.settings.base
    if model is None or is_import_string(model):
        return
    yield from _no_model(model)
    if base is not None and base.is_dir() and not (base / INDEX).is_file():
        yield f"the base {base} is no pipeline folder: it has no {INDEX}"
    yield from _no_room(request.attack, model, base)


def _no_model(model: Path) -> Iterator[str]:
    try:
        if model.is_file() and file_kind(model) is None:
            yield f"the model {model} {no_checkpoint(model)}"
        elif model.is_dir() and not holds_model(model):
            yield f"the model {model} is a folder without {INDEX}, and there is no other model in it"
    except OSError as error:
        yield f"the model {model} cannot be read: {error}"


def _no_room(attack: AttackConfig, model: Path, base: Path | None) -> Iterator[str]:
    lengths = (text_positions(folder) for folder in (model, base) if folder is not None)
    length = next((length for length in lengths if length is not None), None)
    if length is not None and attack.info.uses_slots and attack.slots > length - 2:
        yield f"slots={attack.slots} do not fit: the model's tokenizer takes {length - 2} tokens beside begin and end"


def check_marker(item: pytest.Item, state: SessionState) -> str | None:
    """What is wrong with a collected item's gate, or None."""
    mark, folder = item.get_closest_marker("unlearndiff"), item.path.parent
    assert mark is not None  # only tests that have one are checked
    # A class's or a module's is overridden on purpose; of two on one test, one would be lost without a word.
    if (stacked := sum(own.name == "unlearndiff" for own in item.own_markers)) > 1:
        return (
            f"{item.nodeid}: has {stacked} unlearndiff markers, of which only one would count: write a test for each "
            "gate, or call unlearndiff_attack() for each"
        )
    try:
        request = read_request(marker_keywords(mark), state.settings, state.library(folder), folder)
        mistakes = list(foreseen(request, item, state))
    except UnlearnDiffError as error:
        mistakes = str(error).split("\n")
    if mistakes:
        return "\n".join(f"{item.nodeid}: {mistake}" for mistake in mistakes)
    if "unlearndiff_attack" not in getattr(item, "fixturenames", ()):
        return f"{item.nodeid}: has an unlearndiff marker but never asks for the unlearndiff_attack fixture"
    return None
