"""What a gate asks for: from the marker, from the call, and from the session's settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ..core.attack_spec import AttackSpec
from ..core.concept import Concept
from ..core.concept_file import ConceptLibrary
from ..core.errors import ConceptError, GateError
from ..core.gate import Gate
from ..core.rate import parse_limit
from .options import Settings

_KEYWORDS = (
    "concept",
    "max_asr",
    "max_pre_asr",
    "gate",
    "confidence",
    "prompts",
    "attack",
    "schedule",
    "slots",
    "placement",
    "model",
    "base",
)


@dataclass(frozen=True)
class GateRequest:
    """One gate, checked: what to attack, how, and within which limits.

    Attributes:
        concept: with the prompts to attack.
        attack: how.
        gate: the limits.
        model: victim of this gate alone, instead of the session's.
        base: its base.
    """

    concept: Concept
    attack: AttackSpec
    gate: Gate
    model: Path | None = None
    base: Path | None = None


def marker_keywords(mark: pytest.Mark) -> dict[str, Any]:
    """A marker's arguments by keyword.

    Raises:
        GateError: more than the concept is given by position.
    """
    if len(mark.args) > 1:
        raise GateError(f"unlearndiff takes the concept by position, the rest by keyword; found {mark.args!r}")
    return {**({"concept": mark.args[0]} if mark.args else {}), **mark.kwargs}


def read_request(keywords: Mapping[str, Any], settings: Settings, library: ConceptLibrary, folder: Path) -> GateRequest:
    """Check a gate's keywords and fill in what the session says.

    Args:
        keywords: as options.MARKER names them.
        settings: prompts, cases, attack and schedule of the session apply where the gate does not say.
        library: finds the concept.
        folder: of the test file, from which relative paths count.

    Raises:
        GateError: every mistake in the gate, one a line.
        ConceptError: the concept cannot be found or read.
    """
    mistakes = list(_unknown(keywords))
    gate = _collect(mistakes, lambda: _gate(keywords), Gate())
    if not isinstance(keywords.get("concept"), str):
        mistakes.append("no concept: name one, as in unlearndiff('church', max_asr='10%')")
    paths = {name: _collect(mistakes, partial(_path, name, keywords, folder), None) for name in ("model", "base")}
    if mistakes:
        raise GateError("\n".join(mistakes))
    concept = library.find(keywords["concept"])
    concept = concept.first(keywords.get("prompts", settings.prompts))
    slots = keywords.get("slots") or concept.slots
    attack = AttackSpec(
        name=keywords.get("attack") or settings.attack or "unlearndiff",
        schedule=keywords.get("schedule") or settings.schedule or "fast",
        slots=slots,
        placement=keywords.get("placement", "prefix"),
    )
    if settings.cases is not None:
        concept = concept.cases(settings.cases)
    else:
        gate.check_support(len(concept.prompts))
    return GateRequest(concept, attack, gate, **paths)


def _collect(mistakes: list[str], make: Any, otherwise: Any) -> Any:
    """What ``make`` gives, or ``otherwise`` with its complaint noted."""
    try:
        return make()
    except GateError as error:
        mistakes.append(str(error))
        return otherwise


def _unknown(keywords: Mapping[str, Any]) -> Iterator[str]:
    for name in keywords:
        if name not in _KEYWORDS:
            near = difflib.get_close_matches(name, _KEYWORDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(_KEYWORDS)}"
            yield f"unlearndiff has no keyword {name!r}: {hint}"


def _gate(keywords: Mapping[str, Any]) -> Gate:
    reading, confidence = keywords.get("gate", "point"), keywords.get("confidence", 0.95)
    if reading not in ("point", "upper"):
        raise GateError(f"gate={reading!r} must be 'point' or 'upper'")
    if not isinstance(confidence, float) or not 0 < confidence < 1:
        raise GateError(f"confidence={confidence!r} must be a number between 0 and 1, such as 0.95")
    limits = {
        name: parse_limit(keywords[name], name=name)
        for name in ("max_asr", "max_pre_asr")
        if keywords.get(name) is not None
    }
    return Gate(**limits, reading=reading, confidence=confidence)


def _path(name: str, keywords: Mapping[str, Any], folder: Path) -> Path | None:
    if keywords.get(name) is None:
        return None
    path: Path = (folder / keywords[name]).resolve()
    if not path.exists():
        raise GateError(f"{name}: there is nothing at {path}")
    return path


def check_marker(item: pytest.Item, settings: Settings, library: ConceptLibrary) -> str | None:
    """What is wrong with a collected item's gate, or None."""
    mark = item.get_closest_marker("unlearndiff")
    if mark is None:
        return None
    try:
        read_request(marker_keywords(mark), settings, library, item.path.parent)
    except (GateError, ConceptError) as error:
        return f"{item.nodeid}: {error}"
    if "unlearndiff_attack" not in getattr(item, "fixturenames", ()):
        return f"{item.nodeid}: has an unlearndiff marker but never asks for the unlearndiff_attack fixture"
    return None
