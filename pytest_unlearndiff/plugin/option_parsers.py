"""Parsers of option values: text to value, or a ValueError that says which form is allowed.

Paths are looked for on this machine or copied to it, and rewritten for a command in another folder.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from ..core import untrusted
from ..core.attack_config import loss_names, schedule_names
from ..core.device import PRECISIONS, read_device
from ..core.errors import GateError
from ..core.model_options import read_version
from ..core.prompt_sets import locate_prompt_set
from ..core.rate import parse_limit
from ..core.registry import registry
from ..core.untrusted import find_path, parse_path, printable, special_file
from ..reports import parse_destinations
from ..sources.resolve import resolve_model_path, resolve_models, split_models

KNOWN_PROMPTS = "known"
"""Value of ``prompts`` that selects the prompts of which an attack that replays them has adversarial ones."""

NO_REPORT = "none"
"""Value of ``report`` that writes none, also where an ini file names some."""

_WORKERS = re.compile(r"(auto|ray|ray://[^\s/:]{1,255}:[0-9]{1,5})(/[1-9][0-9]?)?|[1-9][0-9]{0,4}")
_TIME = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9})s)?")
_NAME_LENGTH = 100
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


def one_of(*names: str) -> Callable[[str], str]:
    """Return the parser of one of these words."""
    return lambda text: _one_of(names, text)


def one_of_table(names: Callable[[], Collection[str]]) -> Callable[[str], str]:
    """Return the parser of one of the names in a table that plugins may extend."""
    return lambda text: _one_of(names(), text)


def _one_of(names: Collection[str], text: str) -> str:
    if text not in names:
        near = difflib.get_close_matches(text[:_NAME_LENGTH], names, n=1)
        raise ValueError(f"one of {', '.join(names)}{f'; did you mean {near[0]!r}?' if near else ''}")
    return text


def parse_text(text: str) -> str:
    """Return the text as it is."""
    return text


def parse_bool(text: str) -> bool:
    """Parse yes or no, as ini files spell it."""
    if text.lower() not in (*_YES, *_NO):
        raise ValueError("yes or no")
    return text.lower() in _YES


def parse_int(least: int, most: int = 1_000_000) -> Callable[[str], int]:
    """Return the parser of a whole number from ``least`` to ``most``."""
    return lambda text: untrusted.parse_int(text, least, most)


parse_seed = parse_int(0, untrusted.MOST_SEED)
parse_images_per_prompt = parse_int(1, untrusted.MOST_IMAGES_PER_PROMPT)
parse_schedule = one_of_table(schedule_names)
parse_loss = one_of_table(loss_names)
parse_precision = one_of(*PRECISIONS)
parse_device = read_device
parse_version = read_version


def parse_batch_size(text: str) -> int | None:
    """Parse a number of prompts; None for ``auto``, as many as memory has room for."""
    if text.strip() == "auto":
        return None
    try:
        return untrusted.parse_int(text, 1, 1_000_000)
    except ValueError as error:
        raise ValueError(f"{error}, or auto") from None


def parse_prompts(text: str) -> int | str:
    """Parse a number of prompts, or ``known``."""
    if text.strip() == KNOWN_PROMPTS:
        return KNOWN_PROMPTS
    try:
        return untrusted.parse_int(text, 1, 1_000_000)
    except ValueError as error:
        raise ValueError(f"{error}, or {KNOWN_PROMPTS} with attack=transfer:CSV") from None


def parse_case_numbers(text: str) -> tuple[int, ...]:
    """Parse case numbers, such as ``17,42``."""
    try:
        return tuple(untrusted.parse_int(part, -untrusted.MOST_CASE, untrusted.MOST_CASE) for part in text.split(","))
    except ValueError:
        raise ValueError("case numbers with commas, such as 17,42") from None


def parse_names(text: str) -> tuple[str, ...]:
    """Parse names of concepts, such as ``church,fish``."""
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise ValueError("names with commas, such as church,fish")
    return names


def parse_attack(text: str) -> str:
    """Parse an attack's name; one that replays known prompts is followed by a colon and their file."""
    attacks = registry().attacks
    name, colon, path = text.partition(":")
    _one_of(attacks, name)
    if attacks[name].replays_known is not bool(path) or (colon and not path):
        replaying = " or ".join(f"{info.name}:CSV" for info in attacks.values() if info.replays_known)
        raise ValueError(f"{replaying}, with the file that python -m pytest_unlearndiff export writes, or another name")
    return text


