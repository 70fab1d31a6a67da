"""Concept files: read concepts from YAML, and find them by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from .concept import SCHEDULERS, SPACINGS, Concept, JudgeConfig, Prompt, PromptSetFacts, Sampling
from .errors import ConceptError, ErrorCollector, redact_url
from .judge_options import MEASURE, problems
from .prompt_entry import PublishedSets, columns_of, find_published, read_prompt_source
from .prompt_sets import Fetch, no_fetch
from .registry import registry
from .target_image_files import read_targets
from .untrusted import (
    MOST_SLOTS,
    MOST_STEPS,
    hint,
    is_count,
    parse_path,
    printable,
    short_repr,
    whole_form,
)
from .yaml_file import Keywords, YamlFile, read_yaml

BUILT_IN = Path(__file__).resolve().parent.parent / "concepts"
_REQUIRED = ("prompts", "judge")
_OF_SETS = (*_REQUIRED, "sampling", "slots", "source", "targets")
_FIELDS = (*_OF_SETS, "name", "sets")
_SET = ":"
"""Separates a concept's name from that of one of its sets, as in ``church:near``."""


def without_set(name: str) -> str:
    """Return a concept's own name, as ``church`` of ``church:near``."""
    return name.partition(_SET)[0]


def read_concept(
    path: Path, published: PublishedSets = None, fetch: Fetch = no_fetch, *, set_name: str | None = None
) -> Concept:
    """Read one concept file.

    Args:
        path: a YAML file with ``name``, ``prompts`` (a file, a URL or a data set on the Hub; or a mapping with that as
            ``file``, its ``rows`` and ``sha256`` and the choice of columns; or a published set), ``judge`` (``kind``
            and its options), and optionally ``slots``, ``sampling`` (``steps``, ``scheduler``, ``spacing``),
            ``source``, ``targets`` (a folder of images by case number, or the ``column`` of the CSV file that names
            them and the ``folder`` they are in), and ``sets``: other prompts of the concept by name, such as
            ``near``, each with the fields in which it differs.
        published: the user's folder or URL of published prompt sets.
        fetch: reads a URL.
        set_name: name of one of its ``sets``, or of one of several columns; None for its own prompts.

    Raises:
        ConceptError: the file is not such a mapping, its prompt set cannot be read, or its judge cannot be built; every
            error, one per line.
    """
    file, errors = read_yaml(path), ErrorCollector()
    errors.collect(lambda: file.mapping(label="a concept", fields=_FIELDS, required=_REQUIRED))
    errors.collect(lambda: _check_sets(file))
    if not errors and set_name is not None:
        file = _choose_set(file, set_name)
    data = file.data if isinstance(file.data, dict) else {}
    slots = data.get("slots", 3)
    if not is_count(slots, MOST_SLOTS):
        errors.append(f"{file.at('slots')}: slots={short_repr(slots)} must be {whole_form(1, MOST_SLOTS)}")
    source = str(data.get("source") or "")
    prompts = errors.collect(lambda: _read_prompts(file, published, fetch, source)) if "prompts" in data else None
    judge = errors.collect(lambda: _read_judge(file, published)) if "judge" in data else None
    sampling = errors.collect(lambda: _read_sampling(file)) if data else None
    if errors or prompts is None or judge is None or sampling is None:
        raise ConceptError("\n".join(errors))
    name = printable(str(data.get("name") or path.name.removesuffix(".yaml")))
    if set_name is not None:
        name = f"{name}{_SET}{set_name}"
    return Concept(
        name,
        prompts.prompts,
        judge,
        slots=slots,
        sampling=sampling,
        own_sampling=tuple(data.get("sampling") or ()),
        images=prompts.images,
        prompt_set=prompts.facts,
    )


def set_names(path: Path) -> tuple[str, ...]:
    """Return the names of a concept's other sets of prompts, or of the columns that are sets.

    Raises:
        ConceptError: the file is none that names sets.
    """
    file = read_yaml(path)
    _check_sets(file)
    return _set_names(file)


def _set_names(file: YamlFile) -> tuple[str, ...]:
    data = file.data if isinstance(file.data, dict) else {}
    return (*data.get("sets", {}), *columns_of(data.get("prompts")))


def _check_sets(file: YamlFile) -> None:
    """Check the fields of a concept's other sets, not what they hold.

    Raises:
        ConceptError: one is no mapping, has other fields, or a name that no gate can say.
    """
    if not isinstance(file.data, dict) or "sets" not in file.data:
        return
    sets = file.data["sets"]
    if not isinstance(sets, dict) or not sets:
        raise ConceptError(
            f"{file.at('sets')}: sets must be a mapping from names to what differs, such as near: {{prompts: near.csv}}"
        )
    errors = ErrorCollector()
    for name in sets:
        if not isinstance(name, str) or not re.fullmatch(r"[\w -]+", name):
            errors.append(f"{file.at('sets', str(name))}: {short_repr(name)} must be letters, digits, - and _")
        else:
            errors.collect(partial(file.mapping, "sets", name, label=f"set {short_repr(name)}", fields=_OF_SETS))
    errors.raise_if_any(ConceptError)


