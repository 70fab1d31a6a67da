"""Columns of a prompt set: which holds the prompts, seeds, guidance scales and case numbers."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from .concept import Prompt
from .errors import ConceptError
from .prompt_files import PROMPT, Row, Table
from .untrusted import MOST_CASE, MOST_SEED, hint, short_repr

# Compared without case and with blanks for underscores. Where several of one kind stand in a file, the first that is
# filled counts. The last of seeds and guidance scales are those of the I2P data set.
SEEDS = ("evaluation seed", "seed", "sd seed")
GUIDANCE = ("evaluation guidance", "guidance scale", "guidance", "sd guidance scale")
CASES = ("case number", "case num")
_OF_ATTACKS = ("adv prompt", "adversarial prompt", "sensitive prompt", "target prompt")
PROMPTS = ("prompt", "prompts", "text", "caption", "captions", *_OF_ATTACKS)
"""Names of the column of prompts: of ESD, UCE, I2P, COCO captions, MMA-Diffusion, Ring-A-Bell and others."""

_GUIDANCE = Decimal("7.5")
_PLACEHOLDER = re.compile(r"\{\w*\}")
_NEAR = 0.84
"""Likeness of a column's name to a known one, such as ``evalution_seed``, from which it is no name of its own."""


@dataclass(frozen=True)
class Columns:
    """Columns as somebody chose them, and the rows that count.

    Attributes:
        prompt: column of the prompts; None to look for one of a known name.
        seed: column of the seeds, or the seed of every row; None to look for it, and for the row's number if there is
            none.
        guidance: column of the guidance scales, or the scale of every row; None to look for it, and for 7.5.
        case: column of the case numbers; None to look for it, and for the row's number.
        header: whether the first line of a CSV file names its columns; without, each line is a prompt.
        where: allowed cells by column; other rows do not belong to the set.
        templates: texts with ``{}``, or a name in braces, for which each row's text stands in turn.
    """

    prompt: str | None = None
    seed: str | int | None = None
    guidance: str | float | None = None
    case: str | None = None
    header: bool = True
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    templates: tuple[str, ...] = ()

    def resolve(self, table: Table) -> ResolvedColumns:
        """Find the columns in a file.

        Raises:
            ConceptError: one that was chosen is not there, none or several may hold the prompts, or a name is almost
                that of a seed or guidance scale.
        """
        names = {_plain(column): column for column in reversed(table.columns)}
        for chosen in (self.prompt, self.seed, self.guidance, self.case, *self.where):
            if isinstance(chosen, str) and chosen not in table.columns:
                raise ConceptError(f"{table.name}: no column {short_repr(chosen)}: {hint(chosen, table.columns)}")
        prompt = self.prompt if self.prompt is not None else _find_prompts(table, names)
        seeds = (self.seed,) if isinstance(self.seed, str) else tuple(names[n] for n in SEEDS if n in names)
        scales = (self.guidance,) if isinstance(self.guidance, str) else tuple(names[n] for n in GUIDANCE if n in names)
        if not seeds and self.seed is None:
            _refuse_near(table, SEEDS, "seed")
        if not scales and self.guidance is None:
            _refuse_near(table, GUIDANCE, "guidance")
        cases = (self.case,) if self.case is not None else tuple(names[n] for n in CASES if n in names)
        return ResolvedColumns(
            prompt,
            seeds if not isinstance(self.seed, int) else (),
            scales if not isinstance(self.guidance, (int, float)) else (),
            cases if len(self.templates) < 2 else (),
            self.seed if isinstance(self.seed, int) else None,
            Decimal(str(self.guidance)) if isinstance(self.guidance, (int, float)) else _GUIDANCE,
            self.templates or ("{}",),
        )

    def select(self, table: Table) -> tuple[Row, ...]:
        """Return the rows that count.

        Raises:
            ConceptError: there are none.
        """
        rows = table.rows
        for column, allowed in self.where.items():
            cells = dict.fromkeys(row.cell(column) for row in rows)
            rows = tuple(row for row in rows if row.cell(column) in allowed)
            if not rows:
                raise ConceptError(
                    f"{table.name}: no row has {column}={short_repr(' or '.join(allowed))}: {hint(allowed[0], cells)}"
                )
        return rows


ANY_COLUMNS = Columns()
"""Columns of known names."""


