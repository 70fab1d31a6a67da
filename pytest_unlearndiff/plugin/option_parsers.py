"""Parsers of option values: text to value, or a ValueError that says which form is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from ..core import untrusted
from ..core.attack_config import loss_names, schedule_names
from ..core.device import PRECISIONS, read_device
from ..core.errors import GateError
from ..core.rate import parse_limit
from ..core.registry import registry
from ..core.versioned_pipeline import read_version

KNOWN_PROMPTS = "known"
"""Value of ``prompts`` that selects the prompts of which an attack that replays them has adversarial ones."""

_WORKERS = re.compile(r"(auto|ray|ray://[^\s/:]{1,255}:[0-9]{1,5})(/[1-9][0-9]?)?|[1-9][0-9]{0,4}")
_TIME = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9})s)?")
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


def one_of(*names: str) -> Callable[[str], str]:
    """Return the parser of one of these words."""
    return lambda text: _one_of(names, text)


def one_of_table(names: Callable[[], Collection[str]]) -> Callable[[str], str]:
    """Return the parser of one of the names in a table that plugins may extend."""
    return lambda text: _one_of(names(), text)


def _one_of(names: Collection[str], text: str) -> str:
    if text not in names:
        raise ValueError(f"one of {', '.join(names)}")
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
parse_schedule = one_of_table(schedule_names)
parse_loss = one_of_table(loss_names)
parse_precision = one_of(*PRECISIONS)
parse_device = read_device
parse_version = read_version


def parse_batch_size(text: str) -> int:
    """Parse a number of prompts; ``auto``, which means as many as memory has room for, is 0."""
    if text.strip() == "auto":
        return 0
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