def _choose_set(file: YamlFile, name: str) -> YamlFile:
    """Return the file with the fields of one of its sets instead of its own.

    Raises:
        ConceptError: it has no such set.
    """
    if name in file.data.get("sets", {}):
        of_prompts = ("source", "targets") if "prompts" in file.data["sets"][name] else ()
        return file.overlaid("sets", name, without=("sets", *of_prompts))
    if name in columns_of(prompts := file.data["prompts"]):
        return YamlFile(file.path, {**file.data, "prompts": {**prompts, "column": name}}, file.lines)
    names = _set_names(file)
    known = hint(name, names) if names else "it has none but its own prompts"
    raise ConceptError(f"{file.path}: the concept has no set {short_repr(name)}: {known}")


def _read_prompts(file: YamlFile, published: PublishedSets, fetch: Fetch, source: str) -> _Prompts:
    """Read the prompts of a concept file, and its target images."""
    targets = read_targets(file)
    entry = read_prompt_source(file, published)
    parsed = entry.read(fetch, targets.column if targets is not None else None)
    images = targets.match(parsed.pairs, entry.location) if targets is not None else {}
    facts = replace(parsed.facts, source=entry.origin or source)
    return _Prompts(tuple(prompt for prompt, _ in parsed.pairs), images, facts)


@dataclass(frozen=True)
class _Prompts:
    """Prompts of a concept file.

    Attributes:
        prompts: in the set's order.
        images: target images by prompt digest.
        facts: for reports.
    """

    prompts: tuple[Prompt, ...]
    images: Mapping[str, str]
    facts: PromptSetFacts


def _read_judge(file: YamlFile, published: PublishedSets) -> JudgeConfig:
    """Read the judge with absolute paths, checking everything that can be told without loading it."""
    data = file.data["judge"]
    if not isinstance(data, dict) or not isinstance(kind := data.get("kind"), str):
        raise ConceptError(f"{file.at('judge')}: judge must be a mapping with a kind, such as image-classifier")
    options = {
        name: str(_find_judge_file(file, str(name), published))
        if isinstance(value, dict) and "published" in value
        else value
        for name, value in data.items()
    }
    try:
        options = _with_absolute_paths(options, file.path.parent)
    except ValueError as error:
        raise ConceptError(f"{file.at('judge')}: {error}") from None
    if errors := [f"{file.at('judge', *place)}: {problem}" for place, problem in problems(kind, options)]:
        raise ConceptError("\n".join(errors))
    return JudgeConfig(kind, options)


def _find_judge_file(file: YamlFile, name: str, published: PublishedSets) -> Path | str:
    """Find a published file that an option of the judge names."""
    fields = ("published", "from")
    entry = file.mapping("judge", name, label="a published file", fields=fields, required=("from",))
    if isinstance(published, str):
        raise ConceptError(
            f"{file.at('judge', name)}: judges' files are read from a folder, and --unlearndiff-prompt-sets is the URL "
            f"{redact_url(published)}: download {entry['published']} ({entry['from']}), and give a folder that holds "
            "it and the prompts"
        )
    return find_published(file, entry, published)


def _with_absolute_paths(judge: Mapping[Any, Any], folder: Path) -> dict[str, Any]:
    """Return a judge's options with the files they name as absolute paths, relative ones seen from ``folder``.

    Raises:
        ValueError: no file can have such a name.
    """
    info = registry().judges.get(str(judge.get("kind")))
    options = {str(name): value for name, value in judge.items() if name != "kind"}
    for name in info.files if info is not None else ():
        if isinstance(options.get(name), str):
            try:
                options[name] = _absolute_path(folder, options[name])
            except ValueError as error:
                raise ValueError(f"{name}={short_repr(options[name])} {error}") from None
    if isinstance(options.get("judges"), list):
        options["judges"] = [
            {"kind": part.get("kind"), **_with_absolute_paths(part, folder)} if isinstance(part, dict) else part
            for part in options["judges"]
        ]
    return options


def _absolute_path(folder: Path, name: str) -> str:
    """Make a path absolute; a Hub id stays.

    Raises:
        ValueError: no file can have this name.
    """
    path = parse_path(name, folder)
    is_hub_id = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and not path.parent.is_dir()
    return str(path.resolve()) if path.exists() or not is_hub_id else name