@dataclass(frozen=True)
class ResolvedColumns:
    """Columns that are in a file; see ``Columns``.

    Attributes:
        prompt: column of the prompts.
        seeds, guidance, cases: columns, of which the first that is filled counts.
        seed: of every row; None for the row's number.
        scale: guidance scale of rows that have none.
        templates: at least one.
    """

    prompt: str
    seeds: tuple[str, ...]
    guidance: tuple[str, ...]
    cases: tuple[str, ...]
    seed: int | None
    scale: Decimal
    templates: tuple[str, ...]

    def prompt_of(self, row: Row, number: int) -> Prompt:
        """Read a row as a prompt.

        Args:
            row: the row.
            number: among rows and templates, which is the default of the seed and the case number.

        Raises:
            ConceptError: the text is empty, or a cell is not the number it should be.
        """
        text = row.cell(self.prompt)
        if not text.strip():
            raise ConceptError(f"{row.at}: empty {self.prompt}")
        template = self.templates[number % len(self.templates)]
        seed = number if self.seed is None else self.seed
        return Prompt(
            text=text if template == "{}" else _PLACEHOLDER.sub(lambda _: text.strip(), template),
            seed=integer(row, self.seeds, 0, MOST_SEED, default=seed),
            guidance=float(_number(row, self.guidance, default=self.scale)[1]),
            own_guidance=self.scale is not _GUIDANCE or any(map(row.cell, self.guidance)),
            case=integer(row, self.cases, -MOST_CASE, MOST_CASE, default=number),
        )


def has_placeholder(template: str) -> bool:
    """Tell whether a template has a place for a text."""
    return _PLACEHOLDER.search(template) is not None


def _plain(name: str) -> str:
    return name.strip().casefold().replace("_", " ")


def _find_prompts(table: Table, names: Mapping[str, str]) -> str:
    """Find the column of prompts: ``prompt``, or the only one of a known name.

    Raises:
        ConceptError: there is none, or several, such as prompts beside what an attack made of them.
    """
    candidates = [names[name] for name in PROMPTS if name in names]
    if PROMPT in table.columns and not any(name in names for name in _OF_ATTACKS):
        return PROMPT
    if len(candidates) == 1:
        return candidates[0]
    columns = short_repr([*table.columns], 300)
    if candidates:
        raise ConceptError(
            f"{table.name}: {' and '.join(map(short_repr, candidates))} may each hold the prompts: choose one, as in "
            f"prompts: {{file: ..., column: {candidates[0]}}}; the columns are {columns}"
        )
    if len(table.columns) == 1 and (separator := re.search(r"[;\t|]", table.columns[0])):
        raise ConceptError(
            f"{table.name}: its only column is {columns}, which {separator[0]!r} seems to separate: separate columns "
            "by commas, or by tabs in a file named *.tsv; or say header: false if the first line is a prompt"
        )
    near = difflib.get_close_matches(PROMPT, table.columns, n=1)
    remedy = f"did you mean {short_repr(near[0])}? Choose" if near else "choose"
    raise ConceptError(
        f"{table.name}: no column {PROMPT!r}; found {columns}: {remedy} one as in prompts: {{file: ..., column: "
        "NAME}, with a template if it holds nouns; or say header: false if the first line is a prompt"
    )


def _refuse_near(table: Table, names: tuple[str, ...], role: str) -> None:
    """Refuse a column whose name is almost a known one: with a number of its own, each row would be another image.

    Raises:
        ConceptError: there is one.
    """
    for column in table.columns:
        if near := difflib.get_close_matches(_plain(column), names, n=1, cutoff=_NEAR):
            known = near[0].replace(" ", "_")
            raise ConceptError(
                f"{table.name}: column {short_repr(column)} is not read: did you mean {known!r}? Rename it, or choose "
                f"it as in prompts: {{file: ..., {role}: {column}}}"
            )


def integer(row: Row, columns: tuple[str, ...], least: int, most: int, *, default: int) -> int:
    """Read the first of these columns that is filled as a whole number from ``least`` to ``most``.

    Raises:
        ConceptError: it is none.
    """
    column, value = _number(row, columns, default=Decimal(default))
    if value != value.to_integral_value():
        raise ConceptError(f"{row.at}: {column}={short_repr(str(value))} is not a whole number")
    if not least <= value <= most:
        raise ConceptError(f"{row.at}: {column}={value:.20g} must be a whole number from {least} to {most}")
    return int(value)


def _number(row: Row, columns: tuple[str, ...], default: Decimal) -> tuple[str, Decimal]:
    """Name the first of these columns that is filled, with its number; else none, with the default."""
    for column in columns:
        if cell := row.cell(column):
            try:
                value = Decimal(cell)
                if math.isfinite(float(value)):
                    return column, value
            except (ArithmeticError, ValueError):
                pass
            raise ConceptError(f"{row.at}: {column}={short_repr(cell)} is not a number")
    return "", default
