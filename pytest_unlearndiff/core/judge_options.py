"""The kinds of judges: their options, and which files decide what they say. Known without loading any of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .checks import hint, is_count, is_number
from .concept import JudgeConfig
from .errors import JudgeError
from .registry import plugged
from .untrusted import MOST_COUNT, MOST_SEED, is_whole, path_from, read_json, shown, special_file, whole_form

Check = Callable[[Any], str]
"""What a value must be; empty where it is."""

Problem = tuple[tuple[str | int, ...], str]
"""Where in a judge's mapping something is wrong, and what."""

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
"""What both detectors tell apart, in the order of their outputs."""

_STRICT = ("FEMALE_BREAST_EXPOSED", "FEMALE_GENITALIA_EXPOSED", "MALE_GENITALIA_EXPOSED", "ANUS_EXPOSED")
NUDENET_CLASSES: Mapping[str, tuple[str, ...]] = {
    # The nine that published numbers count; feet, belly and armpits among them.
    "paper": (*_STRICT, "MALE_BREAST_EXPOSED", "BUTTOCKS_EXPOSED", "FEET_EXPOSED", "BELLY_EXPOSED", "ARMPITS_EXPOSED"),
    "strict": _STRICT,
}


def _text(value: Any) -> str:
    return "" if isinstance(value, str) and value.strip() else "must be a text"


def _texts(value: Any) -> str:
    good = isinstance(value, list) and value and not any(_text(each) for each in value)
    return "" if good else "must be a list of texts"


def _share(value: Any) -> str:
    return "" if is_number(value, 0, 1) else "must be a number from 0 to 1"


def _cosine(value: Any) -> str:
    return "" if is_number(value, -2, 2) else "must be a difference of cosines, from -2 to 2"


def _count(value: Any) -> str:
    return "" if is_count(value) else f"must be {whole_form(1, MOST_COUNT)}"


def _seed(value: Any) -> str:
    return "" if is_whole(value, 0, MOST_SEED) else f"must be {whole_form(0, MOST_SEED)}"


def _label(value: Any) -> str:
    good = not isinstance(value, bool) and isinstance(value, (str, int)) and value != ""
    return "" if good else "must be a label of the model, or its number"


def _template(value: Any) -> str:
    return "" if isinstance(value, str) and value.count("{}") == 1 else "must be a text with {} for the word in it"


def _mapping(value: Any) -> str:
    good = isinstance(value, dict) and all(isinstance(name, str) for name in value)
    return "" if good else "must be a mapping"


def _classes(value: Any) -> str:
    if isinstance(value, str):
        known = value in NUDENET_CLASSES
        return "" if known else f"must be a list of classes, or paper or strict: found {shown(value)}"
    if problem := _texts(value):
        return problem
    wrong = next((name for name in value if name not in NUDENET_LABELS), None)
    return "" if wrong is None else f"names {shown(wrong)}: {hint(wrong, NUDENET_LABELS)}"


def _stages(value: Any) -> str:
    """Pairs of (noise samples in all, prompts kept), the first rising and the second falling to 1."""
    pairs = (
        isinstance(value, list)
        and value
        and all(isinstance(s, list) and [is_count(n, _MOST_SAMPLES) for n in s] == [True] * 2 for s in value)
    )
    if pairs:
        samples, kept = zip(*value, strict=True)
        if list(samples) == sorted(set(samples)) and list(kept) == sorted(set(kept), reverse=True) and kept[-1] == 1:
            return ""
    return (
        "must be pairs of samples (rising) and prompts kept (falling to 1), such as [[4, 3], [16, 1]], with at most "
        f"{_MOST_SAMPLES:,} samples"
    )


_MOST_SAMPLES = 10_000
"""Noise samples, which are all in memory at once."""


def _function(value: Any) -> str:
    return "" if isinstance(value, str) and re.fullmatch(r"[\w.]+:\w+", value) else "must be package.module:function"


def _judges(value: Any) -> str:
    good = isinstance(value, list) and value and all(isinstance(judge, dict) for judge in value)
    return "" if good else "must be a list of judges"


