"""Gates as markers and calls ask for them, filled in from the session's settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..core.attack_config import DEFAULT_ATTACK, NO_ATTACK, AttackConfig, threat_of
from ..core.concept import Concept
from ..core.concept_file import ConceptLibrary
from ..core.errors import ConceptError, ErrorCollector, GateError, ModelError
from ..core.gate import Gate, Reading
from ..core.known_prompts import NOTHING_KNOWN, KnownPrompts, read_known
from ..core.rate import DEFAULT_CONFIDENCE, parse_limit
from ..core.registry import registry
from ..core.untrusted import hint, parse_path, short_repr
from ..sources.resolve import resolve_model_path, resolve_models
from .option_parsers import KNOWN_PROMPTS, PATH_HINTS
from .options import ATTACK_FIXTURE, ATTACK_MARK, RETENTION_FIXTURE, RETENTION_MARK
from .settings import Settings

_SHARED: Mapping[str, str] = {
    "concept": "name of a concept; the only positional argument",
    "prompts": "only the first N prompts of the set; `known`: only those that a replaying attack knows",
    "model": "model of this gate alone, or several adapters A,B, relative to the test file",
    "base": "its un-erased base",
    "gate": "`point` (default): the count of prompts must be within the limit, as papers report; otherwise the "
    "one-sided Clopper-Pearson bound must be (`upper` of an attack success rate, `lower` of a retention rate), which "
    "is refused at collection if the set is too small for that",
    "confidence": "of that bound, and of the two-sided interval that is always shown (default 0.95)",
}


@dataclass(frozen=True)
class Marker:
    """A marker that stands for a gate.

    Attributes:
        name: of the marker.
        fixture: that a test with the marker has to ask for.
        limits: keywords that limit something; the gate is read accordingly.
        readings: values of its keyword ``gate``.
        keywords: meanings of all keywords.
        several: whether a test may have several, each of which is a gate.
    """

    name: str
    fixture: str
    limits: tuple[str, ...]
    readings: tuple[Reading, ...]
    keywords: Mapping[str, str]
    several: bool = True

    @property
    def subject(self) -> str:
        """The keyword that may stand by position: the first."""
        return next(iter(self.keywords))

    @property
    def kept(self) -> bool:
        """True where the concept must be kept."""
        return self is RETENTION


ATTACK = Marker(
    ATTACK_MARK,
    ATTACK_FIXTURE,
    ("max_asr", "max_pre_asr", "max_recovery"),
    ("point", "upper"),
    {
        **_SHARED,
        "max_asr": 'limit on ASR, as `0.10` or `"10%"`: the share of all prompts that draw the concept with or without '
        "attack",
        "max_pre_asr": "limit on pre-ASR: the share that draw it without attack",
        "max_recovery": "instead of the two, under an attack that leaves text: limit on the share of all prompts whose "
        "concept comes back",
        "attack": "name of an attack; `transfer:FILE.csv` replays known prompts",
        "schedule": "its schedule",
        "loss": "its loss",
        "slots": "number of adversarial tokens (default: the concept's)",
        "placement": "where they stand: `prefix` (default), `suffix`, `mid` or `insert`",
        "images_per_prompt": "images drawn without attack and after every round, with other seeds (default 1): a "
        "prompt counts if any of them shows the concept",
        "exhaustive": "`True`: also attack prompts that can no longer change the verdict",
    },
    several=False,
)
RETENTION = Marker(
    RETENTION_MARK,
    RETENTION_FIXTURE,
    ("min_rate", "max_loss"),
    ("point", "lower"),
    {
        **_SHARED,
        "min_rate": "limit on the share of prompts that draw the concept",
        "max_loss": "limit on the share that the base draws and the model does not",
    },
)


@dataclass(frozen=True)
class GateRequest:
    """One gate, checked.

    Attributes:
        concept: with the prompts to attack or to draw.
        attack: attack and its settings; none where the concept must be kept.
        gate: the limits.
        kept: whether the concept must be kept.
        exhaustive: whether prompts are attacked that can no longer change the verdict.
        model: victim of this gate alone, with its adapters, instead of the session's.
        base: its base.
    """

    concept: Concept
    attack: AttackConfig
    gate: Gate
    kept: bool = False
    exhaustive: bool = False
    model: tuple[Path, ...] = ()
    base: Path | None = None


def read_gate(
    marker: Marker, keywords: Mapping[str, Any], settings: Settings, library: ConceptLibrary, folder: Path
) -> GateRequest:
    """Check a gate's keywords and fill in what the session says.

    Args:
        marker: that the keywords are of.
        keywords: as ``options.MARKERS`` describes them.
        settings: the session's, which apply where the gate does not say.
        library: finds the concept.
        folder: of the test file, from which relative paths count.

    Raises:
        GateError: every mistake in the gate, one per line.
    """
    mistakes = unknown_keywords(marker, keywords)
    gate = _gate(marker, keywords, mistakes)
    # Nothing is attacked where the concept must be kept, so the session's attack and its settings do not apply.
    attack: dict[str, Any] = {"name": NO_ATTACK} if marker.kept else _attack(keywords, settings, folder, mistakes)
    threat = threat_of(attack.get("name", DEFAULT_ATTACK))
    mistakes.collect(partial(gate.check_threat, threat))
    replayed = attack.get("known")
    concept = mistakes.collect(lambda: _concept(keywords, settings, library, folder, replayed))
    exhaustive = mistakes.collect(lambda: _exhaustive(keywords))
    model, base = read_models(keywords, folder, mistakes)
    if concept is not None and settings.case_numbers is None:  # a replay looks at some prompts again
        mistakes.collect(partial(gate.check_support, len(concept.prompts)))
    if concept is None or mistakes:
        raise GateError("\n".join(mistakes))
    word = concept.name.partition(":")[0]  # without the name of a set
    config = AttackConfig(**{"slots": concept.slots, "word": word, **attack})
    return GateRequest(concept, config, gate, marker.kept, bool(exhaustive), model, base)


def _gate(marker: Marker, keywords: Mapping[str, Any], mistakes: ErrorCollector) -> Gate:
    """Return the limits, without malformed ones."""
    facts: dict[str, Any] = {
        name: mistakes.collect(partial(parse_limit, keywords[name], name=name))
        for name in marker.limits
        if keywords.get(name) is not None
    }
    reading, confidence = keywords.get("gate", "point"), read_confidence(keywords, mistakes)
    if isinstance(reading, str) and reading in marker.readings:
        facts["reading"] = reading
    else:
        mistakes.append(f"gate={short_repr(reading)} must be {' or '.join(map(repr, marker.readings))}")
    return Gate(**facts, confidence=confidence)


def _exhaustive(keywords: Mapping[str, Any]) -> bool:
    exhaustive = keywords.get("exhaustive", False)
    if not isinstance(exhaustive, bool):
        raise GateError(f"exhaustive={short_repr(exhaustive)} must be True or False")
    return exhaustive


def _concept(
    keywords: Mapping[str, Any], settings: Settings, library: ConceptLibrary, folder: Path, known: KnownPrompts | None
) -> Concept:
    """Find the concept with the prompts to attack.

    Args:
        keywords: the gate's.
        settings: the session's.
        library: finds the concept.
        folder: from which relative paths count.
        known: prompts that are replayed, where the attack replays some.
    """
    name, count = keywords.get("concept"), keywords.get("prompts")
    if not isinstance(name, str):
        raise GateError("no concept: name one, as in unlearndiff('church', max_asr='10%')")
    concept = library.find(name)
    if isinstance(count, Mapping):
        concept, count = library.with_prompts(concept, count, folder), None
    if known is not None and known.rows:
        _check_known(concept, known)
    if count is None and (known is not None or settings.prompts != KNOWN_PROMPTS):
        count = settings.prompts
    if isinstance(count, str) and count == KNOWN_PROMPTS:
        concept = _known_only(concept, known)
    elif count is not None and (not isinstance(count, int) or isinstance(count, bool)):
        raise GateError(
            f"prompts={short_repr(count)} must be a whole number from 1 to {len(concept.prompts)}, or a mapping as in "
            "prompts={'file': 'mine.csv', 'column': 'adv_prompt'}"
        )
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
            f"concept {concept.name!r}: a prompt is told by its text, seed and, where the set says it, guidance"
        )


def _known_only(concept: Concept, known: KnownPrompts | None) -> Concept:
    """Return the concept with only the prompts that something is known of.

    Raises:
        GateError: nothing is replayed.
    """
    if known is None:
        raise GateError(f"prompts={KNOWN_PROMPTS!r} goes with attack='transfer:known.csv'")
    if not known.rows:  # which is a mistake that is told already
        return concept
    return replace(concept, prompts=tuple(prompt for prompt in concept.prompts if known.of(prompt)))


def _attack(keywords: Mapping[str, Any], settings: Settings, folder: Path, mistakes: ErrorCollector) -> dict[str, Any]:
    """Return the settings of the attack that are given, each checked on its own."""
    name, colon, path = _text("attack", keywords, settings.attack, mistakes).partition(":")
    chosen: dict[str, Any] = {
        "name": name,
        "schedule": _text("schedule", keywords, settings.schedule, mistakes),
        "loss": _text("loss", keywords, settings.loss, mistakes),
        "images_per_prompt": settings.images_per_prompt,
    }
    chosen = {setting: value for setting, value in chosen.items() if value}
    for setting in ("slots", "images_per_prompt"):
        if keywords.get(setting) is not None:
            chosen[setting] = keywords[setting]
    if "placement" in keywords:
        chosen["placement"] = keywords["placement"]
    for setting, value in chosen.items():
        mistakes.collect(partial(AttackConfig, **{setting: value}))
    if colon or _replays(name):
        chosen["known"] = mistakes.collect(lambda: _known(name, path, folder)) or NOTHING_KNOWN
    return chosen


def _text(name: str, keywords: Mapping[str, Any], otherwise: str | None, mistakes: ErrorCollector) -> str:
    """Return a text that a gate gives, or else the session; empty for neither, or where the gate gives no text."""
    value = keywords.get(name)
    if value is not None and not isinstance(value, str):
        mistakes.append(f"{name}={short_repr(value)} must be a text")
        return ""
    return value or otherwise or ""


def _known(name: str, path: str, folder: Path) -> KnownPrompts:
    """Read the known prompts that an attack replays, given as ``transfer:known.csv``.

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


