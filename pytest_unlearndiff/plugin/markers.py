"""What a gate asks for: from the marker, from the call, and from the session's settings."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ..core.attack_config import AttackConfig
from ..core.concept import Concept
from ..core.concept_file import ConceptLibrary
from ..core.errors import ConceptError, ErrorCollector, GateError, ModelError
from ..core.gate import Gate
from ..core.known_prompts import NOTHING_KNOWN, KnownPrompts, read_known
from ..core.rate import parse_limit
from ..core.registry import registry
from ..core.untrusted import parse_path, short_repr
from ..sources.resolve import resolve_model_path
from .option_parsers import KNOWN_PROMPTS
from .option_paths import PATH_HINTS
from .settings import Settings

_KEYWORDS = (
    "concept",
    "max_asr",
    "max_pre_asr",
    "gate",
    "confidence",
    "prompts",
    "attack",
    "schedule",
    "loss",
    "slots",
    "placement",
    "exhaustive",
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
        exhaustive: whether prompts are attacked that can no longer change the verdict.
        model: victim of this gate alone, instead of the session's.
        base: its base.
    """

    concept: Concept
    attack: AttackConfig
    gate: Gate
    exhaustive: bool = False
    model: Path | None = None
    base: Path | None = None


def marker_keywords(mark: pytest.Mark) -> dict[str, Any]:
    """A marker's arguments by keyword.

    Raises:
        GateError: more than the concept is given by position.
    """
    if len(mark.args) > 1:
        raise GateError(
            f"unlearndiff takes the concept by position, the rest by keyword; found {short_repr(mark.args)}"
        )
    return {**({"concept": mark.args[0]} if mark.args else {}), **mark.kwargs}


def read_request(keywords: Mapping[str, Any], settings: Settings, library: ConceptLibrary, folder: Path) -> GateRequest:
    """Check a gate's keywords and fill in what the session says.

    Args:
        keywords: as options.MARKER names them.
        settings: prompts, cases, attack, schedule and loss of the session apply where the gate does not say.
        library: finds the concept.
        folder: of the test file, from which relative paths count.

    Raises:
        GateError: every mistake in the gate, one a line.
    """
    mistakes = ErrorCollector(_unknown(keywords))
    gate = _gate(keywords, mistakes)
    attack = _attack(keywords, settings, folder, mistakes)
    known = attack.get("known")
    concept = mistakes.collect(lambda: _concept(keywords, settings, library, known))
    exhaustive = mistakes.collect(lambda: _exhaustive(keywords))
    model = mistakes.collect(lambda: _path("model", keywords, folder))
    base = mistakes.collect(lambda: _path("base", keywords, folder))
    if concept is not None and settings.case_numbers is None:
        prompts = len(concept.prompts)
        mistakes.collect(lambda: gate.check_support(prompts))
    if concept is None or mistakes:
        raise GateError("\n".join(mistakes))
    spec = AttackConfig(**{"slots": concept.slots, "word": concept.name, **attack})
    return GateRequest(concept, spec, gate, exhaustive=bool(exhaustive), model=model, base=base)


def _unknown(keywords: Mapping[str, Any]) -> Iterator[str]:
    for name in keywords:
        if name not in _KEYWORDS:
            near = difflib.get_close_matches(name[:100], _KEYWORDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(_KEYWORDS)}"
            yield f"unlearndiff has no keyword {short_repr(name)}: {hint}"


def _gate(keywords: Mapping[str, Any], mistakes: ErrorCollector) -> Gate:
    """The limits, without those that cannot be meant."""
    makers: dict[str, Callable[[], Any]] = {
        "max_asr": lambda: _limit("max_asr", keywords),
        "max_pre_asr": lambda: _limit("max_pre_asr", keywords),
        "reading": lambda: _reading(keywords),
        "confidence": lambda: _confidence(keywords),
    }
    found = {name: mistakes.collect(make) for name, make in makers.items()}
    return Gate(**{name: value for name, value in found.items() if value is not None})


def _limit(name: str, keywords: Mapping[str, Any]) -> Fraction | None:
    value = keywords.get(name)
    return None if value is None else parse_limit(value, name=name)


def _reading(keywords: Mapping[str, Any]) -> str:
    reading = keywords.get("gate", "point")
    if not isinstance(reading, str) or reading not in ("point", "upper"):
        raise GateError(f"gate={short_repr(reading)} must be 'point' or 'upper'")
    return reading


def _confidence(keywords: Mapping[str, Any]) -> float:
    confidence = keywords.get("confidence", 0.95)
    if not isinstance(confidence, float) or not 0 < confidence < 1:
        raise GateError(f"confidence={short_repr(confidence)} must be a number between 0 and 1, such as 0.95")
    return confidence


def _exhaustive(keywords: Mapping[str, Any]) -> bool:
    exhaustive = keywords.get("exhaustive", False)
    if not isinstance(exhaustive, bool):
        raise GateError(f"exhaustive={short_repr(exhaustive)} must be True or False")
    return exhaustive


