"""Checks of collected gates before anything is loaded: of their markers, and of what files tell of the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..core.attack_config import AttackConfig
from ..core.errors import UnlearnDiffError
from ..sources.base_guess import INDEX, file_kind, holds_model, no_checkpoint, text_positions
from ..sources.import_string import is_import_string
from .markers import MARKERS, GateRequest, request_of
from .model_under_test import is_overridden
from .session import SessionState


def _problems_of_files(request: GateRequest, item: pytest.Item, state: SessionState) -> Iterator[str]:
    """Yield why a collected gate cannot be run on its model; nothing where only loading it can tell."""
    if request.model is None and is_overridden(item.session, item):
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


def check_gates(item: pytest.Item, state: SessionState) -> Iterator[str]:
    """Yield the problems of a collected test's markers."""
    for marker in MARKERS.values():
        marks = [*item.iter_markers(marker.name)][::-1]
        # A class's or a module's is overridden on purpose; of two on one test, one would be lost without a word.
        stacked = sum(own.name == marker.name for own in item.own_markers)
        if stacked > 1 and not marker.kept:
            yield (
                f"{item.nodeid}: has {stacked} {marker.name} markers, of which only one would count: write a test for "
                f"each gate, or call {marker.fixture}() for each"
            )
            continue
        problems: list[str] = []
        for mark in marks if marker.kept else marks[-1:]:
            try:
                request = request_of(mark, item, state.settings, state.library(item.path.parent))
                problems += _problems_of_files(request, item, state)
            except UnlearnDiffError as error:
                problems += str(error).split("\n")
        if marks and marker.fixture not in getattr(item, "fixturenames", ()) and (marker.kept or not problems):
            problems.append(f"has an {marker.name} marker but never asks for the {marker.fixture} fixture")
        yield from (f"{item.nodeid}: {problem}" for problem in problems)