def parse_rate(text: str) -> str:
    """Check a share of prompts, such as ``10%``; the gate reads it."""
    try:
        parse_limit(text)
    except GateError as error:
        raise ValueError(f"a share of prompts: {error}") from None
    return text


def parse_sld(text: str) -> tuple[str, str]:
    """Parse strength and concept of safe latent diffusion, such as ``medium:church``."""
    strengths = registry().defenses["safe-latent-diffusion"].choices["strength"]
    strength, _, concept = text.partition(":")
    if strength not in strengths or not concept.strip():
        raise ValueError(f"a strength ({', '.join(strengths)}), a colon and what to guide away from: medium:church")
    return strength, concept.strip()


def parse_time(text: str) -> float:
    """Parse a time, such as ``1h30m``, into seconds."""
    match = _TIME.fullmatch(text.strip())
    if not match or not match[0]:
        raise ValueError("a time such as 90s, 55m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 3600.0 * hours + 60.0 * minutes + seconds


def parse_workers(text: str) -> str:
    """Parse where workers run, and how many."""
    if not _WORKERS.fullmatch(text.strip()):
        raise ValueError("a number of at least 1, auto, ray or ray://HOST:PORT, or one of these with /N for N on a GPU")
    return text.strip()


MODEL_HINT = (
    "Give a pipeline folder, a component folder, a checkpoint file, a URL, a downloaded Hub id or pkg.mod:callable, "
    "or several checkpoints, separated by commas"
)
BASE_HINT = "Give a pipeline folder, a URL, or the id of a Hub repository that is on this machine"
PATH_HINTS = {"model": MODEL_HINT, "base": BASE_HINT}


@dataclass(frozen=True)
class RawOption:
    """Text that a user gave for an option.

    Attributes:
        origin: flag or ini option, for errors.
        text: the value as written.
        folder: folder that relative paths in it start from.
    """

    origin: str
    text: str
    folder: Path


class PathForm(Enum):
    """Form of the paths in an option's text."""

    NONE = "none"
    PATH = "path"
    PATH_OR_NAME = "path or name"
    """A path, or a callable's name or a Hub id, which mean the same in any folder."""
    MODELS = "models"
    """The same, or several of them, separated by commas."""
    LIST = "list"
    """Paths, separated as in PATH."""
    AFTER_COLON = "after colon"

    def relocate(self, raw: RawOption, folder: Path) -> str:
        """Return the text with its relative paths as they are written in another folder."""
        if self is PathForm.NONE or raw.folder == folder or "://" in raw.text:
            return raw.text
        if self is PathForm.MODELS:
            names = split_models(raw.text, raw.folder)
            return ",".join(PathForm.PATH_OR_NAME.relocate(replace(raw, text=name), folder) for name in names)
        if self is PathForm.PATH_OR_NAME and not is_there(raw.folder / expand_home(raw.text)):
            return raw.text
        name, colon, text = raw.text.partition(":") if self is PathForm.AFTER_COLON else ("", "", raw.text)
        paths = text.split(os.pathsep) if self is PathForm.LIST else [text]
        return name + colon + os.pathsep.join(_relocated(path, raw.folder, folder) for path in paths if path)


def _relocated(text: str, before: Path, after: Path) -> str:
    path = expand_home(text)
    return str(path) if path.is_absolute() else os.path.relpath(before / path, after)


def expand_home(text: str) -> Path:
    """Return a path with ``~`` expanded where that user is known; parsers refuse the others."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def is_there(path: Path) -> bool:
    """Tell whether a path leads to a file or folder; False where no file can have such a name."""
    try:
        return path.is_file() or path.is_dir()
    except (OSError, ValueError):
        return False


def locate_model(raw: RawOption, say: Callable[[str], None]) -> tuple[Path, ...]:
    """Find the model under test, and adapters to put into it; copy them to this machine if they are at URLs.

    Raises:
        ModelError: there is none.
    """
    return resolve_models(raw.text, raw.folder, MODEL_HINT, on_download=say)


def locate_base(raw: RawOption, say: Callable[[str], None]) -> Path:
    """Find the un-erased pipeline; copy it to this machine if it is at a URL.

    Raises:
        ModelError: there is none.
    """
    return resolve_model_path(raw.text, raw.folder, BASE_HINT, on_download=say)


def locate_concepts(raw: RawOption, say: Callable[[str], None]) -> tuple[Path, ...]:
    """Find folders or files of concepts.

    Raises:
        ValueError: there is none, or it is neither a file nor a folder.
    """
    return tuple(_existing(text, raw.folder) for text in raw.text.split(os.pathsep) if text)


def _existing(text: str, folder: Path) -> Path:
    try:
        if (path := find_path(text, folder)) is not None:
            return path
        path = parse_path(text, folder)
    except ValueError as error:
        raise ValueError(f"{printable(text)} {error}") from None
    raise ValueError(f"there is nothing at {path}. Give folders or files of concepts")


def locate_store(raw: RawOption, say: Callable[[str], None]) -> Path | str:
    """Find the folder of the store, which need not exist yet, or the URL of a shared one.

    Raises:
        ValueError: it is, or would be in, something that is no folder.
    """
    if "://" in raw.text:
        return raw.text
    try:
        find_path(raw.text, raw.folder)  # refuses what is neither a file nor a folder
        path = parse_path(raw.text, raw.folder)
    except ValueError as error:
        raise ValueError(f"{printable(raw.text)} {error}") from None
    nearest = next(above for above in (path, *path.parents) if above.exists())
    if not nearest.is_dir():
        raise ValueError(f"{nearest} is not a folder")
    return path


def locate_prompt_sets(raw: RawOption, say: Callable[[str], None]) -> Path | str:
    """Find a folder of prompt sets, or the URL of one, such as of a data set on the Hub.

    Raises:
        ValueError: there is no such folder.
    """
    place = locate_prompt_set(raw.text, raw.folder)
    if isinstance(place, Path) and not place.is_dir():
        raise ValueError(
            f"there is {'no folder' if place.exists() else 'nothing'} at {place}. Give the folder that holds your "
            "copies, a URL, or a data set on the Hub as owner/name"
        )
    return place.resolve() if isinstance(place, Path) else place


def locate_attack(raw: RawOption, say: Callable[[str], None]) -> str:
    """Find the file of an attack that replays known prompts, and return ``name:absolute path``.

    Raises:
        ValueError: the attack is unknown, or there is no such file.
    """
    name, colon, text = parse_attack(raw.text).partition(":")
    if not colon:
        return name
    try:
        file = parse_path(text, raw.folder).resolve()
    except ValueError as error:
        raise ValueError(f"{name}:CSV, and the path {error}") from None
    if not file.is_file():
        raise ValueError(f"{name}:CSV, and there is no file {file}")
    return f"{name}:{file}"


def locate_reports(raw: RawOption, say: Callable[[str], None]) -> tuple[tuple[str, Path], ...]:
    """Find out where reports are written; kinds without a path get the folder, which is not used; ``none`` is none.

    Raises:
        ValueError: the text is malformed, or a folder, a pipe or a device is in the place of a file.
    """
    destinations = []
    for kind, text in () if raw.text.strip() == NO_REPORT else parse_destinations(raw.text):
        try:
            path = parse_path(text, raw.folder)
        except ValueError as error:
            raise ValueError(f"paths of files, and that of {kind} {error}") from None
        if text and (path.is_dir() or special_file(path)):
            raise ValueError(f"paths of files, and {path} is {special_file(path) or 'a folder'}")
        destinations.append((kind, path))
    return tuple(destinations)
