"""Where a user gives an option: on the command line or in the ini file, in that order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from .options import OPTIONS, Option


class RawOption(NamedTuple):
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
    """What the session says to this plugin, in either place, as text for the command line."""
    found = ((option, given(option, config)) for option in OPTIONS)
    start = config.invocation_params.dir
    return [(option, _seen_from(start, option.name, what)) for option, what in found if what is not None]


def without_secrets(text: str) -> str:
    """What stands on a command line, its URL without password and query: reports are read by others."""
    if "://" not in text:
        return text
    from ..core.urls import redact_url

    flag, equals, url = text.partition("=") if text.startswith("-") else ("", "", text)
    return f"{flag}{equals}{redact_url(url)}"


PATHS = ("model", "base", "concepts", "prompt_sets", "cache_dir")
ELSEWHERE = ("model", "base")


def given(option: Option, config: pytest.Config) -> RawOption | None:
    """Where an option is given first, and as what text."""
    start = config.invocation_params.dir
    if (text := config.getoption(option.ini)) is not None:
        return RawOption(option.flag, ",".join(text) if option.repeatable else text, start)
    if (value := config.getini(option.ini)) not in (None, ""):
        return RawOption(f"ini option {option.ini}", str(value), config.rootpath)
    return None


def _is_name(name: str, given: RawOption) -> bool:
    """Whether it is no path but a callable's name or a Hub id, which mean the same from anywhere."""
    return name in (*ELSEWHERE, "prompt_sets") and not is_there(given.folder / expanded(given.text))


def expanded(text: str) -> Path:
    """A path with ``~`` expanded, if it can be; settings refuse what cannot."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # nobody of this name is known here
        return Path(text)


def is_there(path: Path) -> bool:
    """Whether there is a file or a folder; not, where no file can have such a name."""
    try:
        return path.is_file() or path.is_dir()
    except (OSError, ValueError):
        return False


def _seen_from(start: Path, name: str, given: RawOption) -> str:
    """The text with its relative paths as they are named from another folder."""
    if name == "attack" and given.folder != start:
        attack, colon, path = given.text.partition(":")
        return f"{attack}{colon}{os.path.relpath(given.folder / expanded(path), start)}" if path else attack
    if name not in PATHS or given.folder == start or "://" in given.text or _is_name(name, given):
        return given.text
    paths = (expanded(part) for part in given.parts(name))
    return os.pathsep.join(str(p) if p.is_absolute() else os.path.relpath(given.folder / p, start) for p in paths)
