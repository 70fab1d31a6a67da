"""Small pieces of text that every report uses."""

from __future__ import annotations

import shlex
import unicodedata


def safe(text: str, limit: int = 200) -> str:
    """Attacker-made text for a terminal: no control or formatting characters, no line ends, and not endless."""
    clean = "".join("\N{REPLACEMENT CHARACTER}" if _steers(c) else c for c in text)
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def _steers(character: str) -> bool:
    """Whether a terminal or an editor may act on this character instead of showing it."""
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp")


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