@dataclass(frozen=True)
class Kind:
    """One kind of judge.

    Attributes:
        required: options it must be given, each with what its value must be.
        optional: options it may be given.
        weights: options that name a file or folder, whose content decides what the judge says; of some of them, a Hub
            id may stand in the place.
        shipped: hash of the weights that come with a package, which decide where no file is given.
        base: whether the un-erased model stands in for a ``model`` that is not given.
    """

    required: Mapping[str, Check] = field(default_factory=dict)
    optional: Mapping[str, Check] = field(default_factory=dict)
    weights: tuple[str, ...] = ()
    shipped: str = ""
    base: bool = False

    @property
    def options(self) -> Mapping[str, Check]:
        """All options it knows."""
        return {**self.required, **self.optional}


KINDS: Mapping[str, Kind] = {
    "image-classifier": Kind({"model": _text, "label": _label}, {"top": _count, "threshold": _share}, ("model",)),
    "nudenet": Kind(
        {}, {"classes": _classes, "threshold": _share, "detector": _text}, ("detector",), shipped=NUDENET_SHA256
    ),
    "clip-zero-shot": Kind({"model": _text, "concept": _text, "neutral": _texts}, {"margin": _cosine}, ("model",)),
    "q16": Kind({"model": _text, "prompts": _text}, {"threshold": _share}, ("model", "prompts")),
    "diffusion-classifier": Kind(
        {"concept": _text, "alternatives": _texts},
        {"model": _text, "template": _template, "stages": _stages, "seed": _seed},
        ("model",),
        base=True,
    ),
    "vlm": Kind({"model": _text, "question": _text}, {"threshold": _share, "yes": _text, "no": _text}, ("model",)),
    "any-of": Kind({"judges": _judges}),
    "all-of": Kind({"judges": _judges}),
    "function": Kind({"call": _function}, {"options": _mapping}),
}
_COMBINED = [name for name, kind in KINDS.items() if "judges" in kind.required]


def _is_a(kind: type) -> Check:
    """What a plugin says of an option: its type."""
    called = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
    accepted = (int, float) if kind is float else kind

    def check(value: Any) -> str:
        good = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
        return "" if good else f"must be {called.get(kind, 'a mapping')}"

    return check


def kinds() -> dict[str, Kind]:
    """Every kind of judge, those that plugins add among them."""
    added = {
        name: Kind(
            {option: _is_a(kind) for option, kind in judge.required.items()},
            {option: _is_a(kind) for option, kind in judge.optional.items()},
            judge.weights,
        )
        for name, judge in plugged().judges.items()
    }
    return {**KINDS, **added}


def key_kind(spec: JudgeConfig) -> str:
    """What kind of judge counts: with the version of one that a plugin adds."""
    judge = plugged().judges.get(spec.kind)
    return spec.kind if judge is None else f"{judge.name}@{judge.version}"


def parts_of(spec: JudgeConfig) -> tuple[JudgeConfig, ...]:
    """The judges that this one combines; none where it judges itself."""
    if spec.kind not in _COMBINED:
        return ()
    return tuple(
        JudgeConfig(str(data["kind"]), {name: value for name, value in data.items() if name != "kind"})
        for data in spec.options["judges"]
    )


def with_parts(spec: JudgeConfig, parts: tuple[JudgeConfig, ...]) -> JudgeConfig:
    """The same judge with other judges in it."""
    return JudgeConfig(spec.kind, {**spec.options, "judges": [{"kind": part.kind, **part.options} for part in parts]})


def key_options(spec: JudgeConfig) -> dict[str, Any]:
    """The options that count as they are written: all but the names of files, whose content counts instead."""
    if parts := parts_of(spec):
        return {"judges": [{"kind": key_kind(part), **key_options(part)} for part in parts]}
    return {name: value for name, value in spec.options.items() if name not in kinds()[spec.kind].weights}


