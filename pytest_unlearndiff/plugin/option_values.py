"""What users write for options, read into values; what cannot be meant is refused with the allowed form."""

from __future__ import annotations

import re
from collections.abc import Callable

KNOWN = "known"
"""What ``prompts`` is where only those are attacked that ``transfer`` knows adversarial prompts of."""


def whole(least: int, most: int = 1_000_000) -> Callable[[str], int]:
    """A whole number from ``least`` to ``most``."""

    def read(text: str) -> int:
        from ..core.untrusted import parse_int

        return parse_int(text, least, most)

    return read


def seed(text: str) -> int:
    """The seed of a random generator."""
    from ..core.untrusted import MOST_SEED

    return whole(0, MOST_SEED)(text)


def prompts(text: str) -> int | str:
    """A number of prompts, or ``known``."""
    try:
        return KNOWN if text.strip() == KNOWN else whole(1)(text)
    except ValueError as error:
        raise ValueError(f"{error}, or {KNOWN} with attack=transfer:CSV") from None


def one_of(*known: str) -> Callable[[str], str]:
    """One of these words."""

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"one of {', '.join(known)}")
        return text

    return read


def schedule(text: str) -> str:
    """A schedule's name."""
    from ..core.attack_config import schedule_names

    return one_of(*schedule_names())(text)


def loss(text: str) -> str:
    """A loss's name."""
    from ..core.attack_config import loss_names

    return one_of(*loss_names())(text)


def attack(text: str) -> str:
    """An attack's name; one that replays known prompts takes a file."""
    from ..core.registry import registry

    attacks = registry().attacks
    name, colon, path = text.partition(":")
    one_of(*attacks)(name)
    if attacks[name].replays_known is not bool(path) or (colon and not path):
        replaying = " or ".join(f"{info.name}:CSV" for info in attacks.values() if info.replays_known)
        raise ValueError(f"{replaying}, with the file that python -m pytest_unlearndiff export writes, or another name")
    return text


def batch_size(text: str) -> int:
    """A number; 0 stands for what memory has room for."""
    if text.strip() == "auto":
        return 0
    try:
        return whole(1)(text)
    except ValueError as error:
        raise ValueError(f"{error}, or auto") from None


def precision(text: str) -> str:
    """An arithmetic's name."""
    from ..core.precision import PRECISIONS

    return one_of(*PRECISIONS)(text)


def device(text: str) -> str:
    """A device's name; whether it is here is asked once, where models are going to be loaded."""
    if text == "auto":  # the default, of which sessions without gates need nothing more
        return text
    from ..core.device import read_device

    return read_device(text)


def version(text: str) -> str:
    """A version of the model under test."""
    from ..core.versioned_pipeline import read_version

    return read_version(text)


def workers(text: str) -> str:
    """Where workers run, and how many."""
    if not re.fullmatch(r"(auto|ray|ray://[^\s/:]{1,255}:[0-9]{1,5})(/[1-9][0-9]?)?|[1-9][0-9]{0,4}", text.strip()):
        raise ValueError("a number of at least 1, auto, ray or ray://HOST:PORT, or one of these with /N for N on a GPU")
    return text.strip()


def cases(text: str) -> tuple[int, ...]:
    """``17,42``."""
    from ..core.untrusted import MOST_CASE, parse_int

    try:
        return tuple(parse_int(part, -MOST_CASE, MOST_CASE) for part in text.split(","))
    except ValueError:
        raise ValueError("case numbers with commas, such as 17,42") from None


def names(text: str) -> tuple[str, ...]:
    """``church,fish``."""
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise ValueError("names with commas, such as church,fish")
    return names


def share(text: str) -> str:
    """Checked here, and read by the gate."""
    from ..core.errors import GateError
    from ..core.rate import parse_limit

    try:
        parse_limit(text)
    except GateError as error:
        raise ValueError(f"a share of prompts: {error}") from None
    return text


def yes(text: str) -> bool:
    """Yes or no, as ini files spell it."""
    if text.lower() not in ("1", "true", "yes", "on", "0", "false", "no", "off", ""):
        raise ValueError("yes or no")
    return text.lower() in ("1", "true", "yes", "on")


def reports(text: str) -> tuple[tuple[str, str], ...]:
    """Kinds of reports, each with where it goes."""
    from ..reports.destinations import parse

    return parse(text)


def safe(text: str) -> tuple[str, str]:
    """``medium:church`` as strength and concept."""
    from ..core.defenses import STRENGTHS

    strength, _, concept = text.partition(":")
    if strength not in STRENGTHS or not concept.strip():
        raise ValueError(f"a strength ({', '.join(STRENGTHS)}), a colon and what to guide away from: medium:church")
    return strength, concept.strip()


def seconds(text: str) -> float:
    """``1h30m`` in seconds."""
    found = re.fullmatch(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9})s)?", text.strip())
    if not found or not found[0]:
        raise ValueError("a time such as 90s, 55m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return 3600.0 * hours + 60.0 * minutes + seconds