def _concept(
    keywords: Mapping[str, Any], settings: Settings, library: ConceptLibrary, known: KnownPrompts | None
) -> Concept:
    """The concept with the prompts to attack.

    Args:
        keywords: the gate's.
        settings: the session's.
        library: finds the concept.
        known: what is replayed, where the attack is ``transfer``.
    """
    name, count = keywords.get("concept"), keywords.get("prompts")
    if not isinstance(name, str):
        raise GateError("no concept: name one, as in unlearndiff('church', max_asr='10%')")
    concept = library.find(name)
    if known is not None and known.rows:
        _check_known(concept, known)
    if count is None and (known is not None or settings.prompts != KNOWN_PROMPTS):
        count = settings.prompts
    if isinstance(count, str) and count == KNOWN_PROMPTS:
        concept = _known_only(concept, known)
    elif count is not None and (not isinstance(count, int) or isinstance(count, bool)):
        raise GateError(f"prompts={short_repr(count)} must be a whole number from 1 to {len(concept.prompts)}")
    else:
        concept = concept.first(count)
    return concept if settings.case_numbers is None else concept.cases(settings.case_numbers)


def _check_known(concept: Concept, known: KnownPrompts) -> None:
    """Refuse a list that has nothing for a concept.

    Raises:
        GateError: not one of its adversarial prompts was found for a prompt of the set.
    """
    if not any(map(known.of, concept.prompts)):
        raise GateError(
            f"{known.source} has no adversarial prompt that was found for one of the {len(concept.prompts)} prompts of "
            f"concept {concept.name!r}: a prompt is told by its text, seed and guidance"
        )


def _known_only(concept: Concept, known: KnownPrompts | None) -> Concept:
    """The concept with only the prompts that something is known of.

    Raises:
        GateError: nothing is replayed.
    """
    if known is None:
        raise GateError(f"prompts={KNOWN_PROMPTS!r} goes with attack='transfer:known.csv'")
    if not known.rows:  # which is a mistake that is told already
        return concept
    return replace(concept, prompts=tuple(prompt for prompt in concept.prompts if known.of(prompt)))


def _attack(keywords: Mapping[str, Any], settings: Settings, folder: Path, mistakes: ErrorCollector) -> dict[str, Any]:
    """Settings of the attack that are given, each checked on its own."""
    name, colon, path = _text("attack", keywords, settings.attack, mistakes).partition(":")
    given: dict[str, Any] = {
        "name": name,
        "schedule": _text("schedule", keywords, settings.schedule, mistakes),
        "loss": _text("loss", keywords, settings.loss, mistakes),
    }
    given = {setting: value for setting, value in given.items() if value}
    if keywords.get("slots") is not None:
        given["slots"] = keywords["slots"]
    if "placement" in keywords:
        given["placement"] = keywords["placement"]
    for setting, value in given.items():
        mistakes.collect(partial(AttackConfig, **{setting: value}))
    if colon or _replays(name):
        given["known"] = mistakes.collect(lambda: _known(name, path, folder)) or NOTHING_KNOWN
    return given


def _text(name: str, keywords: Mapping[str, Any], otherwise: str | None, mistakes: ErrorCollector) -> str:
    """A text that a gate gives, or else the session; empty where neither does, or the gate gives something else."""
    value = keywords.get(name)
    if value is not None and not isinstance(value, str):
        mistakes.append(f"{name}={short_repr(value)} must be a text")
        return ""
    return value or otherwise or ""


def _known(name: str, path: str, folder: Path) -> KnownPrompts:
    """Known prompts that an attack replays, given as ``transfer:known.csv``.

    Raises:
        GateError: it is not of that form.
    """
    if not _replays(name):
        replaying = " or ".join(info.name for info in registry().attacks.values() if info.replays_known)
        raise GateError(f"attack={short_repr(f'{name}:{path}')}: only {replaying} takes a file")
    if not path:
        raise GateError(
            f"attack={name!r} replays known adversarial prompts, and none are given: name the CSV file that "
            f"python -m pytest_unlearndiff export writes, as in attack='{name}:known.csv'"
        )
    try:
        return read_known(parse_path(path, folder))
    except ConceptError:
        raise
    except ValueError as error:
        raise GateError(f"attack={short_repr(f'{name}:{path}')}: the path {error}") from None


def _replays(name: str) -> bool:
    info = registry().attacks.get(name)
    return info is not None and info.replays_known


def _path(name: str, keywords: Mapping[str, Any], folder: Path) -> Path | None:
    given = keywords.get(name)
    if given is None:
        return None
    if not isinstance(given, (str, os.PathLike)):
        raise GateError(f"{name}={short_repr(given)} must be a path")
    try:
        return resolve_model_path(os.fsdecode(given), folder, PATH_HINTS[name], allow_import_string=name == "model")
    except ModelError as error:
        raise GateError(f"{name}: {error}") from None