def weights_of(spec: JudgeConfig) -> tuple[str, ...]:
    """What the judge's options name as its weights: files, folders or Hub ids."""
    if parts := parts_of(spec):
        return tuple(name for part in parts for name in weights_of(part))
    return tuple(str(spec.options[name]) for name in kinds()[spec.kind].weights if name in spec.options)


def with_weights(spec: JudgeConfig, moved: Mapping[str, str]) -> JudgeConfig:
    """The same judge, with weights that lie elsewhere.

    Args:
        spec: the judge.
        moved: from what an option says to what it shall say.
    """
    if parts := parts_of(spec):
        return with_parts(spec, tuple(with_weights(part, moved) for part in parts))
    weights = kinds()[spec.kind].weights
    options = {name: moved.get(str(value), value) if name in weights else value for name, value in spec.options.items()}
    return JudgeConfig(spec.kind, options)


def on_base(spec: JudgeConfig, base: Path | None) -> JudgeConfig:
    """The judge with the un-erased model in place where it judges with that.

    Raises:
        JudgeError: it does, and there is none.
    """
    if parts := parts_of(spec):
        return with_parts(spec, tuple(on_base(part, base) for part in parts))
    if not kinds()[spec.kind].base or "model" in spec.options:
        return spec
    if base is None:
        raise JudgeError(
            f"judge {spec.kind} judges with the un-erased model: give it with --unlearndiff-base, or as the judge's "
            "model"
        )
    return JudgeConfig(spec.kind, {"model": str(base), **spec.options})


def problems(kind: object, options: Mapping[str, Any]) -> Iterator[Problem]:
    """Everything wrong with a judge that can be told without loading it; the files it names are looked at."""
    if not isinstance(kind, str) or kind not in kinds():
        yield ("kind",), f"no judge {shown(kind)}: {hint(str(kind), kinds())}"
        return
    known = kinds()[kind]
    for name in options:
        if name not in known.options:
            yield (name,), f"judge {kind} has no option {shown(name)}: {hint(str(name), known.options)}"
    for name in known.required:
        if name not in options:
            yield (), f"judge {kind} needs {name}; it takes {', '.join(known.options)}"
    right = [name for name in options if name in known.options]
    for name in right:
        if problem := known.options[name](options[name]):
            yield (name,), f"{name} {problem}"
        elif name in known.weights:
            if problem := _missing(options[name]):
                yield (name,), f"{name}: {problem}"
        elif kind in _COMBINED and name == "judges":
            for index, part in enumerate(options["judges"]):
                for where, problem in problems(part.get("kind"), {k: v for k, v in part.items() if k != "kind"}):
                    yield ("judges", index, *where), problem
    if kind == "image-classifier" and {"model", "label"} <= set(right):
        yield from _unknown_label(options["model"], options["label"])


def check(spec: JudgeConfig) -> None:
    """Refuse a judge that cannot be built.

    Raises:
        JudgeError: names what is wrong first.
    """
    for _, problem in problems(spec.kind, spec.options):
        raise JudgeError(problem)


def _missing(name: str) -> str:
    """Why a file or folder is none; empty where it is there, or where the name is that of a Hub repository."""
    try:
        path = path_from(name, Path())
    except ValueError as error:
        return f"{shown(name)} {error}"
    if special := special_file(path):
        return f"{path} is {special}, neither a file nor a folder"
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith(".") and not path.parent.is_dir()
    if path.exists() or hub:
        return ""
    above = path.parent
    near = (
        hint(path.name, [each.name for each in above.iterdir()]) if above.is_dir() else f"{above} is not there either"
    )
    return f"there is nothing at {path}: {near}"


def labels_of(model: str) -> list[str] | None:
    """The labels that a classifier's folder names in its config.json; None where it names none."""
    try:
        return [str(label) for label in read_json(Path(model) / "config.json")["id2label"].values()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _unknown_label(model: object, label: object) -> Iterator[Problem]:
    labels = labels_of(str(model))
    if labels is None or (isinstance(label, int) and 0 <= label < len(labels)) or label in labels:
        return
    yield ("label",), f"judge model {model} has no label {shown(label)}: {hint(str(label), labels)}"
