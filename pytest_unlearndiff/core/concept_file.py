"""Read concepts from YAML, and find them by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .checks import hint, is_count
from .concept import SCHEDULERS, SPACINGS, Concept, JudgeConfig, Prompt, Sampling
from .errors import ConceptError, ErrorCollector
from .judge_options import problems
from .prompt_source import Fetch, PromptSource, no_fetch, place_of
from .registry import registry
from .target_images import target_images
from .untrusted import MOST_COUNT, MOST_SLOTS, MOST_STEPS, existing, path_from, printable, shown, whole_form
from .yaml_file import YamlFile, fields_of, read_yaml

BUILT_IN = Path(__file__).resolve().parent.parent / "concepts"
_NEEDED = ("prompts", "judge")
_FIELDS = (*_NEEDED, "name", "sampling", "slots", "source", "targets")
_PUBLISHED = ("published", "rows", "sha256", "from")
_ELSEWHERE = ("file", "rows", "sha256")

Published = Path | str | None
"""The user's place of what authors publish and this project does not ship: a folder, or a URL."""


def read_concept(path: Path, published: Published = None, fetch: Fetch = no_fetch) -> Concept:
    """Read one concept file.

    Args:
        path: a YAML file with ``name``, ``prompts`` (a CSV file, a URL or a data set on the Hub; or a mapping with that
            as ``file`` and its ``rows`` and ``sha256``; or a published set), ``judge`` (``kind`` and its options), and
            optionally ``slots``, ``sampling`` (``steps``, ``scheduler``, ``spacing``), ``source``, and ``targets`` (a
            folder of images by case number, or the ``column`` of the CSV file that names them and the ``folder`` they
            are in).
        published: the user's place of what authors publish and this project does not ship.
        fetch: gives what is at a URL.

    Raises:
        ConceptError: the file is not such a mapping, its prompt set cannot be read, or its judge cannot be built; every
            mistake, one a line.
    """
    file, mistakes = read_yaml(path), ErrorCollector()
    mistakes.collect(lambda: fields_of(file, file.data, (), _FIELDS, _NEEDED, "a concept"))
    data = file.data if isinstance(file.data, dict) else {}
    slots = data.get("slots", 3)
    if not is_count(slots, MOST_SLOTS):
        mistakes.append(f"{file.at('slots')}: slots={shown(slots)} must be {whole_form(1, MOST_SLOTS)}")
    read = mistakes.collect(lambda: _prompts(file, published, fetch)) if "prompts" in data else None
    judge = mistakes.collect(lambda: _judge(file, published)) if "judge" in data else None
    sampling = mistakes.collect(lambda: _sampling(file)) if data else None
    if mistakes or read is None or judge is None or sampling is None:
        raise ConceptError("\n".join(mistakes))
    (prompts, images), source = read, str(data.get("source") or "")
    name = printable(str(data.get("name") or path.name.removesuffix(".yaml")))
    return Concept(name, prompts, judge, slots=slots, sampling=sampling, source=source, images=images)


def _prompts(file: YamlFile, published: Published, fetch: Fetch) -> tuple[tuple[Prompt, ...], Mapping[str, str]]:
    """The prompts of a concept file, and the target images it names."""
    targets = target_images(file)
    source = _source(file, published)
    rows = source.read(fetch, targets.column if targets is not None else None)
    images = targets.of(rows, source.where) if targets is not None else {}
    return tuple(prompt for prompt, _ in rows), images


def _source(file: YamlFile, published: Published) -> PromptSource:
    """Where the prompt set of a concept file is."""
    prompts = file.data["prompts"]
    if isinstance(prompts, str):
        return PromptSource(place_of(prompts, file.path.parent))
    if not isinstance(prompts, dict):
        raise ConceptError(f"{file.at('prompts')}: prompts must name a CSV file beside it; found {shown(prompts)}")
    if "published" in prompts:
        wanted = _pinned(file, fields_of(file, prompts, ("prompts",), _PUBLISHED, _PUBLISHED, "a published prompt set"))
        where = _published(file, wanted, published)
        return PromptSource(where, wanted["sha256"], wanted["rows"], str(wanted["from"]))
    wanted = _pinned(file, fields_of(file, prompts, ("prompts",), _ELSEWHERE, ("file",), "a prompt set"))
    if not isinstance(name := wanted["file"], str):
        raise ConceptError(f"{file.at('prompts', 'file')}: file={shown(name)} must be a path, a URL or owner/name")
    return PromptSource(place_of(name, file.path.parent), wanted.get("sha256", ""), wanted.get("rows"))


def _pinned(file: YamlFile, wanted: dict[str, Any]) -> dict[str, Any]:
    """What says which file is the right one, where it can be meant.

    Raises:
        ConceptError: rows is no count, or sha256 no SHA-256.
    """
    if "rows" in wanted and not is_count(rows := wanted["rows"]):
        raise ConceptError(f"{file.at('prompts', 'rows')}: rows={shown(rows)} must be {whole_form(1, MOST_COUNT)}")
    sha256 = wanted.get("sha256", "0" * 64)
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ConceptError(f"{file.at('prompts', 'sha256')}: sha256={shown(sha256)} must be 64 hex digits in quotes")
    return wanted


def _published(file: YamlFile, wanted: Mapping[str, Any], published: Published) -> Path | str:
    """The user's copy of what authors publish: a file or folder, or where a URL leads to it.

    Raises:
        ConceptError: it is not there; the message says where to get it.
    """
    name, origin = str(wanted["published"]), wanted["from"]
    if isinstance(published, str):
        return f"{published}/{name}"
    if published is not None:
        try:
            if (path := existing(name, published)) is not None:
                return path
        except ValueError as error:
            raise ConceptError(f"{file.at()}: {published}/{printable(name)} {error}") from None
    where = f"{published} has none" if published is not None else "no folder with it is given"
    raise ConceptError(
        f"concept {file.path.name.removesuffix('.yaml')!r} needs {name}, which does not come with this project, and "
        f"{where}: get it ({origin}) and give its folder with --unlearndiff-prompt-sets"
    )