def _read_sampling(file: YamlFile) -> Sampling:
    if "sampling" not in file.data:
        return Sampling()
    errors = ErrorCollector()
    errors.collect(lambda: file.mapping("sampling", label="sampling", fields=("steps", "scheduler", "spacing")))
    data = file.data["sampling"] if isinstance(file.data["sampling"], dict) else {}
    steps, scheduler, spacing = data.get("steps", 50), data.get("scheduler", "lms"), data.get("spacing", "")
    if not is_count(steps, MOST_STEPS):
        errors.append(f"{file.at('sampling', 'steps')}: steps={short_repr(steps)} must be {whole_form(1, MOST_STEPS)}")
    if scheduler not in SCHEDULERS:
        errors.append(f"{file.at('sampling', 'scheduler')}: scheduler={short_repr(scheduler)} must be lms or own")
    at_spacing = file.at("sampling", "spacing")
    if "spacing" in data and spacing not in SPACINGS:
        remedy = hint(str(spacing), SPACINGS)
        errors.append(f"{at_spacing}: spacing={short_repr(spacing)} is no spacing of timesteps: {remedy}")
    elif spacing not in ("", "own") and scheduler == "own":
        errors.append(
            f"{at_spacing}: spacing={spacing} goes with scheduler: lms; the pipeline's own scheduler keeps its "
            "spacing: leave it out"
        )
    errors.raise_if_any(ConceptError)
    return Sampling(steps, scheduler, spacing)


def captions_name(entry: object) -> str:
    """Return the name of captions: that of their file, without its suffix."""
    file = str(entry.get("file", "") if isinstance(entry, Mapping) else entry)
    return printable(re.sub(r"\.[a-z]+$", "", re.split(r"[/\\]", file.rstrip("/"))[-1]) or "captions")


class ConceptLibrary:
    """Concepts by name: in the given places first, then among the built-in ones.

    Args:
        places: folders of concept files, and single files.
        published: the user's folder or URL of published prompt sets.
        fetch: reads a URL.
    """

    def __init__(self, places: Iterable[Path], published: PublishedSets = None, fetch: Fetch = no_fetch) -> None:
        self._places = [*places, BUILT_IN]
        self._published = published
        self._fetch = fetch
        self._concepts: dict[str, Concept] = {}

    def find(self, name: str) -> Concept:
        """Find the first concept of this name, or one of its sets as in ``church:near``; its files are read once.

        Raises:
            ConceptError: there is none; the message names the nearest ones.
        """
        files = self._files()
        plain, colon, set_name = name.partition(_SET)
        if (path := files.get(plain)) is not None:
            if name not in self._concepts:
                self._concepts[name] = read_concept(
                    path, self._published, self._fetch, set_name=set_name if colon else None
                )
            return self._concepts[name]
        raise ConceptError(
            f"no concept {short_repr(name)}: {hint(name, files)} (concepts are *.yaml files in a concepts folder "
            "beside the tests, or in the places that --unlearndiff-concepts or ini option unlearndiff_concepts lists)"
        )

    def with_prompts(self, concept: Concept, entry: object, folder: Path) -> Concept:
        """Return a concept with other prompts, as a gate gives them.

        Args:
            concept: keeps its judge, and not the target images of its prompts.
            entry: as the field ``prompts`` of a concept file.
            folder: from which relative paths count.

        Raises:
            ConceptError: they cannot be read.
        """
        gate = Keywords(folder / "gate", {"prompts": entry}, {})
        prompts = _read_prompts(gate, self._published, self._fetch, "")
        return replace(concept, prompts=prompts.prompts, images={}, prompt_set=prompts.facts)

    def captions(self, entry: object, measure: Mapping[str, Any], sampling: object, folder: Path) -> Concept:
        """Return a set of captions, whose images are measured instead of judged.

        Args:
            entry: as the field ``prompts`` of a concept file.
            measure: options of what measures.
            sampling: as the field of a concept file; None for the defaults.
            folder: from which relative paths count.

        Raises:
            ConceptError: the captions cannot be read, or nothing can measure so; every error, one per line.
        """
        fields = {"prompts": entry, **({} if sampling is None else {"sampling": sampling})}
        gate, errors = Keywords(folder / "gate", fields, {}), ErrorCollector()
        prompts = errors.collect(lambda: _read_prompts(gate, self._published, self._fetch, ""))
        settings = errors.collect(lambda: _read_sampling(gate))
        try:
            options = _with_absolute_paths({"kind": MEASURE, **measure}, folder)
        except ValueError as error:
            raise ConceptError("\n".join([*errors, str(error)])) from None
        errors += [text for _, text in problems(MEASURE, options, measures=True)]
        if errors or prompts is None or settings is None:
            raise ConceptError("\n".join(errors))
        own = tuple(sampling) if isinstance(sampling, dict) else ()
        return Concept(
            captions_name(entry),
            prompts.prompts,
            JudgeConfig(MEASURE, options),
            sampling=settings,
            own_sampling=own,
            prompt_set=prompts.facts,
        )

    def names(self) -> list[str]:
        """List the names of all concepts."""
        return sorted(self._files())

    def _files(self) -> dict[str, Path]:
        """Concept files by name; the first place that has a name counts."""
        files: dict[str, Path] = {}
        for place in self._places:
            for path in sorted(place.glob("*.yaml")) if place.is_dir() else [place] if place.is_file() else []:
                files.setdefault(path.name.removesuffix(".yaml"), path)
        return files
