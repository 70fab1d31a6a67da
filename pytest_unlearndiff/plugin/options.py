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
    Option("prompts", "Attack only the first N prompts of every set", "N", _whole(1)),
    Option("cases", "Attack only the prompts with these case numbers", "17,42", _cases),
    Option("attack", "Attack: unlearndiff, random, seed-search or none", "NAME"),
    Option("schedule", "Schedule: fast, or paper as published numbers were made", "NAME"),
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
        parser.addini(option.ini, option.help, default=None)


@dataclass(frozen=True)
class Settings:
    """What this session was asked to do. See OPTIONS for the meaning of each field."""

    model: Path | None
    base: Path | None
    concepts: tuple[Path, ...]
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
        for name in ("model", "base"):
            values[name] = _existing(name, values[name])
        values["concepts"] = tuple(Path(p) for p in str(values["concepts"] or "").split(os.pathsep) if p)
        values["cache_dir"] = Path(values["cache_dir"] or config.rootpath / ".unlearndiff")
        return cls(**values)


def given_options(config: pytest.Config) -> list[tuple[Option, str]]:
    """What the session says to this plugin, in any of the three places."""
    found = ((option, _given(option, config)) for option in OPTIONS)
    return [(option, given[1]) for option, given in found if given is not None]


_PATHS = ("model", "base", "concepts", "cache_dir")


def _given(option: Option, config: pytest.Config) -> tuple[str, str] | None:
    """Where an option is given first, and as what text."""
    for origin, text in (
        (option.flag, config.getoption(option.ini)),
        (f"environment variable {option.variable}", os.environ.get(option.variable)),
        (f"ini option {option.ini}", config.getini(option.ini)),
    ):
        if text:
            return origin, str(text)
    return None


def _value(option: Option, config: pytest.Config) -> Any:
    """An option's value; paths in ini files count from the ini file's folder."""
    if (given := _given(option, config)) is None:
        return option.default
    origin, text = given
    if option.name in _PATHS:
        folder = config.rootpath if origin.startswith("ini") else config.invocation_params.dir
        return os.pathsep.join(str(folder / Path(part).expanduser()) for part in text.split(os.pathsep))
    try:
        return option.read(text)
    except ValueError as error:
        raise pytest.UsageError(f"{origin}: {text!r} must be {error}") from None


def _existing(name: str, text: str | None) -> Path | None:
    if text is None:
        return None
    path = Path(text)
    if not path.exists():
        raise pytest.UsageError(
            f"--unlearndiff-{name}: there is nothing at {path}. Give a pipeline folder, a component folder or a "
            "checkpoint file on this machine; download a Hub repository first (hf download)"
        )
    return path.resolve()
