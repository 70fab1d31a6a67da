"""Read concepts from YAML, and find them by name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .checks import hint, is_count
from .concept import Concept, JudgeSpec, Prompt, Sampling, existing_path
from .errors import ConceptError, Mistakes
from .judge_kinds import kinds, problems
from .prompt_set import read_prompts
from .yaml_file import YamlFile, read_yaml

BUILT_IN = Path(__file__).resolve().parent.parent / "concepts"
_NEEDED = ("prompts", "judge")
_FIELDS = (*_NEEDED, "name", "sampling", "slots", "source")
_PUBLISHED = ("published", "rows", "sha256", "from")


def read_concept(path: Path, published: Path | None = None) -> Concept:
    """Read one concept file.

    Args:
        path: a YAML file with ``name``, ``prompts`` (a CSV beside it, or a published set), ``judge`` (``kind`` and its
            options), and optionally ``slots``, ``sampling`` (``steps``, ``scheduler``), ``source``.
        published: the user's folder of what authors publish and this project does not ship.

    Raises:
        ConceptError: the file is not such a mapping, its prompt set cannot be read, or its judge cannot be built; every
            mistake, one a line.
    """
    file, mistakes = read_yaml(path), Mistakes()
    mistakes.collect(lambda: _fields(file, file.data, (), _FIELDS, _NEEDED, "a concept"))
    data = file.data if isinstance(file.data, dict) else {}
    slots = data.get("slots", 3)
    if not is_count(slots):
        mistakes.append(f"{file.at('slots')}: slots={slots!r} must be a whole number of at least 1")
    prompts = mistakes.collect(lambda: _prompts(file, published)) if "prompts" in data else None
    judge = mistakes.collect(lambda: _judge(file, published)) if "judge" in data else None
    sampling = mistakes.collect(lambda: _sampling(file)) if data else None
    if mistakes or prompts is None or judge is None or sampling is None:
        raise ConceptError("\n".join(mistakes))
    name, source = str(data.get("name") or path.name.removesuffix(".yaml")), str(data.get("source") or "")
    return Concept(name, tuple(prompts), judge, slots=slots, sampling=sampling, source=source)


def _fields(
    file: YamlFile, data: object, place: tuple[str, ...], known: tuple[str, ...], needed: tuple[str, ...], what: str
) -> dict[str, Any]:
    """A mapping with these fields.

    Raises:
        ConceptError: it is none, has others, or lacks needed ones; one a line.
    """
    if not isinstance(data, dict):
        raise ConceptError(f"{file.at(*place)}: {what} is a mapping with {', '.join(known)}; found {data!r:.60}")
    mistakes = [
        f"{file.at(*place, str(name))}: {what} has no field {name!r}: {hint(str(name), known)}"
        for name in data
        if name not in known
    ]
    if lacking := [name for name in needed if name not in data]:
        mistakes.append(f"{file.at(*place)}: {what} needs {' and '.join(lacking)}; it has {', '.join(known)}")
    if mistakes:
        raise ConceptError("\n".join(mistakes))
    return data


def _prompts(file: YamlFile, folder: Path | None) -> list[Prompt]:
    """The prompt set of a concept file."""
    prompts = file.data["prompts"]
    if isinstance(prompts, str):
        return read_prompts(file.path.parent / prompts)
    if not isinstance(prompts, dict):
        raise ConceptError(f"{file.at('prompts')}: prompts must name a CSV file beside it; found {prompts!r}")
    published = _fields(file, prompts, ("prompts",), _PUBLISHED, _PUBLISHED, "a published prompt set")
    return _verified(_published(file, published, folder), published["rows"], published["sha256"], published["from"])


def _published(file: YamlFile, wanted: Mapping[str, Any], folder: Path | None) -> Path:
    """The user's copy of what authors publish.

    Raises:
        ConceptError: it is not there; the message says where to get it.
    """
    name, origin = str(wanted["published"]), wanted["from"]
    if folder is not None and (folder / name).exists():
        return (folder / name).resolve()
    where = f"{folder} has none" if folder is not None else "no folder with it is given"
    raise ConceptError(
        f"concept {file.path.name.removesuffix('.yaml')!r} needs {name}, which does not come with this project, and "
        f"{where}: get it ({origin}) and give its folder with --unlearndiff-published"
    )


def _verified(path: Path, rows: int, sha256: str, origin: str) -> list[Prompt]:
    """The prompts of a file that has to be the published one.

    Raises:
        ConceptError: it is another.
    """
    prompts = read_prompts(path)
    # A checkout may have changed the line ends, which change no prompt outside of quotes.
    found = hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    if found != sha256:
        raise ConceptError(
            f"{path} is not the published set ({origin}): {len(prompts)} rows where {rows} belong, SHA-256 "
            f"{found[:16]}... where {sha256[:16]}... belongs. Get that one, or write a concept of your own for yours"
        )
    return prompts


def _judge(file: YamlFile, folder: Path | None) -> JudgeSpec:
    """The judge of a concept file, with paths made absolute; what can be told without loading it is checked."""
    data = file.data["judge"]
    if isinstance(data, dict):
        for name, value in data.items():
            if isinstance(value, dict) and "published" in value:
                wanted = _fields(
                    file, value, ("judge", str(name)), ("published", "from"), ("from",), "a published file"
                )
                data = data | {name: str(_published(file, wanted, folder))}
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
        raise ConceptError(f"{file.at('judge')}: judge must be a mapping with a kind, such as image-classifier")
    kind, options = data["kind"], _placed(data, file.path.parent)
    if mistakes := [f"{file.at('judge', *place)}: {problem}" for place, problem in problems(kind, options)]:
        raise ConceptError("\n".join(mistakes))
    return JudgeSpec(kind, options)


def _placed(data: Mapping[Any, Any], folder: Path) -> dict[str, Any]:
    """A judge's options, with what names files seen from the concept file's folder."""
    kind, options = kinds().get(str(data.get("kind"))), {str(k): value for k, value in data.items() if k != "kind"}
    for name in kind.weights if kind is not None else ():
        if isinstance(options.get(name), str):
            options[name] = _seen_from(folder, options[name])
    if isinstance(options.get("judges"), list):
        options["judges"] = [
            {"kind": part.get("kind"), **_placed(part, folder)} if isinstance(part, dict) else part
            for part in options["judges"]
        ]
    return options


def _seen_from(folder: Path, name: str) -> str:
    """A path made absolute; a Hub id as it is."""
    placed = existing_path(name, folder)
    is_hub = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and not (folder / name).parent.is_dir()
    return placed if placed != name or is_hub else str((folder / Path(name).expanduser()).resolve())


def _sampling(file: YamlFile) -> Sampling:
    """The sampling settings of a concept file."""
    mistakes, given = Mistakes(), file.data.get("sampling", {})
    mistakes.collect(lambda: _fields(file, given, ("sampling",), ("steps", "scheduler"), (), "sampling"))
    data = given if isinstance(given, dict) else {}
    steps, scheduler = data.get("steps", 50), data.get("scheduler", "lms")
    if not is_count(steps):
        mistakes.append(f"{file.at('sampling', 'steps')}: steps={steps!r} must be a whole number of at least 1")
    if scheduler not in ("lms", "own"):
        mistakes.append(f"{file.at('sampling', 'scheduler')}: scheduler={scheduler!r} must be lms or own")
    if mistakes:
        raise ConceptError("\n".join(mistakes))
    return Sampling(steps, scheduler)


class ConceptLibrary:
    """Finds concepts by name: in the given places first, then among the built-in ones.

    Args:
        places: folders of concept files, and single ones.
        published: the user's folder of what authors publish and this project does not ship.
    """

    def __init__(self, places: Iterable[Path], published: Path | None = None) -> None:
        self._places = [*places, BUILT_IN]
        self._published = published

    def find(self, name: str) -> Concept:
        """Read the first concept of this name.

        Raises:
            ConceptError: there is none; the message names the nearest ones.
        """
        files = dict(self._files())
        if name in files:
            return read_concept(files[name], self._published)
        raise ConceptError(
            f"no concept {name!r}: {hint(name, files)} (concepts are *.yaml files in a concepts folder beside the "
            "tests, or in the places that ini option unlearndiff_concepts lists)"
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
