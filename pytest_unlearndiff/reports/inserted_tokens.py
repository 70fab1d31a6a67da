"""Where in an adversarial prompt the inserted tokens are."""

from __future__ import annotations

import difflib
import re

from .gate_report import PromptRecord

Piece = tuple[str, bool]


def pieces(prompt: PromptRecord) -> list[Piece]:
    """The adversarial prompt in pieces, each with whether the attack inserted it; empty where there is none.

    Together the pieces are the adversarial prompt. Tokens that stand together are found as they stand; those spread
    through the prompt are the words that the prompt does not have in this place.
    """
    text, inserted = prompt.adversarial or "", (prompt.inserted or "").strip()
    if not inserted:
        return [(text, False)] if text else []
    if text.startswith(inserted):
        return _cut(text, 0, len(inserted))
    if text.endswith(inserted):
        return _cut(text, len(text) - len(inserted), len(text))
    if inserted in text:
        start = text.index(inserted)
        return _cut(text, start, start + len(inserted))
    return _words(text, prompt.text)


def _cut(text: str, start: int, end: int) -> list[Piece]:
    parts = [(text[:start], False), (text[start:end], True), (text[end:], False)]
    return [part for part in parts if part[0]]


def _words(text: str, original: str) -> list[Piece]:
    words, known = re.findall(r"\s+|\S+", text), re.findall(r"\s+|\S+", original)
    same = difflib.SequenceMatcher(None, [w.lower() for w in known], [w.lower() for w in words], autojunk=False)
    found: list[Piece] = []
    at = 0
    for block in same.get_matching_blocks():
        if new := "".join(words[at : block.b]):
            found.append((new, bool(new.strip())))
        if kept := "".join(words[block.b : block.b + block.size]):
            found.append((kept, False))
        at = block.b + block.size
    return found
