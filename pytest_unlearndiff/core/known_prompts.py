"""Adversarial prompts that are known already, each of one prompt: what the attack ``transfer`` replays."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from .concept import Prompt
from .drawing import GenerationRequest
from .errors import ConceptError
from .prompt_sets import Row, parse_rows, read_content, seed

_ORIGINAL = "original_prompt"


@dataclass(frozen=True)
class KnownPrompt:
    """One adversarial prompt.

    Attributes:
        original: digest of the prompt that it was found for.
        drawing: what to draw.
        inserted: the adversarial tokens in it, as text; empty where there are none, as after a search of seeds.
    """

    original: str
    drawing: GenerationRequest
    inserted: str = ""


@dataclass(frozen=True)
class KnownPrompts:
    """A list of adversarial prompts.

    Attributes:
        rows: in the order in which those of one prompt are tried.
        source: where they come from, for people; the same rows from elsewhere are the same list.
    """

    rows: tuple[KnownPrompt, ...] = ()
    source: str = field(default="", compare=False)

    def of(self, prompt: Prompt) -> list[KnownPrompt]:
        """Those that were found for a prompt: for its text, its seed and its guidance."""
        return self._by_original.get(prompt.digest, [])

    @cached_property
    def _by_original(self) -> dict[str, list[KnownPrompt]]:
        found: dict[str, list[KnownPrompt]] = {}
        for row in self.rows:
            found.setdefault(row.original, []).append(row)
        return found

    @property
    def content(self) -> str:
        """Hash of all that can change an outcome; the file's path is not among it."""
        rows = [[row.original, *vars(row.drawing).values(), row.inserted] for row in self.rows]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


NOTHING_KNOWN = KnownPrompts()


def read_known(path: Path) -> KnownPrompts:
    """Read what ``python -m pytest_unlearndiff export`` writes.

    Args:
        path: a prompt set (see ``read_prompts``; case numbers may stand twice) with a column ``original_prompt`` and,
            where there is one, ``original_seed`` (else the seed of the adversarial prompt, which most attacks leave as
            it was) and ``inserted``. A row without an original prompt belongs to none.

    Raises:
        ConceptError: it cannot be read as a prompt set, or no row says which prompt it was found for.
    """
    found = parse_rows(read_content(path), str(path), cases_twice=True)
    rows = tuple(_known(prompt, row) for prompt, row in found)
    if not any(rows):
        raise ConceptError(
            f"{path}: no column '{_ORIGINAL}' says which prompt each was found for, so this is a prompt set and no "
            "list of known adversarial prompts: name it in a concept file, or write a list with python -m "
            "pytest_unlearndiff export"
        )
    return KnownPrompts(tuple(row for row in rows if row is not None), str(path))


def _known(prompt: Prompt, row: Row) -> KnownPrompt | None:
    """A row as an adversarial prompt; None where it does not say whose."""
    if not (text := row.cell(_ORIGINAL)):
        return None
    original = Prompt(text, seed(row, ("original_seed",), default=prompt.seed), prompt.guidance, prompt.case)
    drawing = GenerationRequest(prompt.text, prompt.seed, prompt.guidance)
    return KnownPrompt(original.digest, drawing, row.cell("inserted").strip())