def _judge(file: YamlFile, published: Published) -> JudgeConfig:
    """The judge of a concept file, with paths made absolute; what can be told without loading it is checked."""
    data = file.data["judge"]
    if isinstance(data, dict):
        for name, value in data.items():
            if isinstance(value, dict) and "published" in value:
                wanted = fields_of(
                    file, value, ("judge", str(name)), ("published", "from"), ("from",), "a published file"
                )
                if isinstance(published, str):
                    raise ConceptError(
                        f"{file.at('judge', str(name))}: judges' files are read from a folder, and "
                        f"--unlearndiff-prompt-sets is the URL {published}: download {wanted.get('published')} "
                        f"({wanted['from']}), and give a folder that holds it and the prompts"
                    )
                data = data | {name: str(_published(file, wanted, published))}
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
        raise ConceptError(f"{file.at('judge')}: judge must be a mapping with a kind, such as image-classifier")
    kind = data["kind"]
    try:
        options = _placed(data, file.path.parent)
    except ValueError as error:
        raise ConceptError(f"{file.at('judge')}: {error}") from None
    if mistakes := [f"{file.at('judge', *place)}: {problem}" for place, problem in problems(kind, options)]:
        raise ConceptError("\n".join(mistakes))
    return JudgeConfig(kind, options)


def _placed(data: Mapping[Any, Any], folder: Path) -> dict[str, Any]:
    """A judge's options, with what names files seen from the concept file's folder.

    Raises:
        ValueError: no file can have such a name.
    """
    info = registry().judges.get(str(data.get("kind")))
    options = {str(k): value for k, value in data.items() if k != "kind"}
    for name in info.files if info is not None else ():
        if isinstance(options.get(name), str):
            try:
                options[name] = _seen_from(folder, options[name])
            except ValueError as error:
                raise ValueError(f"{name}={shown(options[name])} {error}") from None
    if isinstance(options.get("judges"), list):
        options["judges"] = [
            {"kind": part.get("kind"), **_placed(part, folder)} if isinstance(part, dict) else part
            for part in options["judges"]
        ]
    return options


def _seen_from(folder: Path, name: str) -> str:
    """A path made absolute; a Hub id as it is.

    Raises:
        ValueError: no file can have this name.
    """
    path = path_from(name, folder)
    is_hub = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and not path.parent.is_dir()
    return str(path.resolve()) if path.exists() or not is_hub else name


def _sampling(file: YamlFile) -> Sampling:
    """The sampling settings of a concept file."""
    mistakes, given = ErrorCollector(), file.data.get("sampling", {})
    mistakes.collect(lambda: fields_of(file, given, ("sampling",), ("steps", "scheduler", "spacing"), (), "sampling"))
    data = given if isinstance(given, dict) else {}
    steps, scheduler, spacing = data.get("steps", 50), data.get("scheduler", "lms"), data.get("spacing", "")
    if not is_count(steps, MOST_STEPS):
        mistakes.append(f"{file.at('sampling', 'steps')}: steps={shown(steps)} must be {whole_form(1, MOST_STEPS)}")
    if scheduler not in SCHEDULERS:
        mistakes.append(f"{file.at('sampling', 'scheduler')}: scheduler={shown(scheduler)} must be lms or own")
    if "spacing" in data and spacing not in SPACINGS:
        near = hint(str(spacing), SPACINGS)
        mistakes.append(
            f"{file.at('sampling', 'spacing')}: spacing={shown(spacing)} is no spacing of timesteps: {near}"
        )
    elif spacing not in ("", "own") and scheduler == "own":
        mistakes.append(
            f"{file.at('sampling', 'spacing')}: spacing={spacing} goes with scheduler: lms; the pipeline's own "
            "scheduler keeps its spacing: leave it out"
        )
    if mistakes:
        raise ConceptError("\n".join(mistakes))
    return Sampling(steps, scheduler, spacing)


class ConceptLibrary:
    """Finds concepts by name: in the given places first, then among the built-in ones.

    Args:
        places: folders of concept files, and single ones.
        published: the user's place of what authors publish and this project does not ship.
        fetch: gives what is at a URL.
    """

    def __init__(self, places: Iterable[Path], published: Published = None, fetch: Fetch = no_fetch) -> None:
        self._places = [*places, BUILT_IN]
        self._published = published
        self._fetch = fetch
        self._read: dict[Path, Concept] = {}

    def find(self, name: str) -> Concept:
        """The first concept of this name, whose files are read once.

        Raises:
            ConceptError: there is none; the message names the nearest ones.
        """
        files = dict(self._files())
        if (path := files.get(name)) is not None:
            if path not in self._read:
                self._read[path] = read_concept(path, self._published, self._fetch)
            return self._read[path]
        raise ConceptError(
            f"no concept {shown(name)}: {hint(name, files)} (concepts are *.yaml files in a concepts folder beside the "
            "tests, or in the places that --unlearndiff-concepts or ini option unlearndiff_concepts lists)"
        )

    def names(self) -> list[str]:
        """Every concept that can be found."""
        return sorted(name for name, _ in self._files())

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Concept files by name; later places do not hide earlier ones."""
        seen: dict[str, Path] = {}
        for place in self._places:
            for path in sorted(place.glob("*.yaml")) if place.is_dir() else [place] if place.is_file() else []:
                seen.setdefault(path.name.removesuffix(".yaml"), path)
        return iter(seen.items())
