"""Which reports are wanted, and where: ``html:PATH``. Loads nothing, for it is read at every start that names one."""

from __future__ import annotations

import re

KINDS = ("html", "json", "md", "github")

FORM = f"KIND:PATH with commas between several, KIND one of {', '.join(KINDS)}; github takes no path"


def parse(text: str) -> tuple[tuple[str, str], ...]:
    """Reports as kind and path, the path of ``github`` empty.

    A comma that no kind follows belongs to the path before it.

    Raises:
        ValueError: the text is not of that form.
    """
    found = []
    for part in re.split(rf",(?=\s*(?:{'|'.join(KINDS)})(?::|,|\s*$))", text):
        kind, _, path = part.strip().partition(":")
        if kind not in KINDS or bool(path) is (kind == "github"):
            raise ValueError(FORM)
        found.append((kind, path))
    return tuple(found)
