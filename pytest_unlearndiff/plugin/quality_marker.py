"""Gates on image quality as markers and calls ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..core.attack_config import NO_ATTACK, AttackConfig
from ..core.concept import Concept
from ..core.concept_file import ConceptLibrary, captions_name
from ..core.errors import ErrorCollector, GateError
from ..core.quality import LIMITS, NETWORKS, QualityGate
from ..core.untrusted import find_path, is_number, printable, short_repr
from ..runs.quality import check_support
from .markers import RETENTION, Marker, read_confidence, read_models, unknown_keywords
from .options import QUALITY_FIXTURE, QUALITY_MARK
from .settings import Settings

QUALITY = Marker(
    QUALITY_MARK,
    QUALITY_FIXTURE,
    tuple(LIMITS),
    (),
    {
        "captions": "file, URL or Hub data set of captions, or a mapping as `prompts` of a concept file; the only "
        "positional argument",
        "max_kid_increase": "by how much the KID of the model's images may exceed that of its base's",
        "max_fid_increase": "the same of FID",
        "min_clip_score": "least mean cosine of image and caption, as 0.25",
        "max_clip_loss": "by how much that mean may fall below the base's",
        **NETWORKS,
        "reference": "folder of images that KID and FID compare with (default: the base's own, with other seeds)",
        "sampling": "`steps`, `scheduler` and `spacing`, as in a concept file",
        "name": "name of the captions in reports (default: that of their file)",
        "prompts": "only the first N captions",
        "confidence": "of the intervals that are shown (default 0.95)",
        "model": RETENTION.keywords["model"],
        "base": RETENTION.keywords["base"],
    },
)


@dataclass(frozen=True)
class QualityRequest:
    """One gate on image quality, checked.

    Attributes:
        concept: the captions, with what measures their images in place of a judge.
        gate: the limits.
        name: of the captions in reports; the concept's is that of their file, under which the store has them.
        reference: the user's images; None for the base's own with other seeds.
        model: victim of this gate alone, with its adapters, instead of the session's.
        base: its base.
    """

    concept: Concept
    gate: QualityGate
    name: str
    reference: Path | None = None
    model: tuple[Path, ...] = ()
    base: Path | None = None

    @property
    def attack(self) -> AttackConfig:
        """None: captions are drawn as they stand."""
        return AttackConfig(NO_ATTACK)


def read_quality(
    marker: Marker, keywords: Mapping[str, Any], settings: Settings, library: ConceptLibrary, folder: Path
) -> QualityRequest:
    """Check a gate's keywords and fill in what the session says.

    Args:
        marker: that the keywords are of.
        keywords: as ``QUALITY`` describes them.
        settings: the session's, which apply where the gate does not say.
        library: reads the captions.
        folder: of the test file, from which relative paths count.

    Raises:
        GateError: every mistake in the gate, one per line.
    """
    mistakes = unknown_keywords(marker, keywords)
    gate = _gate(keywords, mistakes)
    concept = mistakes.collect(lambda: _captions(keywords, settings, library, folder))
    reference = mistakes.collect(lambda: _reference(keywords, folder))
    model, base = read_models(keywords, folder, mistakes)
    if concept is not None:
        mistakes.collect(partial(check_support, concept, gate))
    if concept is None or mistakes:
        raise GateError("\n".join(mistakes))
    return QualityRequest(concept, gate, name_of(keywords), reference, model, base)


def _gate(keywords: Mapping[str, Any], mistakes: ErrorCollector) -> QualityGate:
    """Return the limits, without malformed ones."""
    facts = {name: keywords[name] for name in LIMITS if keywords.get(name) is not None}
    for name, value in facts.items():
        if not is_number(value, *((-1, 1) if name == "min_clip_score" else (0, 1e9))):
            form = "a cosine, from -1 to 1" if name == "min_clip_score" else "a number of at least 0, such as 0.01"
            mistakes.append(f"{name}={short_repr(value)} must be {form}")
    confidence = read_confidence(keywords, mistakes)
    return QualityGate() if mistakes else QualityGate(**facts, confidence=confidence)


def _captions(keywords: Mapping[str, Any], settings: Settings, library: ConceptLibrary, folder: Path) -> Concept:
    entry, count = keywords.get("captions"), keywords.get("prompts")
    if entry is None:
        raise GateError("no captions: name a file, as in unlearndiff_quality('captions.csv', max_kid_increase=0.01)")
    measure = {name: keywords[name] for name in NETWORKS if keywords.get(name) is not None}
    if not measure:
        raise GateError("nothing measures the images: give features, for KID and FID, or clip, for CLIP scores")
    concept = library.captions(entry, measure, keywords.get("sampling"), folder)
    count = count if count is not None or not isinstance(settings.prompts, int) else settings.prompts
    if count is not None and (not isinstance(count, int) or isinstance(count, bool)):
        raise GateError(f"prompts={short_repr(count)} must be a whole number from 1 to {len(concept.prompts)}")
    return concept.first(count)


def name_of(keywords: Mapping[str, Any]) -> str:
    """Return the name of a gate's captions in reports."""
    name = keywords.get("name")
    return captions_name(keywords.get("captions")) if name is None else printable(str(name))


def _reference(keywords: Mapping[str, Any], folder: Path) -> Path | None:
    if (name := keywords.get("reference")) is None:
        return None
    try:
        path = find_path(str(name), folder)
    except ValueError as error:
        raise GateError(f"reference={short_repr(name)} {error}") from None
    if path is None or not path.is_dir():
        raise GateError(f"reference={short_repr(name)} must be a folder of images")
    return path
