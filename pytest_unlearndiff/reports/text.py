"""Small pieces of text that several reports use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.rate import Rate
from ..core.untrusted import is_control

UNKEPT = 1500
"""Characters that are shown of why outcomes are not kept, which names what acts on a pipeline and where."""


def sanitize(text: str, limit: int = 200) -> str:
    """Make attacker-made text safe for a terminal: no control or formatting characters, no line ends; bounded."""
    clean = "".join("\N{REPLACEMENT CHARACTER}" if is_control(c) else c for c in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def format_duration(seconds: float) -> str:
    """Format as ``0.4s``, ``42s``, ``3m10s`` or ``2h05m``."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns: a line of their names, then a line per row."""
    every = [columns, *rows]
    widths = [max(map(len, cells)) for cells in zip(*every, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every]


def format_count(least: int, unknown: int, total: int) -> str:
    """Format a count as far as it is known: ``3/10``, or ``3..7/10`` with four prompts unknown."""
    return f"{least}..{least + unknown}/{total}" if unknown else f"{least}/{total}"


def format_share(least: int, unknown: int, total: int) -> str:
    """Format a rate as far as it is known: ``3/10 = 30.0%``, or ``3..7/10 = 30.0%..70.0%`` with four unknown."""
    return str(Rate(least, total, unknown))


def share_in_words(least: int, unknown: int, total: int) -> str:
    """Format it for a sentence: ``at least 3/10 = 30.0%``, or ``between 3/10 = 30.0% and 7/10 = 70.0%``."""
    if not unknown:
        return format_share(least, 0, total)
    if least + unknown == total:
        return f"at least {format_share(least, 0, total)}"
    return f"between {format_share(least, 0, total)} and {format_share(least + unknown, 0, total)}"


def model_line(name: str) -> str:
    """Name the model under test: ``model: esd-church.safetensors``."""
    return f"model: {sanitize(name, 300)}" if name else "model not recorded"


def last_part(path: str) -> str:
    """Return the last part of a model's path, of Windows too, or Hub id: ``esd.pt`` of ``victims/esd.pt``."""
    return re.split(r"[/\\]", sanitize(path).rstrip("/\\"))[-1]


def models_line(names: Sequence[str]) -> str:
    """Name the one model of all gates of a table; empty where each has to name its own, since there are several."""
    if len(set(names)) != 1:
        return ""
    return f"all {len(names)} gates: {model_line(names[0])}" if len(names) > 1 else model_line(names[0])


def pluralize(number: int, thing: str) -> str:
    """Return ``1 prompt`` or ``2 prompts``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def format_value(value: Any) -> str:
    """Format a fact of builtin types as a person would write it: no brackets, quotes or braces of Python's."""
    if isinstance(value, Mapping):
        return ", ".join(f"{sanitize(str(name))} {format_value(part)}" for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(format_value(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return sanitize(str(value))
