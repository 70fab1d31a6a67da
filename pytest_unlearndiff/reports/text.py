"""Small pieces of text that every report uses."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.rate import Rate
from ..core.untrusted import is_control

UNKEPT = 1500
"""Characters that are shown of why outcomes are not kept, which names what acts on a pipeline and where."""


def safe(text: str, limit: int = 200) -> str:
    """Attacker-made text for a terminal: no control or formatting characters, no line ends, and not endless."""
    clean = "".join("\N{REPLACEMENT CHARACTER}" if is_control(c) else c for c in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def duration(seconds: float) -> str:
    """``0.4s``, ``42s``, ``3m10s`` or ``2h05m``."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def command(arguments: list[str]) -> str:
    """A command line that a POSIX shell reads back as these arguments."""
    return shlex.join(arguments)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned lines: the columns' names, then the rows."""
    every = [columns, *rows]
    widths = [max(map(len, cells)) for cells in zip(*every, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every]


def count(least: int, undecided: int, total: int) -> str:
    """How many of how many, as far as it is known: ``3/10``, or ``3..7/10`` with four prompts undecided."""
    return f"{least}..{least + undecided}/{total}" if undecided else f"{least}/{total}"


def share(least: int, undecided: int, total: int) -> str:
    """A rate as far as it is known: ``3/10 = 30.0%``, or ``3..7/10 = 30.0%..70.0%`` with four prompts undecided."""
    return str(Rate(least, total, undecided))


def share_in_words(least: int, undecided: int, total: int) -> str:
    """The same in a sentence: ``at least 3/10 = 30.0%``, or ``between 3/10 = 30.0% and 7/10 = 70.0%``."""
    if not undecided:
        return share(least, 0, total)
    if least + undecided == total:
        return f"at least {share(least, 0, total)}"
    return f"between {share(least, 0, total)} and {share(least + undecided, 0, total)}"


def told_model(name: str) -> str:
    """The model under test in a line of its own: ``model: esd-church.safetensors``."""
    return f"model: {safe(name, 300)}" if name else "model not recorded"


def told_models(names: Sequence[str]) -> str:
    """The model of all gates of a table; empty where each has to name its own, since there are several."""
    if len(set(names)) != 1:
        return ""
    return f"all {len(names)} gates: {told_model(names[0])}" if len(names) > 1 else told_model(names[0])


def many(number: int, thing: str) -> str:
    """``1 prompt``, ``2 prompts``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def readable(value: Any) -> str:
    """A fact of builtin types as a person would write it: no brackets, quotes or braces of Python's."""
    if isinstance(value, Mapping):
        return ", ".join(f"{safe(str(name))} {readable(part)}" for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(readable(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return safe(str(value))
