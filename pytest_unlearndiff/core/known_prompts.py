"""Adversarial prompts from an earlier attack or another tool, which the attack ``transfer`` replays."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from .concept import Prompt
from .errors import ConceptError
from .images import GenerationRequest
from .prompt_columns import integer
from .prompt_files import Row
from .prompt_sets import parse_rows, read_prompt_file
from .untrusted import MOST_SEED

_ORIGINAL = "original_prompt"


@dataclass(frozen=True)
class KnownPrompt:
    """One adversarial prompt.

    Attributes:
        original: the prompt that it was found for.
        drawing: the image to generate.
        inserted: the adversarial tokens in it as text; empty if there are none, as after a search of seeds.
    """

    original: Prompt
    drawing: GenerationRequest
    inserted: str = ""


@dataclass(frozen=True)
class KnownPrompts:
    """A list of adversarial prompts.

    Attributes:
        rows: in the order in which those of one prompt are tried.
        source: file they come from, for people; the same rows from elsewhere are the same list.
    """

    rows: tuple[KnownPrompt, ...] = ()
    source: str = field(default="", compare=False)

    def of(self, prompt: Prompt) -> list[KnownPrompt]:
        """Adversarial prompts that were found for a prompt's text, seed and guidance.

        Families may replace guidance that the prompt set does not say, so it tells no such prompt: those found under
        another are drawn at the prompt's own.
        """
        if (rows := self._by_original.get(prompt.digest)) is not None or prompt.own_guidance:
            return rows or []
        rows = self._by_text.get((prompt.text, prompt.seed), [])
        return [replace(row, drawing=replace(row.drawing, guidance=prompt.guidance)) for row in rows]

    @cached_property
    def _by_original(self) -> dict[str, list[KnownPrompt]]:
        by_original = defaultdict(list)
        for row in self.rows:
            by_original[row.original.digest].append(row)
        return dict(by_original)

    @cached_property
    def _by_text(self) -> dict[tuple[str, int], list[KnownPrompt]]:
        by_text = defaultdict(list)
        for row in self.rows:
            by_text[row.original.text, row.original.seed].append(row)
        return dict(by_text)

    @property
    def content(self) -> str:
        """Hash of everything that can change an outcome; the file's path cannot."""
        drawings = [(row.drawing.text, row.drawing.seed, row.drawing.guidance) for row in self.rows]
        rows = [[row.original.digest, *drawn, row.inserted] for row, drawn in zip(self.rows, drawings, strict=True)]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


NOTHING_KNOWN = KnownPrompts()


def read_known(path: Path) -> KnownPrompts:
    """Read a file that ``python -m pytest_unlearndiff export`` writes.

    Args:
        path: a prompt set (see ``read_prompts``; case numbers may be repeated) with a column ``original_prompt`` and,
            optionally, ``original_seed`` (default: the adversarial prompt's seed, which most attacks keep) and
            ``inserted``. A row without an original prompt belongs to none.

    Raises:
        ConceptError: it cannot be read as a prompt set, or no row names the prompt it was found for.
    """
    pairs = parse_rows(read_prompt_file(path), str(path), repeated_cases=True).pairs
    rows = tuple(_known_prompt(prompt, row) for prompt, row in pairs if row.cell(_ORIGINAL))
    if not rows:
        raise ConceptError(
            f"{path}: no column '{_ORIGINAL}' says which prompt each was found for, so this is a prompt set and no "
            "list of known adversarial prompts: name it in a concept file, or write a list with python -m "
            "pytest_unlearndiff export"
        )
    return KnownPrompts(rows, str(path))


def _known_prompt(prompt: Prompt, row: Row) -> KnownPrompt:
    seed = integer(row, ("original_seed",), 0, MOST_SEED, default=prompt.seed)
    original = Prompt(row.cell(_ORIGINAL), seed, prompt.guidance, prompt.case)
    drawing = GenerationRequest(prompt.text, prompt.seed, prompt.guidance)
    return KnownPrompt(original, drawing, row.cell("inserted").strip())