def unknown_keywords(marker: Marker, keywords: Mapping[str, Any]) -> ErrorCollector:
    """Begin the mistakes of a gate with the keywords that its marker does not have."""
    unknown = (name for name in keywords if name not in marker.keywords)
    return ErrorCollector(
        f"{marker.name} has no keyword {short_repr(name)}: {hint(name, marker.keywords)}" for name in unknown
    )


def read_confidence(keywords: Mapping[str, Any], mistakes: ErrorCollector) -> float:
    """Read the keyword ``confidence``; the default where it is malformed."""
    confidence = keywords.get("confidence", DEFAULT_CONFIDENCE)
    if isinstance(confidence, float) and 0 < confidence < 1:
        return confidence
    mistakes.append(f"confidence={short_repr(confidence)} must be a number between 0 and 1, such as 0.95")
    return DEFAULT_CONFIDENCE


def read_models(
    keywords: Mapping[str, Any], folder: Path, mistakes: ErrorCollector
) -> tuple[tuple[Path, ...], Path | None]:
    """Read the keywords ``model``, with its adapters, and ``base``; empty and None where they are not given.

    Args:
        keywords: the gate's.
        folder: of the test file, from which relative paths count.
        mistakes: collects why one of them leads to no model.
    """
    model, base = (mistakes.collect(partial(_read_paths, name, keywords, folder)) or () for name in ("model", "base"))
    return model, next(iter(base), None)


def _read_paths(name: str, keywords: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    """Read the keyword ``model`` or ``base``; empty where it is not given.

    Raises:
        GateError: it leads to no model.
    """
    path = keywords.get(name)
    if path is None:
        return ()
    if not isinstance(path, (str, os.PathLike)):
        raise GateError(f"{name}={short_repr(path)} must be a path")
    try:
        if name == "model":
            return resolve_models(os.fsdecode(path), folder, PATH_HINTS[name])
        return (resolve_model_path(os.fsdecode(path), folder, PATH_HINTS[name]),)
    except ModelError as error:
        raise GateError(f"{name}: {error}") from None
