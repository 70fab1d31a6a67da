"""Checks of the built-in judges' options, without loading any judge."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.info import Problem
from ..core.untrusted import (
    MOST_COUNT,
    MOST_SEED,
    hint,
    is_count,
    is_number,
    is_whole,
    read_json,
    short_repr,
    whole_form,
)

NUDENET_SHA256 = "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f"
"""The detector inside the nudenet 3.4.2 wheel (``320n.onnx``). The judge refuses any other, so the hash is its key."""

NUDENET_LABELS = (
    "FEMALE_GENITALIA_COVERED",
    "FACE_FEMALE",
    "BUTTOCKS_EXPOSED",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_BREAST_EXPOSED",
    "ANUS_EXPOSED",
    "FEET_EXPOSED",
    "BELLY_COVERED",
    "FEET_COVERED",
    "ARMPITS_COVERED",
    "ARMPITS_EXPOSED",
    "FACE_MALE",
    "BELLY_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "ANUS_COVERED",
    "FEMALE_BREAST_COVERED",
    "BUTTOCKS_COVERED",
)
"""Classes of both detectors, in the order of their outputs."""

_STRICT = ("FEMALE_BREAST_EXPOSED", "FEMALE_GENITALIA_EXPOSED", "MALE_GENITALIA_EXPOSED", "ANUS_EXPOSED")
NUDENET_CLASSES: Mapping[str, tuple[str, ...]] = {
    # The nine that published numbers count; feet, belly and armpits among them.
    "paper": (*_STRICT, "MALE_BREAST_EXPOSED", "BUTTOCKS_EXPOSED", "FEET_EXPOSED", "BELLY_EXPOSED", "ARMPITS_EXPOSED"),
    "strict": _STRICT,
}

_MAX_SAMPLES = 10_000
"""Noise samples of the diffusion classifier, which are all in memory at once."""


def text(value: Any) -> str | None:
    """Check for a text that is not blank."""
    return None if isinstance(value, str) and value.strip() else "must be a text"


def texts(value: Any) -> str | None:
    """Check for a list of texts, at least one."""
    good = isinstance(value, list) and value and not any(text(each) for each in value)
    return None if good else "must be a list of texts"


def probability(value: Any) -> str | None:
    """Check for a number in [0, 1]."""
    return None if is_number(value, 0, 1) else "must be a number from 0 to 1"


def cosine_difference(value: Any) -> str | None:
    """Check for a number in [-2, 2]."""
    return None if is_number(value, -2, 2) else "must be a difference of cosines, from -2 to 2"


def cosine(value: Any) -> str | None:
    """Check for a number in [-1, 1]."""
    return None if is_number(value, -1, 1) else "must be a cosine, from -1 to 1"


def count(value: Any) -> str | None:
    """Check for a whole number of at least 1."""
    return None if is_count(value) else f"must be {whole_form(1, MOST_COUNT)}"


def seed(value: Any) -> str | None:
    """Check for a generator's seed."""
    return None if is_whole(value, 0, MOST_SEED) else f"must be {whole_form(0, MOST_SEED)}"


def label(value: Any) -> str | None:
    """Check for a classifier's label, by name or number, or a list of labels."""
    labels = value if isinstance(value, list) else [value]
    good = labels and all(isinstance(each, (str, int)) and not isinstance(each, bool) and each != "" for each in labels)
    return None if good else "must be a label of the model, or its number, or a list of labels"


def template(value: Any) -> str | None:
    """Check for a text with one placeholder."""
    good = isinstance(value, str) and value.count("{}") == 1
    return None if good else "must be a text with {} for the word in it"


def mapping(value: Any) -> str | None:
    """Check for a mapping from names."""
    good = isinstance(value, dict) and all(isinstance(name, str) for name in value)
    return None if good else "must be a mapping"


def function(value: Any) -> str | None:
    """Check for ``module:function``."""
    good = isinstance(value, str) and re.fullmatch(r"[\w.]+:\w+", value)
    return None if good else "must be package.module:function"


def judges(value: Any) -> str | None:
    """Check for a list of judges, at least one."""
    good = isinstance(value, list) and value and all(isinstance(judge, dict) for judge in value)
    return None if good else "must be a list of judges"


def nudenet_classes(value: Any) -> str | None:
    """Check for the name of a set of NudeNet's classes, or a list of classes."""
    if isinstance(value, str):
        if value in NUDENET_CLASSES:
            return None
        return f"must be a list of classes, or {' or '.join(NUDENET_CLASSES)}: found {short_repr(value)}"
    if problem := texts(value):
        return problem
    wrong = next((name for name in value if name not in NUDENET_LABELS), None)
    return None if wrong is None else f"names {short_repr(wrong)}: {hint(wrong, NUDENET_LABELS)}"


def stages(value: Any) -> str | None:
    """Check for pairs of (noise samples in all, prompts kept), the first rising and the second falling to 1."""
    pairs = (
        isinstance(value, list)
        and value
        and all(isinstance(s, list) and [is_count(n, _MAX_SAMPLES) for n in s] == [True] * 2 for s in value)
    )
    if pairs:
        samples, kept = zip(*value, strict=True)
        if list(samples) == sorted(set(samples)) and list(kept) == sorted(set(kept), reverse=True) and kept[-1] == 1:
            return None
    return (
        "must be pairs of samples (rising) and prompts kept (falling to 1), such as [[4, 3], [16, 1]], with at most "
        f"{_MAX_SAMPLES:,} samples"
    )


def check_label(options: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem where a classifier's folder does not name a label."""
    model, wanted = options["model"], options["label"]
    if (labels := labels_of(str(model))) is None:
        return
    for label in wanted if isinstance(wanted, list) else [wanted]:
        if not (isinstance(label, int) and 0 <= label < len(labels)) and label not in labels:
            yield ("label",), f"judge model {model} has no label {short_repr(label)}: {hint(str(label), labels)}"


def labels_of(model: str) -> list[str] | None:
    """Return the labels that a classifier's folder names in its config.json; None where it names none."""
    try:
        return [str(name) for name in read_json(Path(model) / "config.json")["id2label"].values()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def feature_width(model: str) -> int | None:
    """Return the number of features that an image model's folder names in its config.json; None where it names none."""
    try:
        config = read_json(Path(model) / "config.json")
        config = config.get("vision_config", config)
        width = config["hidden_sizes"][-1] if "hidden_sizes" in config else config["hidden_size"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return width if is_count(width) else None
