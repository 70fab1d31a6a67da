"""Every option once: command line, environment and ini, in that order, into frozen settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MARKER = (
    "unlearndiff(concept, *, max_asr=None, max_pre_asr=None, gate='point', confidence=0.95, prompts=None, attack=None, "
    "schedule=None, slots=None, placement='prefix', model=None, base=None): a gate on a concept's attack success rate; "
    "the test calls the unlearndiff_attack fixture"
)


# In pytest.toml and [tool.pytest], values have types of their own; pytest before 9.2 cannot accept several.
_INI_TYPE: Any = str | int | bool if pytest.version_tuple >= (9, 2) else "string"


@dataclass(frozen=True)
class Option:
    """One setting, under three names: ``--unlearndiff-x-y``, ``UNLEARNDIFF_X_Y`` and ini ``unlearndiff_x_y``.

    Attributes:
        name: with underscores.
        help: for ``--help``; its first letter is a capital.
        metavar: what the value is called; empty for a flag.
        read: makes the value from text; raises ValueError with the allowed form.
        default: where it is given nowhere.
    """

    name: str
    help: str
    metavar: str
    read: Callable[[str], Any] = str
    default: Any = None

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--unlearndiff-" + self.name.replace("_", "-")

    @property
    def ini(self) -> str:
        """Its name in ini files, and of the attribute that holds it on the command line."""
        return f"unlearndiff_{self.name}"

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return self.ini.upper()


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.strip().isdigit() or int(text) < least:
            raise ValueError(f"a whole number of at least {least}")
        return int(text)

    return read


def _one_of(*known: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"one of {', '.join(known)}")
        return text

    return read


def _listed(table: str) -> Callable[[str], str]:
    """One of what core.attack_spec lists under this name, which is loaded only where a value has to be checked."""

    def read(text: str) -> str:
        from ..core import attack_spec

        return _one_of(*getattr(attack_spec, table))(text)

    return read


def _cases(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError("case numbers with commas, such as 17,42") from None


def _yes(text: str) -> bool:
    if text.lower() not in ("1", "true", "yes", "on", "0", "false", "no", "off", ""):
        raise ValueError("yes or no")
    return text.lower() in ("1", "true", "yes", "on")


OPTIONS = (
    Option("model", "Model under test: a pipeline folder, a component folder or a checkpoint file", "PATH"),
    Option("base", "Un-erased pipeline: for what a checkpoint lacks, and for target images", "PATH"),
    Option("concepts", "Further folders or files of concepts, separated as in PATH", "PATHS"),
    Option("published", "Folder of what authors publish and this project does not ship, such as nudity.csv", "PATH"),
    Option("prompts", "Attack only the first N prompts of every set", "N", _whole(1)),
    Option("cases", "Attack only the prompts with these case numbers", "17,42", _cases),
    Option("attack", "Attack: unlearndiff, random, seed-search or none", "NAME", _listed("ATTACKS")),
    Option("schedule", "Schedule: fast, or paper as published numbers were made", "NAME", _listed("SCHEDULES")),
    Option("seed", "Run seed; every prompt's own generators follow from it", "N", _whole(0), 0),
    Option("lanes", "Prompts attacked together; changes speed, not outcomes", "N", _whole(1), 8),
    Option("device", "Where the models run", "DEVICE", str, "cpu"),
    Option(
        "dtype",
        "Floating-point type of the weights",
        "NAME",
        _one_of("float32", "float16", "bfloat16"),
        "float32",
    ),
    Option(
        "cache",
        "Store of finished prompts: rw (default), ro, refresh, off, or require to attack nothing",
        "MODE",
        _one_of("rw", "ro", "refresh", "off", "require"),
        "rw",
    ),
    Option("cache_dir", "Folder of the store (default: .unlearndiff in rootdir)", "PATH"),
    Option(
        "progress",
        "Live progress on stderr: auto, lines or off",
        "WHEN",
        _one_of("auto", "lines", "off"),
        "auto",
    ),
    Option("require", "Fail the session where a gate was skipped or none ran", "", _yes, False),
)


def add_options(parser: pytest.Parser) -> None:
    """Declare every option on the command line and in ini files."""
    group = parser.getgroup("unlearndiff", "unlearned diffusion models under adversarial prompts")
    for option in OPTIONS:
        if option.metavar:
            group.addoption(option.flag, dest=option.ini, metavar=option.metavar, default=None, help=option.help)
        else:
            group.addoption(
                option.flag, dest=option.ini, action="store_const", const="yes", default=None, help=option.help
            )
        parser.addini(option.ini, option.help, type=_INI_TYPE, default=None)


@dataclass(frozen=True)
class Settings:
    """What this session was asked to do. See OPTIONS for the meaning of each field."""

    model: Path | None
    base: Path | None
    concepts: tuple[Path, ...]
    published: Path | None
    prompts: int | None
    cases: tuple[int, ...] | None
    attack: str | None
    schedule: str | None
    seed: int
    lanes: int
    device: str
    dtype: str
    cache: str
    cache_dir: Path
    progress: str
    require: bool

    @classmethod
    def from_config(cls, config: pytest.Config) -> Settings:
        """Read every option: command line before environment before ini before default.

        Raises:
            pytest.UsageError: a value is not of the allowed form, or a model path does not exist.
        """
        values = {option.name: _value(option, config) for option in OPTIONS}
        values["concepts"] = values["concepts"] or ()
        values["cache_dir"] = values["cache_dir"] or config.rootpath / ".unlearndiff"
        return cls(**values)


@dataclass(frozen=True)
class _Given:
    """What a user wrote for an option.

    Attributes:
        origin: where, for errors.
        text: what.
        folder: from which relative paths in it count.
    """

    origin: str
    text: str
    folder: Path

    def parts(self, name: str) -> list[str]:
        """The paths in it; only concepts may be several."""
        return [part for part in self.text.split(os.pathsep) if part] if name == "concepts" else [self.text]


def given_options(config: pytest.Config) -> list[tuple[Option, str]]:
    """What the session says to this plugin, in any of the three places, as text for the command line."""
    found = ((option, _given(option, config)) for option in OPTIONS)
    start = config.invocation_params.dir
    return [(option, _seen_from(start, option.name, given)) for option, given in found if given is not None]


_PATHS = ("model", "base", "concepts", "published", "cache_dir")


def _given(option: Option, config: pytest.Config) -> _Given | None:
    """Where an option is given first, and as what text."""
    start = config.invocation_params.dir
    if (text := config.getoption(option.ini)) is not None:
        return _Given(option.flag, text, start)
    if text := os.environ.get(option.variable):
        return _Given(f"environment variable {option.variable}", text, start)
    if (value := config.getini(option.ini)) not in (None, ""):
        return _Given(f"ini option {option.ini}", str(value), config.rootpath)
    return None


def _seen_from(start: Path, name: str, given: _Given) -> str:
    """The text with its relative paths as they are named from another folder."""
    if name not in _PATHS or given.folder == start:
        return given.text
    paths = (Path(part).expanduser() for part in given.parts(name))
    return os.pathsep.join(str(p) if p.is_absolute() else os.path.relpath(given.folder / p, start) for p in paths)


def _value(option: Option, config: pytest.Config) -> Any:
    """An option's value.

    Raises:
        pytest.UsageError: it is not of the allowed form, or leads nowhere.
    """
    if (given := _given(option, config)) is None:
        return option.default
    if not given.text:
        raise pytest.UsageError(f"{given.origin}: nothing is given; leave it out, or give {option.metavar}")
    if option.name in _PATHS:
        paths = tuple(_path(option.name, given, part) for part in given.parts(option.name))
        return paths if option.name == "concepts" else paths[0]
    try:
        return option.read(given.text)
    except ValueError as error:
        raise pytest.UsageError(f"{given.origin}: {given.text!r} must be {error}") from None


_MENDS = {
    "concepts": "Give folders or files of concepts",
    "published": "Give the folder that holds your copies",
    "model": "Give a pipeline folder, a component folder or a checkpoint file on this machine; download a Hub "
    "repository first (hf download)",
    "base": "Give a pipeline folder on this machine; download a Hub repository first (hf download)",
}


def _path(name: str, given: _Given, text: str) -> Path:
    """A path, which has to exist unless the plugin makes it."""
    path = given.folder / Path(text).expanduser()
    if name not in _MENDS:
        return path
    if not path.exists():
        raise pytest.UsageError(f"{given.origin}: there is nothing at {path}. {_MENDS[name]}")
    return path.resolve()
